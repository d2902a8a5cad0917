"""How many tokens a call is reported to have used."""

from collections.abc import Iterator
from typing import Any

import msgspec

from relay.simulator.answers import Choice
from relay.simulator.requests import ChatRequest, Message, Part
from relay.simulator.tokens import Tokenizer

# OpenAI's published formula for chat prompts.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_NAME = 1
TOKENS_TO_PRIME = 3
# Fixed prices of what the simulator cannot look into.
TOKENS_PER_IMAGE = 765
TOKENS_PER_LOW_IMAGE = 85
TOKENS_PER_AUDIO = 250
TOKENS_PER_FILE = 1_000

ABSURD = {"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -2}


def usage_make(
    request: ChatRequest, *, choices: tuple[Choice, ...], tokenizer: Tokenizer
) -> dict[str, Any] | msgspec.Raw:
    knobs = request.knobs
    if knobs.usage:
        return knobs.usage
    if knobs.fault == "absurd_usage":
        return dict(ABSURD)
    prompt = _given(knobs.prompt_tokens, prompt_tokens(request, tokenizer=tokenizer))
    reasoning = knobs.reasoning_tokens or 0
    spoken = sum(choice.tokens for choice in choices)
    completion = _given(knobs.completion_tokens, spoken + reasoning)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": _given(knobs.total_tokens, prompt + completion),
        "prompt_tokens_details": _prompt_details(request),
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": knobs.output_audio_tokens or 0,
            "accepted_prediction_tokens": knobs.accepted_prediction_tokens or 0,
            "rejected_prediction_tokens": knobs.rejected_prediction_tokens or 0,
        },
    }


def usage_doubled(usage: dict[str, Any] | msgspec.Raw) -> dict[str, Any] | msgspec.Raw:
    """The usage with every count doubled, or itself where it was given verbatim."""
    if isinstance(usage, msgspec.Raw):
        return usage
    return {
        key: usage_doubled(value) if isinstance(value, dict) else 2 * value
        for key, value in usage.items()
    }


def prompt_tokens(request: ChatRequest, *, tokenizer: Tokenizer) -> int:
    total = TOKENS_TO_PRIME + tokenizer.count_all(_prompt_strings(request))
    for message in request.conversation:
        total += TOKENS_PER_MESSAGE
        if message.name is not None:
            total += TOKENS_PER_NAME
        if isinstance(message.content, list):
            total += sum(map(_part_tokens, message.content))
    return total


def _prompt_strings(request: ChatRequest) -> Iterator[str]:
    for message in request.conversation:
        yield from _strings(message)
    form = request.response_format
    schema = form.json_schema if form is not None else None
    for definition in (request.tools, request.functions, schema):
        if definition:
            yield msgspec.json.encode(definition).decode()


def _strings(message: Message) -> list[str]:
    strings = [message.role, *message.texts()]
    strings += [text for text in (message.name, message.refusal, message.tool_call_id) if text]
    for call in message.tool_calls or ():
        if call.function is not None:
            strings += [call.function.name, call.function.arguments]
        if call.custom is not None:
            strings += [call.custom.name, call.custom.input]
    if message.function_call is not None:
        strings += [message.function_call.name, message.function_call.arguments]
    return strings


def _part_tokens(part: Part) -> int:
    if part.type == "image_url":
        low = (part.image_url or {}).get("detail") == "low"
        return TOKENS_PER_LOW_IMAGE if low else TOKENS_PER_IMAGE
    return {"input_audio": TOKENS_PER_AUDIO, "file": TOKENS_PER_FILE}.get(part.type, 0)


def _prompt_details(request: ChatRequest) -> dict[str, int]:
    knobs = request.knobs
    heard = TOKENS_PER_AUDIO * sum(
        part.type == "input_audio"
        for message in request.conversation
        if isinstance(message.content, list)
        for part in message.content
    )
    details = {
        "cached_tokens": knobs.cached_tokens or 0,
        "audio_tokens": _given(knobs.audio_tokens, heard),
    }
    for name in ("cache_write_tokens", "image_tokens"):
        # OpenAI leaves these out where they do not apply.
        if (count := getattr(knobs, name)) is not None:
            details[name] = count
    return details


def _given(override: int | None, counted: int) -> int:
    return counted if override is None else override
