"""Server-sent events as bytes: the usual way, and the unusual ones that the format allows."""

from collections.abc import Callable

import msgspec

from relay.simulator.completions import Event

Framing = Callable[[int, bytes], bytes]


def events_frame(events: list[Event], *, style: str | None) -> list[bytes]:
    framing = _STYLES.get(style or "", _plain)
    return [framing(number, event.data) for number, event in enumerate(events)]


def _plain(_: int, data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def _crlf(_: int, data: bytes) -> bytes:
    return b"data: %b\r\n\r\n" % data


def _cr(_: int, data: bytes) -> bytes:
    return b"data: %b\r\r" % data


def _bom(number: int, data: bytes) -> bytes:
    return (b"" if number else b"\xef\xbb\xbf") + _plain(number, data)


def _comments(number: int, data: bytes) -> bytes:
    # The second comment is part of the event's own block, and the space after "data:" is optional.
    return b": keepalive\n\n: event %d\ndata:%b\n\n" % (number, data)


def _event_lines(number: int, data: bytes) -> bytes:
    return b"event: chunk\nid: %d\nretry: 3000\ndata: %b\n\n" % (number, data)


def _multi_line(number: int, data: bytes) -> bytes:
    if not data.startswith(b"{"):
        return _plain(number, data)
    lines = msgspec.json.format(data, indent=1).split(b"\n")
    return b"".join(b"data: %b\n" % line for line in lines) + b"\n"


_STYLES: dict[str, Framing] = {
    "crlf": _crlf,
    "cr": _cr,
    "bom": _bom,
    "comments": _comments,
    "event_lines": _event_lines,
    "multi_line": _multi_line,
}
