"""Splitting upstream's overlapping token counts into buckets that do not overlap.

Note [Splitting the prompt]. Text is what is neither audio nor image. Tokens read from the cache are
taken first: where upstream names their modality they come out of that one, the others out of text,
then image, then audio, never more than is left there. Tokens written to the cache are taken from
what remains, in the same order. What then is left of each modality was read fresh.
"""

from collections.abc import Mapping
from typing import Any

from billing.pricing.counts import AbsurdUsage
from billing.pricing.usage import MAX_TOKENS

WHOLE = "usage"  # The object itself has to be there; its breakdowns may be missing.


def input_buckets(details: Mapping[str, Any], prompt_tokens: int) -> dict[str, int]:
    """Split the prompt; see Note [Splitting the prompt]."""
    cached = part(details, "cached_tokens", prompt_tokens)
    written = part(details, "cache_write_tokens", prompt_tokens)
    audio = part(details, "audio_tokens", prompt_tokens)
    image = part(details, "image_tokens", prompt_tokens)
    part(details, "text_tokens", prompt_tokens)
    if audio + image > prompt_tokens:
        raise AbsurdUsage("audio_tokens and image_tokens exceed prompt_tokens")
    text = prompt_tokens - audio - image
    if not cached and not written and details.get("cached_tokens_details") is None:
        return {"input_tokens": text, "input_audio_tokens": audio, "input_image_tokens": image}

    named_audio, named_image = _cached_parts(details, cached=cached, audio=audio, image=image)
    image, audio = image - named_image, audio - named_audio
    cached_text, cached_image, cached_audio = _drawn(
        cached - named_audio - named_image, text, image, audio
    )
    text, image, audio = text - cached_text, image - cached_image, audio - cached_audio
    written_text, written_image, written_audio = _drawn(written, text, image, audio)
    return {
        "input_tokens": text - written_text,
        "cached_input_tokens": cached_text,
        "cache_write_tokens": written_text + written_image + written_audio,
        "input_audio_tokens": audio - written_audio,
        "cached_input_audio_tokens": named_audio + cached_audio,
        "input_image_tokens": image - written_image,
        "cached_input_image_tokens": named_image + cached_image,
    }


def _cached_parts(
    details: Mapping[str, Any], *, cached: int, audio: int, image: int
) -> tuple[int, int]:
    """The cached tokens that upstream names as audio and as image."""
    parts = section(details.get("cached_tokens_details"), "cached_tokens_details")
    named_audio = part(parts, "audio_tokens", audio)
    named_image = part(parts, "image_tokens", image)
    part(parts, "text_tokens", cached)
    if named_audio + named_image > cached:
        raise AbsurdUsage("the parts of cached_tokens exceed it")
    return named_audio, named_image


def _drawn(amount: int, *stocks: int) -> list[int]:
    """What is taken from each stock, in this order, until the amount or the stocks are used up."""
    drawn = []
    for stock in stocks:
        part = min(amount, stock)
        drawn.append(part)
        amount -= part
    return drawn


def output_buckets(details: Mapping[str, Any], completion_tokens: int) -> dict[str, int]:
    audio = part(details, "audio_tokens", completion_tokens)
    image = part(details, "image_tokens", completion_tokens)
    for informational in ("text_tokens", "accepted_prediction_tokens"):
        part(details, informational, completion_tokens)
    # Rejected predictions are billed as output: the total contains them already.
    part(details, "rejected_prediction_tokens", completion_tokens)
    if audio + image > completion_tokens:
        raise AbsurdUsage("audio_tokens and image_tokens exceed completion_tokens")
    return {
        "output_tokens": completion_tokens - audio - image,
        "output_audio_tokens": audio,
        "output_image_tokens": image,
    }


def section(value: object, name: str) -> Mapping[str, Any]:
    if value is None and name != WHOLE:
        return {}
    if type(value) is not dict and not isinstance(value, Mapping):
        raise AbsurdUsage(f"{name} is no object")
    return value


def holds_only(counts: Mapping[str, Any], name: str) -> bool:
    """Whether all else that is counted there is zero."""
    for key, count in counts.items():
        if key != name and count is not None and (type(count) is not int or count):
            return False
    return True


def required(counts: Mapping[str, Any], name: str) -> int:
    count = counts.get(name)
    if count is None:
        raise AbsurdUsage(f"{name} are missing")
    return part(counts, name, MAX_TOKENS)


def part(counts: Mapping[str, Any], name: str, whole: int) -> int:
    """Read a count that may be absent and may not exceed its whole."""
    count = counts.get(name)
    if count is None:
        return 0
    # True is an int to Python, and 12.0 would make everything after it a float.
    if type(count) is not int or count < 0:
        raise AbsurdUsage(f"{name} are no count of tokens")
    if count > whole:
        raise AbsurdUsage(f"{name} exceed what they are part of")
    return count
