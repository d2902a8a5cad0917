"""Splits a stream of server-sent events, however its bytes are cut, into whole events.

Lines may end with LF, CRLF or CR, also mixed; a byte order mark at the start is dropped. Memory is
bounded: an event that is too large comes out as raw pieces while the search for its end goes on.
"""

import re
from typing import Final

import msgspec

MAX_EVENT_BYTES: Final = 256 * 1024

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CR: Final = 0x0D
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# Atomic groups, or else the two halves of one CRLF would pass for an empty line.
_EVENT_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
# The longest proper beginning of an event's end: CR LF CR.
_HELD_BACK: Final = 3


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event as it was received, or a piece of one that is larger than the bound."""

    raw: bytes
    """The exact bytes, the empty line included."""
    data: bytes | None
    """The data lines joined by LF; None if there are none, and in a piece."""
    is_plain: bool = False
    """It is one line, `data: ...`, with LF line ends."""
    is_piece: bool = False
    ends: bool = True
    """Only a piece may be without the event's end."""


class SseSplitter:
    """Feed it chunks; it gives back the events that each chunk completes."""

    __slots__ = ("_begun", "_buffer", "_has_cr", "_in_pieces", "_max_event_bytes", "_searched")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._begun = False
        self._has_cr = False
        self._in_pieces = False

    def feed(self, chunk: bytes) -> list[Event]:
        # Nearly always a chunk is exactly one event of one line.
        if not self._buffer and _is_plain(chunk) and len(chunk) <= self._max_event_bytes:
            self._begun = True
            return [Event(chunk, chunk[6:-2], is_plain=True)]
        self._buffer += chunk
        if not self._has_cr and b"\r" in chunk:
            self._has_cr = True
        if not self._begun and not self._begin():
            return []
        return self._drain()

    def close(self) -> Event | None:
        """What is left when the stream has ended: an event without its end."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        if self._in_pieces:
            return Event(rest, None, is_piece=True, ends=False)
        return Event(rest, _data_of(rest), ends=False) if rest else None

    def _begin(self) -> bool:
        buffer = self._buffer
        if len(buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(buffer):
            return False
        if buffer.startswith(_BYTE_ORDER_MARK):
            del buffer[: len(_BYTE_ORDER_MARK)]
        self._begun = True
        return True

    def _drain(self) -> list[Event]:
        buffer = self._buffer
        events = []
        start, searched = 0, self._searched
        while (end := self._end_of_event(searched)) >= 0:
            events.append(self._event(bytes(buffer[start:end])))
            start = searched = end
        if self._in_pieces or len(buffer) - start > self._max_event_bytes:
            cut = len(buffer) - _HELD_BACK
            if cut > start:
                events.append(Event(bytes(buffer[start:cut]), None, is_piece=True, ends=False))
                self._in_pieces = True
                start = cut
        del buffer[:start]
        self._searched = max(len(buffer) - _HELD_BACK, 0)
        return events

    def _end_of_event(self, position: int) -> int:
        if not self._has_cr:
            found = self._buffer.find(b"\n\n", position)
            return found if found < 0 else found + 2
        match = _EVENT_END.search(self._buffer, position)
        if match is None:
            return -1
        end = match.end()
        # The LF of a last CRLF may be still to come.
        return -1 if end == len(self._buffer) and self._buffer[-1] == _CR else end

    def _event(self, raw: bytes) -> Event:
        if self._in_pieces or len(raw) > self._max_event_bytes:
            self._in_pieces = False
            return Event(raw, None, is_piece=True)
        if _is_plain(raw):
            return Event(raw, raw[6:-2], is_plain=True)
        return Event(raw, _data_of(raw))


def _is_plain(raw: bytes) -> bool:
    return (
        raw.startswith(b"data: ")
        and raw.endswith(b"\n\n")
        and raw.find(b"\n") == len(raw) - 2
        and b"\r" not in raw
    )


def split_lines(raw: bytes) -> list[bytes]:
    """The lines of an event without their ends."""
    return _LINE_END.split(raw)


def plain_form(event: Event) -> bytes:
    """The event with nothing but its data lines, and LF line ends."""
    assert event.data is not None, "the event has no data"
    lines = event.data.split(b"\n")
    return b"".join([b"data: " + line + b"\n" for line in lines]) + b"\n"


def _data_of(raw: bytes) -> bytes | None:
    values = []
    for line in split_lines(raw):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values) if values else None
