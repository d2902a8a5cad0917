"""What a call used, in buckets that never overlap.

OpenAI reports totals with overlapping breakdowns: cached, audio and image tokens are all part of
`prompt_tokens`, and a cached token may be an image token too. A bill needs each token exactly once.
"""

from collections.abc import Mapping
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from billing.pricing.counts import NO_COUNTS, AbsurdUsage, Counts

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
_buckets = attrgetter(*BUCKETS)


class Usage(Struct, frozen=True, kw_only=True):
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

    # What is sold by other units; any mapping will do to build one.
    counts: Mapping[str, int] = NO_COUNTS

    def __post_init__(self) -> None:
        # Said one by one, not in a loop: every call that is charged comes by here.
        text, audio, image = self.input_tokens, self.input_audio_tokens, self.input_image_tokens
        cached_text, cached_audio = self.cached_input_tokens, self.cached_input_audio_tokens
        cached_image, written = self.cached_input_image_tokens, self.cache_write_tokens
        cached = cached_text + cached_audio + cached_image
        if cached + text + audio + image + written != self.prompt_tokens:
            raise AbsurdUsage("the input buckets do not add up to prompt_tokens")
        output, spoken = self.output_tokens, self.output_audio_tokens
        drawn = self.output_image_tokens
        if output + spoken + drawn != self.completion_tokens:
            raise AbsurdUsage("the output buckets do not add up to completion_tokens")
        if cached != self.cached_tokens:
            raise AbsurdUsage("the cached buckets do not add up to cached_tokens")
        if not 0 <= self.reasoning_tokens <= self.completion_tokens:
            raise AbsurdUsage("reasoning_tokens exceed completion_tokens")
        # The sums above would hide a negative bucket behind a larger one. One negative number
        # among them makes all of them together, bit by bit, negative.
        inputs = text | audio | image | cached_text | cached_audio | cached_image | written
        if inputs | output | spoken | drawn < 0:
            raise AbsurdUsage("a bucket is negative")
        if self.counts is not NO_COUNTS:
            force_setattr(self, "counts", Counts(self.counts) or NO_COUNTS)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def units(self) -> dict[str, int]:
        """The billed buckets that are not empty, and the counts."""
        units = {
            "input_tokens": self.input_tokens,
            "cached_input_tokens": self.cached_input_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "output_tokens": self.output_tokens,
        }
        if sum(units.values()) != self.total_tokens:  # Else it is text alone, as nearly always.
            units = dict(zip(BUCKETS, _buckets(self), strict=True))
        units = {name: count for name, count in units.items() if count}
        if self.counts is not NO_COUNTS:
            units.update(self.counts)
        return units


def with_counts(usage: Usage, counts: Mapping[str, int]) -> Usage:
    """The usage and these units more; what is zero adds nothing."""
    total = dict(usage.counts)
    for name, count in Counts(counts).items():
        total[name] = total.get(name, 0) + count
    return replace(usage, counts=total)
