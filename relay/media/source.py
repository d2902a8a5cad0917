"""Lets a parser be written as if it could wait for the bytes it needs.

A parser is a generator: it asks a `Source` for bytes, and whoever has bytes feeds the `Feeder`.
Only what the parser wants to see at once is kept; what it skips is not.
"""

from collections.abc import Callable, Generator
from typing import Final

# Seconds of work: more than real files of the upload limit take; a hostile one is given up on.
MAX_STEPS: Final = 600_000
MAX_READ_BYTES: Final = 65_536
# Tags, mostly. At the lowest bit rate of MPEG audio that would be one second of sound.
MAX_UNCOUNTED_BYTES: Final = 1_000

Parsing = Generator[tuple[int, int], bytes, int | None]
"""Yields how many bytes to skip and then how many to read; returns the milliseconds."""
Reading = Generator[tuple[int, int], bytes, bytes]
Parser = Callable[["Source"], Parsing]


class EndOfSound(Exception):
    """Raised in the parser where it waits for bytes that will not come."""


class Source:
    """What a parser reads from; positions are counted from the start of the file."""

    __slots__ = ("_skip", "counted_bytes", "counted_milliseconds", "position", "total")

    def __init__(self) -> None:
        self._skip = 0
        self.position = 0
        self.total = 0
        """All bytes that there were so far: at the end of the sound the size of the file."""
        self.counted_bytes = 0
        """In how many of them a decoder finds just what was counted, whatever is said of it."""
        self.counted_milliseconds = 0
        """What was counted, where it may differ from what is found in the end."""

    def read(self, size: int) -> Reading:
        """Raises EndOfSound."""
        assert 0 < size <= MAX_READ_BYTES, "a parser must not make the buffer grow"
        skip, self._skip = self._skip, 0
        data = yield skip, size
        self.position += size
        return data

    def skip(self, size: int) -> None:
        """The bytes are passed over with the next read."""
        self._skip += size
        self.position += size


class Feeder:
    """Runs a parser while bytes come; a parser that asks too often is stopped without a result."""

    __slots__ = ("_buffer", "_parsing", "_result", "_size", "_skip", "_source", "_steps")

    def __init__(self, parser: Parser) -> None:
        self._source = Source()
        self._buffer = bytearray()
        self._steps = 0
        self._result: int | None = None
        self._parsing: Parsing | None = parser(self._source)
        self._skip, self._size = next(self._parsing)

    def feed(self, chunk: bytes) -> None:
        self._source.total += len(chunk)
        if self._parsing is None:
            return
        if self._skip >= len(chunk) and not self._buffer:
            self._skip -= len(chunk)
            return
        self._buffer += chunk
        position = self._run(self._parsing)
        del self._buffer[:position]

    def _run(self, parsing: Parsing) -> int:
        """Let the parser have what is there; gives the number of bytes that it is done with."""
        buffer, position = self._buffer, 0
        while True:
            passed = min(self._skip, len(buffer) - position)
            position += passed
            self._skip -= passed
            end = position + self._size
            if self._skip or end > len(buffer):
                return position
            self._steps += 1
            if self._steps > MAX_STEPS:
                self._stop(None)
                return len(buffer)
            try:
                self._skip, self._size = parsing.send(bytes(buffer[position:end]))
            except StopIteration as stop:
                self._stop(stop.value)
                return len(buffer)
            position = end

    @property
    def most_milliseconds(self) -> int | None:
        """Once it is closed: no decoder could find a longer sound in it; None: nobody knows.

        The times that containers write down say nothing about what is in them.
        """
        counted, total = self._source.counted_bytes, self._source.total
        if not counted or total - counted > MAX_UNCOUNTED_BYTES:
            return None
        return max(self._result or 0, self._source.counted_milliseconds)

    def close(self) -> int | None:
        """The file has ended: the milliseconds, if the parser could find them."""
        parsing = self._parsing
        if parsing is not None:
            self._stop(None)
            try:
                parsing.throw(EndOfSound())
            except EndOfSound:
                return None
            except StopIteration as stop:
                self._result = stop.value
        return self._result

    def _stop(self, result: int | None) -> None:
        self._parsing = None
        self._result = result


def milliseconds(units: int, *, per_second: int) -> int | None:
    """Rounded up; None if it is nothing, or makes no sense."""
    if units <= 0 or per_second <= 0:
        return None
    return -(-units * 1_000 // per_second)
