"""Reading the `usage` object of each kind of reply into disjoint units.

Every reader raises AbsurdUsage for whatever cannot be true: a count that is no whole number in
0...MAX_TOKENS, a part larger than its whole, or totals that contradict each other. Tokens that a
breakdown does not name are of the endpoint's own kind: text in chats, images from an image model,
audio from a voice. Numbers with a fraction have to arrive as Decimal: no float is let in.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from billing.pricing.counts import MAX_UNITS, NO_COUNTS, AbsurdUsage
from billing.pricing.splitting import (
    WHOLE,
    holds_only,
    input_buckets,
    output_buckets,
    part,
    required,
    section,
)
from billing.pricing.units import INPUT_AUDIO
from billing.pricing.usage import Usage

_KINDS = ("text_tokens", "audio_tokens", "image_tokens")


def usage_from_openai(raw: object, *, with_completion: bool = True) -> Usage:
    """Read the usage of a chat or completion reply; of an embedding reply, without a completion."""
    usage = section(raw, WHOLE)
    prompt_tokens = required(usage, "prompt_tokens")
    completion_tokens = required(usage, "completion_tokens") if with_completion else 0
    total_is_given = usage.get("total_tokens") is not None
    if total_is_given and required(usage, "total_tokens") != prompt_tokens + completion_tokens:
        raise AbsurdUsage("total_tokens are not prompt_tokens + completion_tokens")
    return _usage(
        prompt_tokens,
        section(usage.get("prompt_tokens_details"), "prompt_tokens_details"),
        completion_tokens,
        section(usage.get("completion_tokens_details"), "completion_tokens_details"),
    )


def usage_from_embeddings(raw: object) -> Usage:
    """Read the usage of an embedding reply, which has a prompt only."""
    return usage_from_openai(raw, with_completion=False)


def usage_from_responses(raw: object) -> Usage:
    """Read the usage of a response. The calls of tools are not in it: see with_counts."""
    usage, input_tokens, output_tokens = _totals(raw)
    return _usage(
        input_tokens,
        section(usage.get("input_tokens_details"), "input_tokens_details"),
        output_tokens,
        section(usage.get("output_tokens_details"), "output_tokens_details"),
    )


def usage_from_images(raw: object, *, images: int = 0, has_input_images: bool = False) -> Usage:
    """Read the usage of an image reply or of the event that completes an image.

    `images` is how many were delivered: with any, an output of nothing is no usage. Where a
    breakdown is missing, output is images, and so is the input of a request that sent images.
    """
    usage, input_tokens, output_tokens = _totals(raw)
    if images and not output_tokens:
        raise AbsurdUsage("images came and output_tokens are 0")
    given = section(usage.get("input_tokens_details"), "input_tokens_details")
    if has_input_images:
        given = _completed(given, input_tokens, kind="image_tokens")
    output = section(usage.get("output_tokens_details"), "output_tokens_details")
    output = _completed(output, output_tokens, kind="image_tokens")
    return _usage(input_tokens, given, output_tokens, output)


def usage_from_speech(raw: object) -> Usage:
    """Read the usage of the event that completes speech: text in, audio out."""
    usage, input_tokens, output_tokens = _totals(raw)
    output = section(usage.get("output_tokens_details"), "output_tokens_details")
    output = _completed(output, output_tokens, kind="audio_tokens")
    given = section(usage.get("input_tokens_details"), "input_tokens_details")
    return _usage(input_tokens, given, output_tokens, output)


def usage_from_transcription(raw: object) -> Usage:
    """Read the usage of a transcription or translation: tokens, or the audio's duration."""
    usage = section(raw, WHOLE)
    if usage.get("type") == "duration":
        return Usage(counts={INPUT_AUDIO: milliseconds(usage.get("seconds"))})
    usage, input_tokens, output_tokens = _totals(raw)
    # Upstream spells the member in the singular here, and only here.
    name = "input_token_details" if "input_token_details" in usage else "input_tokens_details"
    given = _completed(section(usage.get(name), name), input_tokens, kind="audio_tokens")
    output = section(usage.get("output_tokens_details"), "output_tokens_details")
    return _usage(input_tokens, given, output_tokens, output)


def milliseconds(seconds: object) -> int:
    """A duration in whole milliseconds, rounded up; AbsurdUsage for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | Decimal):
        raise AbsurdUsage("seconds are no number, or were read as a float")
    exact = Decimal(seconds)
    if not exact.is_finite() or not 0 <= exact <= MAX_UNITS // 1000:
        raise AbsurdUsage("seconds are out of range")
    return int((exact * 1000).to_integral_value(rounding=ROUND_CEILING))


def _totals(raw: object) -> tuple[Mapping[str, Any], int, int]:
    """The usage, its input_tokens and its output_tokens."""
    usage = section(raw, WHOLE)
    input_tokens, output_tokens = required(usage, "input_tokens"), required(usage, "output_tokens")
    total_is_given = usage.get("total_tokens") is not None
    if total_is_given and required(usage, "total_tokens") != input_tokens + output_tokens:
        raise AbsurdUsage("total_tokens are not input_tokens + output_tokens")
    return usage, input_tokens, output_tokens


def _completed(details: Mapping[str, Any], whole: int, *, kind: str) -> Mapping[str, Any]:
    """The breakdown in which this kind has all tokens that no other kind claims."""
    others = sum(part(details, name, whole) for name in _KINDS if name != kind)
    if others + part(details, kind, whole) > whole:
        raise AbsurdUsage("the kinds of tokens exceed their total")
    return {**details, kind: whole - others}


def _usage(
    prompt_tokens: int,
    prompt: Mapping[str, Any],
    completion_tokens: int,
    completion: Mapping[str, Any],
) -> Usage:
    cached_tokens = part(prompt, "cached_tokens", prompt_tokens)
    reasoning_tokens = part(completion, "reasoning_tokens", completion_tokens)
    if holds_only(prompt, "cached_tokens") and holds_only(completion, "reasoning_tokens"):
        # Nearly every call is plain text.
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=cached_tokens,
            reasoning_tokens=reasoning_tokens,
            input_tokens=prompt_tokens - cached_tokens,
            cached_input_tokens=cached_tokens,
            output_tokens=completion_tokens,
        )
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
        reasoning_tokens=reasoning_tokens,
        counts=NO_COUNTS,
        **input_buckets(prompt, prompt_tokens),
        **output_buckets(completion, completion_tokens),
    )
