"""MPEG audio (MP3, MPGA): every frame is counted, whatever a header says about their number."""

from relay.media.source import EndOfSound, Parsing, Source

# By the two bits of the version and the two of the layer: samples of a frame.
_SAMPLES = {
    (3, 3): 384,
    (3, 2): 1152,
    (3, 1): 1152,
    (2, 3): 384,
    (2, 2): 1152,
    (2, 1): 576,
    (0, 3): 384,
    (0, 2): 1152,
    (0, 1): 576,
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KILOBITS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HEAD = 4
# A frame that only tells about the others has its mark in here.
_MARKED_BYTES = 48
_MARKS = (b"Xing", b"Info", b"VBRI")
_LEAST_FRAMES = 2
# Where more than this is no frame, decoders may find frames again that would not be counted here.
_MOST_SKIPPED_BYTES = 16 * 1024


class _Frame:
    __slots__ = ("kind", "rate", "samples", "size")

    def __init__(self, kind: tuple[int, int, int], rate: int, samples: int, size: int) -> None:
        self.kind = kind
        self.rate = rate
        self.samples = samples
        self.size = size


def parse_mpeg(source: Source) -> Parsing:
    total, frames, skipped, kind = 0, 0, 0, None
    rate = 1
    try:
        head = yield from source.read(_HEAD)
        while True:
            frame = _frame_of(head)
            # Of chance marks in what is no sound at all most are of another kind than the first.
            if frame is None or kind not in (None, frame.kind):
                skipped += 1
                if skipped > _MOST_SKIPPED_BYTES:
                    return None
                head = head[1:] + (yield from source.read(1))
                continue
            more = 0
            if kind is None:
                kind, rate = frame.kind, frame.rate
                more = min(_MARKED_BYTES, frame.size - _HEAD)
                start = yield from source.read(more)
                if any(mark in start for mark in _MARKS):
                    frames -= 1
                    total -= frame.samples
            frames += 1
            total += frame.samples
            source.skip(frame.size - _HEAD - more)
            source.counted_bytes = source.position - skipped
            head = yield from source.read(_HEAD)
    except EndOfSound:
        return -(-total * 1_000 // rate) if frames >= _LEAST_FRAMES else None


def _frame_of(head: bytes) -> _Frame | None:
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - eleven bits that are set.
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    samples = _SAMPLES.get((version, layer))
    bit_rate, sample_rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    # A free bit rate (0) does not tell where the next frame is.
    if samples is None or bit_rate in (0, 15) or sample_rate == 3:  # noqa: PLR2004 - reserved.
        return None
    # The layers II and III of the younger versions share their bit rates.
    row = (version or 2, layer) if version == 3 or layer == 3 else (2, 2)  # noqa: PLR2004 - MPEG 1, layer I.
    rate = _RATES[version][sample_rate]
    size = samples // 8 * _KILOBITS[row][bit_rate - 1] * 1_000 // rate
    slot = 4 if layer == 3 else 1  # noqa: PLR2004 - layer I.
    size = size // slot * slot + padding * slot
    return _Frame((version, layer, sample_rate), rate, samples, size)
