"""Meters the streams of images, voices and transcripts: events with types, the usage in the last.

Events are forwarded as they came, each by itself whole. The last one is held back until the call
is settled. A stream that breaks ends with an error event and `[DONE]`, like those of chats.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from relay.bodies.sse import Event, plain_form, split_lines
from relay.endpoints.typed_events import TypedEvents
from relay.errors import RelayError, render_event, upstream_failed
from relay.metering.meter import DONE
from relay.upstream_errors import from_upstream_event


class Told(msgspec.Struct, gc=False):
    """What of an event counts."""

    type: Any = None
    error: Any = None
    usage: Any = None
    text: Any = None
    delta: Any = None
    audio: Raw = Raw()
    quality: Any = None
    size: Any = None


# Seconds may have a fraction, and no float may come near money.
_decode: Final = msgspec.json.Decoder(Told, float_hook=Decimal).decode


class EventMeter(TypedEvents):
    """The base of all of them; each says what ends its stream and what it wants to see of it."""

    ending_types: frozenset[str] = frozenset()

    def __init__(self, *, endings: int = 1) -> None:
        """The stream has ended with so many of its last events."""
        super().__init__()
        self._endings_left = endings
        self._has_ending = False

    @property
    def is_complete(self) -> bool:
        return self.error is None and self._has_ending

    @override
    def rendered(self, error: RelayError) -> bytes:
        return render_event(error)

    def ending(self, error: RelayError | None) -> bytes:
        if error is None:
            return DONE if self.error is not None else b""
        return render_event(error) + DONE

    def output_text(self) -> str:
        return ""

    def see(self, told: Told, kind: str) -> None:
        """One more event that is no error."""

    @override
    def read(self, event: Event, data: bytes) -> bytes:
        try:
            told = _decode(data)
        except (msgspec.DecodeError, RecursionError):
            return self.strange(data)
        kind = told.type
        if told.error or kind == "error":
            return self.fail(from_upstream_event(told.error or msgspec.json.decode(data)))
        if not isinstance(kind, str) or not kind.isascii() or not kind.isprintable():
            return self.fail(upstream_failed())
        return self._see(told, kind, _form(kind, event, data))

    def _see(self, told: Told, kind: str, forward: bytes) -> bytes:
        self.see(told, kind)
        if kind not in self.ending_types:
            return forward
        self._has_ending = True
        if told.usage:
            self.usage = told.usage
        self._endings_left -= 1
        self.done = self._endings_left <= 0
        held = self._release()
        self._held = forward
        return held


def _form(kind: str, event: Event, data: bytes) -> bytes:
    """Its name and its data, each in the one form; a name that says something else is left out."""
    plain = event.raw if event.is_plain and event.data is data else plain_form(Event(b"", data))
    names = (b"event: " + kind.encode(), b"event:" + kind.encode())
    is_named = not event.is_plain and any(line in names for line in split_lines(event.raw))
    return names[0] + b"\n" + plain if is_named else plain
