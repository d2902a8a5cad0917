"""The usage of plain text, read in one step: nearly every call has no other."""

from typing import Annotated, Final

from msgspec import Meta, Struct, ValidationError, convert

from billing.pricing.usage import MAX_TOKENS, Usage

_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
_Nothing = Annotated[int, Meta(ge=0, le=0)] | None


class _Prompt(Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count | None = 0
    audio_tokens: _Nothing = 0
    image_tokens: _Nothing = 0
    cache_write_tokens: _Nothing = 0


class _Completion(Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Count | None = 0
    audio_tokens: _Nothing = 0
    image_tokens: _Nothing = 0
    accepted_prediction_tokens: _Nothing = 0
    rejected_prediction_tokens: _Nothing = 0


class _Chat(Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count | None = None
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None


_NO_PROMPT: Final = _Prompt()
_NO_COMPLETION: Final = _Completion()


def plain_usage(raw: object) -> Usage | None:
    """What a chat reply reports if that is text alone, and every count in it is known.

    None says nothing about it: `usage_from_openai` and `unknown_usage_keys` have to look.
    """
    try:
        told = convert(raw, _Chat)
    except ValidationError:
        return None
    prompt, completion = told.prompt_tokens, told.completion_tokens
    cached = (told.prompt_tokens_details or _NO_PROMPT).cached_tokens or 0
    reasoning = (told.completion_tokens_details or _NO_COMPLETION).reasoning_tokens or 0
    total = prompt + completion if told.total_tokens is None else told.total_tokens
    if cached > prompt or reasoning > completion or total != prompt + completion:
        return None
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
        input_tokens=prompt - cached,
        cached_input_tokens=cached,
        output_tokens=completion,
    )
