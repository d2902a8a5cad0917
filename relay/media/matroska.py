"""Matroska and WebM: the duration that is written down, or the time of the last block.

Browsers record WebM without a duration and with elements of unknown size, so the elements are
walked flat: what is inside another one just follows it.
"""

import struct
from collections.abc import Generator
from typing import Final

import msgspec

from relay.media.opus import SAMPLES_PER_SECOND, packet_samples
from relay.media.source import EndOfSound, Parsing, Source, milliseconds

_SEGMENT, _INFO, _CLUSTER, _GROUP = 0x18538067, 0x1549A966, 0x1F43B675, 0xA0
_TRACKS, _TRACK, _CODEC, _ENCODINGS = 0x1654AE6B, 0xAE, 0x86, 0x6D80
_CONTAINERS: Final = frozenset((_SEGMENT, _INFO, _CLUSTER, _GROUP, _TRACKS, _TRACK))
_SCALE, _DURATION, _TIME = 0x2AD7B1, 0x4489, 0xE7
_SIMPLE_BLOCK, _BLOCK, _BLOCK_DURATION = 0xA3, 0xA1, 0x9B
_BLOCK_HEAD: Final = 4
_LACED: Final = 0x06
# The number of a track that takes one byte has this bit.
_SHORT_NUMBER: Final = 0x80
_LONGEST_CODEC: Final = 64
_LARGEST_ID: Final = 4
_LARGEST_NUMBER: Final = 8
_DEFAULT_SCALE: Final = 1_000_000
_MOST: Final = 2**53
_NANOSECONDS: Final = 1_000_000
# The last block lasts as long as the one before it, but for a recording with a gap at its end.
_LONGEST_STEP_NANOSECONDS: Final = 1_000_000_000


class _Times(msgspec.Struct):
    scale: int = _DEFAULT_SCALE
    declared: float = 0
    cluster: int = 0
    last: int = -1
    step: int = 0
    end: int = 0
    codecs: list[bytes] = msgspec.field(default_factory=list)
    is_odd: bool = False
    samples: int = 0

    def block(self, time: int) -> None:
        if time > self.last:
            self.step = time - self.last if self.last >= 0 else 0
            self.last = time

    def length(self) -> int | None:
        """In milliseconds, rounded up."""
        last = max(self.last, 0) * self.scale
        nanoseconds = int(self.declared * self.scale) if 0 < self.declared < _MOST else 0
        # A duration that is shorter than what is there is not believed.
        if nanoseconds < last or not nanoseconds:
            step = min(self.step * self.scale, _LONGEST_STEP_NANOSECONDS)
            nanoseconds = max(last + step, self.end * self.scale)
        return -(-nanoseconds // _NANOSECONDS) or None


def parse_matroska(source: Source) -> Parsing:
    times, counted_bytes = _Times(), 0
    try:
        while True:
            kind = yield from _number(source, is_id=True)
            size = yield from _number(source, is_id=False)
            if kind in _CONTAINERS:
                continue
            if kind is None or size is None:
                break
            end = source.position + size
            yield from _element(source, kind, size, times)
            source.skip(end - source.position)
            counted_bytes = source.position
    except EndOfSound:
        pass
    # Several packets in one block, several tracks, packets without their beginning: all that is
    # rare where somebody has recorded speech. What goes on behind the end, some look for elsewhere.
    if times.codecs == [b"A_OPUS"] and not times.is_odd and counted_bytes <= source.total:
        source.counted_bytes = counted_bytes
        counted = milliseconds(times.samples, per_second=SAMPLES_PER_SECOND)
        source.counted_milliseconds = counted or 0
    return times.length()


def _number(source: Source, *, is_id: bool) -> Generator[tuple[int, int], bytes, int | None]:
    """A number of variable length; None if it is invalid, or a size that is unknown."""
    first = (yield from source.read(1))[0]
    more = 8 - first.bit_length()
    if more >= (_LARGEST_ID if is_id else _LARGEST_NUMBER):
        return None
    rest = (yield from source.read(more)) if more else b""
    number = first << 8 * more | int.from_bytes(rest)
    if is_id:
        return number
    bits = 7 * (more + 1)
    number &= (1 << bits) - 1
    return None if number == (1 << bits) - 1 else number


def _element(source: Source, kind: int, size: int, times: _Times) -> Parsing:
    """Read as much of the element as matters."""
    if kind in (_SIMPLE_BLOCK, _BLOCK) and size >= _BLOCK_HEAD:
        head = yield from source.read(_BLOCK_HEAD)
        # The number of the track is in front; of more than 127 tracks nobody records sound.
        times.block(times.cluster + int.from_bytes(head[1:3], signed=True))
        if size > _BLOCK_HEAD:
            start = yield from source.read(min(2, size - _BLOCK_HEAD))
            times.samples += packet_samples(start)
            if head[0] < _SHORT_NUMBER or head[3] & _LACED:
                times.is_odd = True
    elif kind == _ENCODINGS:
        times.is_odd = True
    elif kind == _CODEC and 0 < size <= _LONGEST_CODEC:
        times.codecs.append((yield from source.read(size)))
    elif kind in (_SCALE, _DURATION, _TIME, _BLOCK_DURATION) and 0 < size <= _LARGEST_NUMBER:
        data = yield from source.read(size)
        _value(times, kind, data)
    return None


def _value(times: _Times, kind: int, data: bytes) -> None:
    if kind == _DURATION:
        if len(data) in (4, 8):
            (times.declared,) = struct.unpack(">f" if len(data) == 4 else ">d", data)  # noqa: PLR2004 - a float.
    elif kind == _SCALE:
        times.scale = int.from_bytes(data) or _DEFAULT_SCALE
    elif kind == _TIME:
        times.cluster = int.from_bytes(data)
    else:
        times.end = max(times.end, times.last + int.from_bytes(data))
