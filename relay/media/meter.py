"""Finds out what kind of file passes, and has it measured."""

from typing import Final

from relay.media.adts import parse_adts
from relay.media.flac import parse_flac
from relay.media.matroska import parse_matroska
from relay.media.mp4 import parse_mp4
from relay.media.mpeg import parse_mpeg
from relay.media.ogg import parse_ogg
from relay.media.program import parse_program
from relay.media.source import Feeder, Parser
from relay.media.wav import parse_wav

_MARK_BYTES: Final = 12
_TAG_HEAD_BYTES: Final = 10
_TAG_FOOTER: Final = 0x10


class DurationMeter:
    """Feed it the bytes of one file as they pass."""

    __slots__ = ("_feeder", "_is_unknown", "_mark", "_tag_left")

    def __init__(self) -> None:
        self._mark = bytearray()
        self._tag_left = 0
        self._feeder: Feeder | None = None
        self._is_unknown = False

    def feed(self, chunk: bytes) -> None:
        while chunk and not self._is_unknown:
            if self._feeder is not None:
                self._feeder.feed(chunk)
                return
            if self._tag_left:
                passed = min(self._tag_left, len(chunk))
                self._tag_left -= passed
                chunk = chunk[passed:]
                continue
            missing = _MARK_BYTES - len(self._mark)
            self._mark += chunk[:missing]
            chunk = chunk[missing:]
            if len(self._mark) == _MARK_BYTES:
                self._begin(bytes(self._mark))

    @property
    def most_milliseconds(self) -> int | None:
        """Once it is closed: nobody could make the sound longer; None: that is not known."""
        return self._feeder.most_milliseconds if self._feeder is not None else None

    def close(self) -> int | None:
        """The milliseconds of the sound, or None if they cannot be known; the file has ended."""
        return self._feeder.close() if self._feeder is not None else None

    def _begin(self, mark: bytes) -> None:
        self._mark.clear()
        if mark.startswith(b"ID3"):
            # Tags may be in front of any sound: cover pictures, mostly.
            rest = mark[_TAG_HEAD_BYTES:]
            size = _tag_bytes(mark)
            self._tag_left = max(0, size - len(rest))
            self._mark += rest[size:]
            return
        parser = _parser_of(mark)
        if parser is None:
            self._is_unknown = True
            return
        self._feeder = Feeder(parser)
        self._feeder.feed(mark)


def _tag_bytes(mark: bytes) -> int:
    """The size of a tag behind its head: 28 bits in four bytes, and perhaps a footer."""
    size = 0
    for part in mark[6:10]:
        size = size << 7 | part & 0x7F
    return size + (_TAG_HEAD_BYTES if mark[5] & _TAG_FOOTER else 0)


def _parser_of(mark: bytes) -> Parser | None:
    if mark[:4] in (b"RIFF", b"RF64") and mark[8:] == b"WAVE":
        return parse_wav
    if mark[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return parse_mp4
    if mark.startswith(b"\x1a\x45\xdf\xa3"):
        return parse_matroska
    if mark.startswith(b"\0\0\1\xba"):
        return parse_program
    if mark.startswith(b"OggS"):
        return parse_ogg
    if mark.startswith(b"fLaC"):
        return parse_flac
    if mark[0] == 0xFF and mark[1] & 0xF6 == 0xF0:  # noqa: PLR2004 - MPEG audio that has no layer.
        return parse_adts
    if mark[0] == 0xFF and mark[1] & 0xE0 == 0xE0:  # noqa: PLR2004 - eleven bits that are set.
        return parse_mpeg
    # Some writers leave zeros between a tag and the first frame.
    return parse_mpeg if not mark.strip(b"\0") else None
