"""Ogg with Opus, Vorbis, FLAC or Speex: the position that the last page of a stream names."""

from typing import Final

import msgspec

from relay.media.source import EndOfSound, Parsing, Source, milliseconds

_HEAD: Final = 27
_FIRST: Final = 2
_OPUS_RATE: Final = 48_000
_FIRST_PACKET: Final = 64
_NOTHING_ENDS_HERE: Final = 2**64 - 1


class _Stream(msgspec.Struct):
    rate: int
    lead_in: int
    last: int = 0

    def length(self) -> int:
        return milliseconds(self.last - self.lead_in, per_second=self.rate) or 0


def parse_ogg(source: Source) -> Parsing:
    # Files may be chained; within a link streams run side by side.
    finished, link = 0, dict[int, _Stream]()
    link_has_data = False
    try:
        while True:
            head = yield from source.read(_HEAD)
            if head[:4] != b"OggS":
                break
            lengths = (yield from source.read(head[26])) if head[26] else b""
            size, serial = sum(lengths), int.from_bytes(head[14:18], "little")
            if head[5] & _FIRST:
                if link_has_data:
                    finished += _longest(link)
                    link, link_has_data = {}, False
                kept = min(size, _FIRST_PACKET)
                packet = (yield from source.read(kept)) if kept else b""
                size -= kept
                if (stream := _stream_of(packet)) is not None:
                    link[serial] = stream
            else:
                link_has_data = True
                position = int.from_bytes(head[6:14], "little")
                if serial in link and position != _NOTHING_ENDS_HERE:
                    link[serial].last = max(link[serial].last, position)
            source.skip(size)
    except EndOfSound:
        pass
    return finished + _longest(link) or None


def _longest(link: dict[int, _Stream]) -> int:
    return max((stream.length() for stream in link.values()), default=0)


def _stream_of(packet: bytes) -> _Stream | None:
    """What the first packet of a stream says about it, if it is sound."""
    if packet.startswith(b"OpusHead") and len(packet) >= 12:  # noqa: PLR2004 - up to the lead-in.
        return _Stream(rate=_OPUS_RATE, lead_in=int.from_bytes(packet[10:12], "little"))
    if packet.startswith(b"\x01vorbis"):
        return _Stream(rate=int.from_bytes(packet[12:16], "little"), lead_in=0)
    if packet.startswith(b"\x7fFLAC"):
        return _Stream(rate=int.from_bytes(packet[27:30]) >> 4, lead_in=0)
    if packet.startswith(b"Speex   "):
        return _Stream(rate=int.from_bytes(packet[36:40], "little"), lead_in=0)
    return None
