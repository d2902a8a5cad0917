"""How much audio or images a call can use at most, before it is made.

Note [What bounds media]. Upstream publishes prices and limits of media, but few sizes in tokens.
These bounds are what was published or measured, rounded up. Where somebody still gets beyond one,
the charge is what upstream reports and the record says `bound_exceeded`.

- Audio is as long as its frames, packets or samples where these can be counted (WAV, MP3, AAC,
  Opus in WebM or Ogg). Else it is at most what its bytes hold at the lowest bit rate that speech
  codecs are used with, or what its container says if that is more: never less, since anybody can
  write a time into a header.
  Silence may be denser. Where it says so behind what was held for, upstream does not get its end.
- A transcript has fewer tokens a second than anybody speaks; audio itself is 10 tokens a second.
- A voice makes 20 tokens a second. The slowest languages have 4 characters a second.
- An image is made of q x q patches, fewer if it is not square, times a factor that grows with its
  pixels; of the sizes that older models know, none has more tokens than this says.
- An image that is sent in high fidelity costs as much as the largest photo that a model reads.
- Each partial image of a stream costs 100 tokens. Every image of several pays for the whole prompt.
"""

from collections.abc import Iterator, Mapping

from billing.pricing.counts import MAX_UNITS
from billing.pricing.rates import Rate
from billing.pricing.units import image_parts, image_sides

MAX_AUDIO_BYTES = 25 * 2**20
LOWEST_AUDIO_BITS_PER_SECOND = 6_000
AUDIO_TOKENS_PER_SECOND = 20
TRANSCRIPT_TOKENS_PER_SECOND = 20

SPEECH_TOKENS = 500
SPEECH_TOKENS_PER_CHARACTER = 10
SPEECH_MILLISECONDS = 10_000
SPEECH_MILLISECONDS_PER_CHARACTER = 400

PARTIAL_IMAGE_TOKENS = 100
INPUT_IMAGE_TOKENS = 15_000
IMAGE_TEXT_TOKENS = 2_000  # What a model writes to itself about one image.

_LARGEST_PIXELS = 3840 * 2160
_PATCHES = {"low": 32 * 32, "medium": 48 * 48, "high": 96 * 96}
_UNKNOWN_PATCHES = 2 * 96 * 96
_PIXELS_OFFSET = 2_000_000
_PIXELS_SCALE = 4_000_000


def audio_bound_milliseconds(
    file_bytes: int, *, lowest_bits_per_second: int = LOWEST_AUDIO_BITS_PER_SECOND
) -> int:
    """The longest that audio of so many bytes lasts, see Note [What bounds media]."""
    return min(-(-file_bytes * 8 * 1000 // lowest_bits_per_second), MAX_UNITS)


def transcription_bound_tokens(milliseconds: int) -> tuple[int, int]:
    """The most tokens of the audio, and of its transcript."""
    seconds = -(-milliseconds // 1000)
    return seconds * AUDIO_TOKENS_PER_SECOND, seconds * TRANSCRIPT_TOKENS_PER_SECOND


def speech_bound_tokens(characters: int) -> int:
    """The most tokens of a voice that says so many characters."""
    return SPEECH_TOKENS + characters * SPEECH_TOKENS_PER_CHARACTER


def speech_bound_milliseconds(characters: int) -> int:
    return SPEECH_MILLISECONDS + characters * SPEECH_MILLISECONDS_PER_CHARACTER


def image_bound_tokens(
    quality: str | None, size: str | None, *, largest_pixels: int = _LARGEST_PIXELS
) -> int:
    """The most output tokens of one image, what the model writes to itself included.

    `auto` and None are what may become the dearest: high quality, and the largest size.
    """
    pixels = _pixels(size) or largest_pixels
    patches = _PATCHES.get(_chosen(quality) or "high", _UNKNOWN_PATCHES)
    return -(-patches * (_PIXELS_OFFSET + pixels) // _PIXELS_SCALE) + IMAGE_TEXT_TOKENS


def largest_pixels(unit_rates: Mapping[str, Rate]) -> int:
    """Of the sizes that the model has prices for; of any model, if it has none."""
    sizes = (_pixels(parts[1]) for name in unit_rates if (parts := image_parts(name)))
    return max(filter(None, sizes), default=_LARGEST_PIXELS)


def matching_images(
    quality: str | None, size: str | None, unit_rates: Mapping[str, Rate]
) -> Iterator[str]:
    """The priced units that an image of this quality and size can turn out to be.

    `auto` and None match any. None that matches means: the model is not sold like this.
    """
    wanted = _chosen(quality), _chosen(size)
    for name in unit_rates:
        parts = image_parts(name)
        if parts and all(want in {None, has} for want, has in zip(wanted, parts, strict=True)):
            yield name


def _chosen(option: str | None) -> str | None:
    return None if option is None or option == "auto" else option


def _pixels(size: str | None) -> int | None:
    sides = image_sides(size)
    return sides[0] * sides[1] if sides else None
