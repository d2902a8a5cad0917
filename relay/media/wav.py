"""WAV, in RIFF or RF64: the size of its data by the bytes of a second."""

from collections.abc import Generator

from relay.media.source import EndOfSound, Parsing, Source, milliseconds

_FORMAT_BYTES = 16
_BLOCK_FORMAT_BYTES = 20
# Sizes of these values stand for "until the end": the writer could not seek back.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_UNCOMPRESSED = (1, 3, 6, 7, 0xFFFE)
# Both kinds of ADPCM say how many samples a block has.
_IN_BLOCKS = (2, 0x11)
_SKIP_BYTES = 0xFFFF


def parse_wav(source: Source) -> Parsing:
    yield from source.read(12)
    form = b""
    while True:
        head = yield from source.read(8)
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"fmt " and size >= _FORMAT_BYTES:
            form = yield from source.read(min(size, _BLOCK_FORMAT_BYTES))
            source.skip(size - len(form) + size % 2)
        elif kind == b"data" and form:
            start = source.position
            length = yield from _data_length(source, size)
            if _is_plain(form):
                source.counted_bytes = start + length
            return _duration(length, form=form)
        else:
            source.skip(size + size % 2)


def _is_plain(form: bytes) -> bool:
    """Samples without compression, in blocks as large as they are: there is one way to read it."""
    channels, bits = int.from_bytes(form[2:4], "little"), int.from_bytes(form[14:16], "little")
    is_uncompressed = int.from_bytes(form[:2], "little") in _UNCOMPRESSED
    return is_uncompressed and int.from_bytes(form[12:14], "little") == channels * -(-bits // 8)


def _duration(length: int, *, form: bytes) -> int | None:
    tag, rate = int.from_bytes(form[:2], "little"), int.from_bytes(form[4:8], "little")
    block = int.from_bytes(form[12:14], "little")
    if tag in _UNCOMPRESSED:
        # What a decoder goes by; the field for it may say anything.
        return milliseconds(length, per_second=rate * block)
    if tag in _IN_BLOCKS and len(form) == _BLOCK_FORMAT_BYTES and block:
        samples = int.from_bytes(form[18:20], "little")
        return milliseconds(-(-length // block) * samples, per_second=rate)
    return milliseconds(length, per_second=int.from_bytes(form[8:12], "little"))


def _data_length(source: Source, size: int) -> Generator[tuple[int, int], bytes, int]:
    """The bytes of the data, no more than there are."""
    start = source.position
    try:
        if size not in _UNKNOWN_SIZES:
            source.skip(size - 1)
            yield from source.read(1)
            return size
        while True:
            source.skip(_SKIP_BYTES)
            yield from source.read(1)
    except EndOfSound:
        return source.total - start
