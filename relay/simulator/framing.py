"""Server-sent events as bytes: the usual way, and the unusual ones that the format allows."""

from collections.abc import Callable

import msgspec

from relay.simulator.knobs import Knobs
from relay.simulator.streams import Event

Framing = Callable[[int, Event], bytes]


def events_frame(events: list[Event], *, knobs: Knobs) -> list[bytes]:
    framing = _STYLES.get(knobs.framing or knobs.fault or "", _plain)
    return [framing(number, event) for number, event in enumerate(events)]


def _plain(_: int, event: Event) -> bytes:
    name = b"event: %b\n" % event.name.encode() if event.name else b""
    return name + b"data: %b\n\n" % event.data


def _crlf(number: int, event: Event) -> bytes:
    return _plain(number, event).replace(b"\n", b"\r\n")


def _cr(number: int, event: Event) -> bytes:
    return _plain(number, event).replace(b"\n", b"\r")


def _bom(number: int, event: Event) -> bytes:
    return (b"" if number else b"\xef\xbb\xbf") + _plain(number, event)


def _comments(number: int, event: Event) -> bytes:
    # The second comment is part of the event's own block, and the space after "data:" is optional.
    name = b"event:%b\n" % event.name.encode() if event.name else b""
    return b": keepalive\n\n: event %d\n%bdata:%b\n\n" % (number, name, event.data)


def _event_lines(number: int, event: Event) -> bytes:
    name = event.name.encode() or b"chunk"
    return b"event: %b\nid: %d\nretry: 3000\ndata: %b\n\n" % (name, number, event.data)


def _multi_line(number: int, event: Event) -> bytes:
    if not event.data.startswith(b"{"):
        return _plain(number, event)
    name = b"event: %b\n" % event.name.encode() if event.name else b""
    lines = msgspec.json.format(event.data, indent=1).split(b"\n")
    return name + b"".join(b"data: %b\n" % line for line in lines) + b"\n"


_STYLES: dict[str, Framing] = {
    "crlf": _crlf,
    "cr": _cr,
    "bom": _bom,
    "comments": _comments,
    "event_lines": _event_lines,
    "multi_line": _multi_line,
}
