"""MPEG program streams: the frames of the first audio stream, taken out of their packets."""

from collections.abc import Generator
from typing import Final

from relay.media.mpeg import parse_mpeg
from relay.media.source import EndOfSound, Feeder, Parsing, Source

_PACK, _END = 0xBA, 0xB9
_AUDIO: Final = range(0xC0, 0xE0)
_FIRST_CODE: Final = 0xB9
_OLD_PACK_BYTES, _PACK_BYTES = 12, 14
# In front of the header of an old packet: at most so many bytes of all ones.
_MAX_STUFFING: Final = 16
_STUFFING: Final = 0xFF


def parse_program(source: Source) -> Parsing:
    audio: int | None = None
    frames = Feeder(parse_mpeg)
    try:
        while True:
            head = yield from source.read(4)
            code = head[3]
            if head[:3] != b"\0\0\1" or code < _FIRST_CODE or code == _END:
                break
            if code == _PACK:
                yield from _pack(source)
                continue
            size = int.from_bytes((yield from source.read(2)))
            if code not in _AUDIO or audio not in (None, code) or not size:
                source.skip(size)
                continue
            audio = code
            packet = yield from source.read(size)
            frames.feed(packet[_payload_at(packet) :])
    except EndOfSound:
        pass
    return frames.close()


def _pack(source: Source) -> Generator[tuple[int, int], bytes, None]:
    first = (yield from source.read(1))[0]
    if first >> 6 == 1:
        source.skip(_PACK_BYTES - 4 - 2)
        last = (yield from source.read(1))[0]
        source.skip(last & 7)
    else:
        source.skip(_OLD_PACK_BYTES - 4 - 1)


def _payload_at(packet: bytes) -> int:
    """Where the header of the packet ends."""
    if packet[0] >> 6 == 2 and len(packet) > 2:  # noqa: PLR2004 - the mark, and the sizes behind it.
        return 3 + packet[2]
    at = 0
    while at < min(_MAX_STUFFING, len(packet) - 1) and packet[at] == _STUFFING:
        at += 1
    if packet[at] >> 6 == 1:
        at += 2
    mark = packet[at] >> 4 if at < len(packet) else 0
    return at + {2: 5, 3: 10}.get(mark, 1)
