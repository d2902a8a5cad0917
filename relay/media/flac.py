"""FLAC: the number of samples that its first block names."""

from relay.media.source import Parsing, Source, milliseconds

_STREAM_INFO_BYTES = 34


def parse_flac(source: Source) -> Parsing:
    yield from source.read(4)
    head = yield from source.read(4)
    if head[0] & 0x7F or int.from_bytes(head[1:]) < _STREAM_INFO_BYTES:
        return None
    info = yield from source.read(_STREAM_INFO_BYTES)
    # 20 bits of the rate, 3 of the channels, 5 of the sample size, 36 of the number of samples.
    packed = int.from_bytes(info[10:18])
    return milliseconds(packed & (1 << 36) - 1, per_second=packed >> 44)
