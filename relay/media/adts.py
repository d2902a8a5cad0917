"""AAC in ADTS frames, the way it is streamed: every frame is counted."""

from relay.media.source import EndOfSound, Parsing, Source, milliseconds

_RATES = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
    7_350,
)
_HEAD = 7
_BLOCK_SAMPLES = 1_024


def parse_adts(source: Source) -> Parsing:
    samples, rate = 0, 0
    try:
        while True:
            head = yield from source.read(_HEAD)
            size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
            place = head[2] >> 2 & 15
            if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or size < _HEAD or place >= len(_RATES):  # noqa: PLR2004 - the mark, and no layer.
                return None  # A decoder may find frames again that would not be counted here.
            rate = rate or _RATES[place]
            samples += _BLOCK_SAMPLES * (1 + (head[6] & 3))
            source.skip(size - _HEAD)
            source.counted_bytes = source.position
    except EndOfSound:
        pass
    return milliseconds(samples, per_second=rate)
