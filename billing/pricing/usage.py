"""What a call used, in buckets that never overlap.

OpenAI reports totals with overlapping breakdowns: cached, audio and image tokens are all part of
`prompt_tokens`, and a cached token may be an image token too. A bill needs each token exactly once.

Note [Splitting the prompt]. Text is what is neither audio nor image. Tokens read from the cache are
taken first: where upstream names their modality they come out of that one, the others out of text,
then image, then audio, never more than is left there. Tokens written to the cache are taken from
what remains, in the same order. What then is left of each modality was read fresh.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 10_000_000  # More than any call can use: beyond it, upstream's figure is no figure.

INPUT_BUCKETS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "cached_input_audio_tokens",
    "input_image_tokens",
    "cached_input_image_tokens",
)
OUTPUT_BUCKETS = ("output_tokens", "output_audio_tokens", "output_image_tokens")
BUCKETS = INPUT_BUCKETS + OUTPUT_BUCKETS

_KNOWN_KEYS: Mapping[tuple[str, ...], frozenset[str]] = {
    (): frozenset({"prompt_tokens", "completion_tokens", "total_tokens"}),
    ("prompt_tokens_details",): frozenset(
        {"cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "text_tokens"}
    ),
    ("prompt_tokens_details", "cached_tokens_details"): frozenset(
        {"audio_tokens", "image_tokens", "text_tokens"}
    ),
    ("completion_tokens_details",): frozenset(
        {
            "reasoning_tokens",
            "audio_tokens",
            "image_tokens",
            "text_tokens",
            "accepted_prediction_tokens",
            "rejected_prediction_tokens",
        }
    ),
}


class AbsurdUsage(ValueError):
    """The reported usage cannot be true; `reason` says why. Such a call is billed by estimate."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Billed buckets, then the totals as upstream reports them, which are not billed again."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    cached_input_audio_tokens: int = 0
    input_image_tokens: int = 0
    cached_input_image_tokens: int = 0
    output_tokens: int = 0  # Text, reasoning and rejected predictions.
    output_audio_tokens: int = 0
    output_image_tokens: int = 0

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        cached = (
            self.cached_input_tokens
            + self.cached_input_audio_tokens
            + self.cached_input_image_tokens
        )
        fresh = self.input_tokens + self.input_audio_tokens + self.input_image_tokens
        if cached + fresh + self.cache_write_tokens != self.prompt_tokens:
            raise AbsurdUsage("the input buckets do not add up to prompt_tokens")
        output = self.output_tokens + self.output_audio_tokens + self.output_image_tokens
        if output != self.completion_tokens:
            raise AbsurdUsage("the output buckets do not add up to completion_tokens")
        if cached != self.cached_tokens:
            raise AbsurdUsage("the cached buckets do not add up to cached_tokens")
        if not 0 <= self.reasoning_tokens <= self.completion_tokens:
            raise AbsurdUsage("reasoning_tokens exceed completion_tokens")
        # The sums above would hide a negative bucket behind a larger one.
        smallest = min(
            self.input_tokens,
            self.cached_input_tokens,
            self.cache_write_tokens,
            self.input_audio_tokens,
            self.cached_input_audio_tokens,
            self.input_image_tokens,
            self.cached_input_image_tokens,
            self.output_tokens,
            self.output_audio_tokens,
            self.output_image_tokens,
        )
        if smallest < 0:
            raise AbsurdUsage("a bucket is negative")

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def units(self) -> dict[str, int]:
        """The billed buckets that are not empty."""
        return {name: count for name in BUCKETS if (count := getattr(self, name))}


def usage_from_openai(raw: object, *, with_completion: bool = True) -> Usage:
    """Read the `usage` object of a chat or completion reply; of an embedding reply, without one.

    Raises AbsurdUsage for whatever cannot be true: a count that is no whole number in
    0...MAX_TOKENS, a part larger than its whole, or totals that contradict each other.
    """
    usage = _section(raw, "usage")
    prompt_tokens = _required(usage, "prompt_tokens")
    completion_tokens = _required(usage, "completion_tokens") if with_completion else 0
    total_is_given = usage.get("total_tokens") is not None
    if total_is_given and _required(usage, "total_tokens") != prompt_tokens + completion_tokens:
        raise AbsurdUsage("total_tokens are not prompt_tokens + completion_tokens")
    prompt = _section(usage.get("prompt_tokens_details"), "prompt_tokens_details")
    completion = _section(usage.get("completion_tokens_details"), "completion_tokens_details")
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=_part(prompt, "cached_tokens", prompt_tokens),
        reasoning_tokens=_part(completion, "reasoning_tokens", completion_tokens),
        **_input_buckets(prompt, prompt_tokens),
        **_output_buckets(completion, completion_tokens),
    )


def unknown_usage_keys(raw: object) -> tuple[str, ...]:
    """The paths of token counts that no meter knows yet, for the operator's attention.

    They cost nothing extra meanwhile: as part of a total they are billed at that total's rate.
    """
    found: list[str] = []
    for section, known in _KNOWN_KEYS.items():
        counts: Any = raw
        for name in section:
            counts = counts.get(name) if isinstance(counts, Mapping) else None
        if isinstance(counts, Mapping):
            found += [
                ".".join((*section, key))
                for key in counts.keys() - known
                if isinstance(key, str) and key.endswith("_tokens") and counts[key]
            ]
    return tuple(sorted(found))


def _input_buckets(details: Mapping[str, Any], prompt_tokens: int) -> dict[str, int]:
    """Split the prompt; see Note [Splitting the prompt]."""
    cached = _part(details, "cached_tokens", prompt_tokens)
    written = _part(details, "cache_write_tokens", prompt_tokens)
    audio = _part(details, "audio_tokens", prompt_tokens)
    image = _part(details, "image_tokens", prompt_tokens)
    _part(details, "text_tokens", prompt_tokens)
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
    parts = _section(details.get("cached_tokens_details"), "cached_tokens_details")
    named_audio = _part(parts, "audio_tokens", audio)
    named_image = _part(parts, "image_tokens", image)
    _part(parts, "text_tokens", cached)
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


def _output_buckets(details: Mapping[str, Any], completion_tokens: int) -> dict[str, int]:
    audio = _part(details, "audio_tokens", completion_tokens)
    image = _part(details, "image_tokens", completion_tokens)
    for informational in ("text_tokens", "accepted_prediction_tokens"):
        _part(details, informational, completion_tokens)
    # Rejected predictions are billed as output: the total contains them already.
    _part(details, "rejected_prediction_tokens", completion_tokens)
    if audio + image > completion_tokens:
        raise AbsurdUsage("audio_tokens and image_tokens exceed completion_tokens")
    return {
        "output_tokens": completion_tokens - audio - image,
        "output_audio_tokens": audio,
        "output_image_tokens": image,
    }


def _section(value: object, name: str) -> Mapping[str, Any]:
    if value is None and name != "usage":
        return {}
    if not isinstance(value, Mapping):
        raise AbsurdUsage(f"{name} is no object")
    return value


def _required(counts: Mapping[str, Any], name: str) -> int:
    count = counts.get(name)
    if count is None:
        raise AbsurdUsage(f"{name} are missing")
    return _part(counts, name, MAX_TOKENS)


def _part(counts: Mapping[str, Any], name: str, whole: int) -> int:
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
