"""How many tokens a call is reported to have used."""

from collections.abc import Iterator
from typing import Any

import msgspec

from relay.simulator.answers import Choice
from relay.simulator.knobs import Knobs
from relay.simulator.requests import ChatRequest, Message, Part
from relay.simulator.streams import Usage
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


def usage_make(request: ChatRequest, *, choices: tuple[Choice, ...], tokenizer: Tokenizer) -> Usage:
    knobs = request.knobs
    prompt = given(knobs.prompt_tokens, prompt_tokens(request, tokenizer=tokenizer))
    reasoning = knobs.reasoning_tokens or 0
    spoken = sum(choice.tokens for choice in choices)
    completion = given(knobs.completion_tokens, spoken + reasoning)
    counted = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": given(knobs.total_tokens, prompt + completion),
        "prompt_tokens_details": _prompt_details(request),
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": knobs.output_audio_tokens or 0,
            "accepted_prediction_tokens": knobs.accepted_prediction_tokens or 0,
            "rejected_prediction_tokens": knobs.rejected_prediction_tokens or 0,
        },
    }
    return usage_reported(counted, knobs=knobs)


def usage_reported(counted: dict[str, Any], *, knobs: Knobs) -> Usage:
    """The counts, or what the knobs put in their place."""
    if knobs.usage:
        return knobs.usage
    if knobs.fault == "absurd_usage":
        return _flat(counted, each=-1)
    return _merged(counted, knobs.usage_more or {})


def usage_of_ones(usage: Usage) -> Usage:
    """One of everything that the usage counts."""
    if isinstance(usage, msgspec.Raw):
        return {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return _flat(usage, each=1)


def usage_doubled(usage: Usage) -> Usage:
    """The usage with every count doubled, or itself where it was given verbatim."""
    if isinstance(usage, msgspec.Raw):
        return usage
    return {key: _doubled(value) for key, value in usage.items()}


def _doubled(value: Any) -> Any:
    if isinstance(value, dict):
        return usage_doubled(value)
    return 2 * value if isinstance(value, int | float) else value


def _flat(counted: dict[str, Any], *, each: int) -> dict[str, Any]:
    """The counts of the first level, each the same number, and their right total."""
    flat: dict[str, Any] = {key: value for key, value in counted.items() if isinstance(value, str)}
    parts = [key for key, value in counted.items() if isinstance(value, int | float)]
    flat |= dict.fromkeys(parts, each)
    if "total_tokens" in flat:
        flat["total_tokens"] = each * (len(parts) - 1)
    return flat


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return first | {
        key: _merged(first[key], value)
        if isinstance(value, dict) and isinstance(first.get(key), dict)
        else value
        for key, value in second.items()
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
        "audio_tokens": given(knobs.audio_tokens, heard),
    }
    for name in ("cache_write_tokens", "image_tokens"):
        # OpenAI leaves these out where they do not apply.
        if (count := getattr(knobs, name)) is not None:
            details[name] = count
    return details


def given(override: int | None, counted: int) -> int:
    return counted if override is None else override
