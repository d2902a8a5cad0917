"""Ogg with Opus, Vorbis, FLAC or Speex: the position that the last page of a stream names."""

from collections.abc import Generator
from typing import Final

import msgspec

from relay.media.opus import SAMPLES_PER_SECOND, packet_samples
from relay.media.source import EndOfSound, Parsing, Source, milliseconds

_MARK: Final = b"OggS"
_HEAD: Final = 27
_CONTINUED: Final = 1
_FIRST: Final = 2
_OPUS_RATE: Final = SAMPLES_PER_SECOND
# A packet goes on behind a piece of this length.
_FULL: Final = 255
_FIRST_PACKET: Final = 64
_NOTHING_ENDS_HERE: Final = 2**64 - 1


class _Stream(msgspec.Struct):
    rate: int
    lead_in: int
    is_opus: bool = False
    last: int = 0

    def length(self) -> int:
        return milliseconds(self.last - self.lead_in, per_second=self.rate) or 0


class _Page(msgspec.Struct):
    is_first: bool
    is_continued: bool
    position: int
    serial: int
    lengths: bytes

    @property
    def size(self) -> int:
        return sum(self.lengths)


class _Packets(msgspec.Struct):
    """What was counted of Opus."""

    samples: int = 0
    counted_bytes: int = 0
    is_odd: bool = False

    def take(self, page: _Page, body: bytes) -> None:
        """Of the packets that begin on the page; also its tags, which are none, are counted."""
        at, is_start = 0, not page.is_continued
        for length in page.lengths:
            if is_start:
                self.samples += packet_samples(body[at : at + min(length, 2)])
            is_start = length < _FULL
            at += length
        self.counted_bytes += _HEAD + len(page.lengths) + len(body)
        # Some would find pages inside of a damaged one.
        self.is_odd = self.is_odd or _MARK in body


def parse_ogg(source: Source) -> Parsing:
    # Files may be chained; within a link streams run side by side.
    finished, link, packets = 0, dict[int, _Stream](), _Packets()
    link_has_data = False
    try:
        while (page := (yield from _page(source))) is not None:
            if page.is_first:
                if link_has_data:
                    finished += _longest(link)
                    link, link_has_data = {}, False
                yield from _begin(source, page, link, packets)
                continue
            link_has_data = True
            stream = link.get(page.serial)
            if stream is not None and page.position != _NOTHING_ENDS_HERE:
                stream.last = max(stream.last, page.position)
            if stream is not None and stream.is_opus and page.size:
                packets.take(page, (yield from source.read(page.size)))
            else:
                source.skip(page.size)
    except EndOfSound:
        pass
    source.counted_bytes = 0 if packets.is_odd else packets.counted_bytes
    source.counted_milliseconds = milliseconds(packets.samples, per_second=_OPUS_RATE) or 0
    return finished + _longest(link) or None


def _page(source: Source) -> Generator[tuple[int, int], bytes, _Page | None]:
    head = yield from source.read(_HEAD)
    if head[:4] != _MARK:
        return None
    lengths = (yield from source.read(head[26])) if head[26] else b""
    return _Page(
        is_first=bool(head[5] & _FIRST),
        is_continued=bool(head[5] & _CONTINUED),
        position=int.from_bytes(head[6:14], "little"),
        serial=int.from_bytes(head[14:18], "little"),
        lengths=lengths,
    )


def _begin(source: Source, page: _Page, link: dict[int, _Stream], packets: _Packets) -> Parsing:
    kept = min(page.size, _FIRST_PACKET)
    packet = (yield from source.read(kept)) if kept else b""
    source.skip(page.size - kept)
    stream = _stream_of(packet)
    if stream is not None:
        link[page.serial] = stream
        if stream.is_opus and len(page.lengths) == 1:
            packets.counted_bytes += _HEAD + 1 + page.size
    return None


def _longest(link: dict[int, _Stream]) -> int:
    return max((stream.length() for stream in link.values()), default=0)


def _stream_of(packet: bytes) -> _Stream | None:
    """What the first packet of a stream says about it, if it is sound."""
    if packet.startswith(b"OpusHead") and len(packet) >= 12:  # noqa: PLR2004 - up to the lead-in.
        lead_in = int.from_bytes(packet[10:12], "little")
        return _Stream(rate=_OPUS_RATE, lead_in=lead_in, is_opus=True)
    if packet.startswith(b"\x01vorbis"):
        return _Stream(rate=int.from_bytes(packet[12:16], "little"), lead_in=0)
    if packet.startswith(b"\x7fFLAC"):
        return _Stream(rate=int.from_bytes(packet[27:30]) >> 4, lead_in=0)
    if packet.startswith(b"Speex   "):
        return _Stream(rate=int.from_bytes(packet[36:40], "little"), lead_in=0)
    return None
