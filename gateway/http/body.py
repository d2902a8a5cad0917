"""Where a request's body ends (no I/O)."""

import re
from typing import Final

from gateway.http.refusal import malformed

MOST_LINE_BYTES: Final = 4096
# What a body may have around its content: extensions, trailers. Chunk after chunk of one byte is
# slow, but no attack; one byte with a kilobyte of extensions is.
SPARE_BYTES: Final = 16 * 1024

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t\x20-\x7e\x80-\xff]*")


class CountedBody:
    """A body with a length; never of none."""

    __slots__ = ("_left", "complete", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete = False
        self.rest = b""  # What came behind its end.

    def feed(self, data: bytes) -> bytes:
        left = self._left = self._left - len(data)
        if left > 0:
            return data
        self.complete = True
        if left == 0:
            return data
        self.rest = data[left:]
        return data[:left]

    @property
    def left_bytes(self) -> int | None:
        return self._left


class ChunkedBody:
    """A body in chunks, whose extensions and trailers are dropped."""

    __slots__ = ("_in_trailer", "_left", "_partial", "_spare", "complete", "rest")

    def __init__(self) -> None:
        self._left = 0  # Of a chunk and the line's end behind it.
        self._partial = b""
        self._spare = SPARE_BYTES
        self._in_trailer = False
        self.complete = False
        self.rest = b""

    @property
    def left_bytes(self) -> int | None:
        return None

    def feed(self, data: bytes) -> bytes:
        """Take received bytes and return the content among them. Raises Refusal."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        content: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.complete:
            step = self._read_chunk if self._left else self._read_line
            begun, at = at, step(data, at, content)
            if at == begun:
                self._partial = data[at:]
                break
        if self.complete:
            self.rest = data[at:]
        return content[0] if len(content) == 1 else b"".join(content)

    def _read_chunk(self, data: bytes, at: int, content: list[bytes]) -> int:
        """How far it got."""
        inside = self._left - 2
        if inside > 0:
            piece = data[at : at + inside]
            content.append(piece)
            self._left -= len(piece)
            return at + len(piece)
        # Only the line's end is left; it may come in two pieces.
        ending = data[at : at + 2]
        if ending == b"\r\n":
            self._left = 0
            return at + 2
        if ending != b"\r":
            raise malformed("a chunk is longer than it says")
        return at

    def _read_line(self, data: bytes, at: int, _: list[bytes]) -> int:
        end = data.find(b"\r\n", at, at + MOST_LINE_BYTES + 2)
        if end < 0:
            if len(data) - at > MOST_LINE_BYTES + 1:
                raise malformed("a line between its chunks is too long")
            # Not at its end already, or a wrong line would be waited for.
            if b"\n" in data[at:]:
                raise malformed("a line between its chunks does not end with CR LF")
            return at
        line = data[at:end]
        if self._in_trailer:
            self._take_trailer(line)
        else:
            self._take_size(line)
        return end + 2

    def _take_size(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise malformed("the size of a chunk is not a number")
        size = int(found[1], 16)
        self._spend(len(line) - len(found[1]))
        self._in_trailer = not size
        self._left = size + 2 if size else 0

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        self._spend(len(line))
        if not _TRAILER_LINE.fullmatch(line):
            raise malformed("a line behind its last chunk is not `name: value`")

    def _spend(self, spare_bytes: int) -> None:
        self._spare -= spare_bytes
        if self._spare < 0:
            raise malformed("there is too much around its chunks")


RequestBody = CountedBody | ChunkedBody
