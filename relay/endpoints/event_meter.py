"""Meters the streams of images, voices and transcripts: events with types, the usage in the last.

Events are forwarded as they came, each by itself whole. The last one is held back until the call
is settled. A stream that breaks ends with an error event and `[DONE]`, like those of chats.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw

from relay.bodies.sse import Event, SseSplitter, plain_form, split_lines
from relay.errors import RelayError, render_event, upstream_failed
from relay.metering.meter import DONE, KEEP_ALIVE
from relay.upstream_errors import from_upstream_event

# An event can be a whole picture.
MAX_EVENT_BYTES: Final = 64 * 1024 * 1024


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


class EventMeter:
    """The base of all of them; each says what ends its stream and what it wants to see of it."""

    is_event_stream = True
    keep_alive = KEEP_ALIVE
    is_between_events = True
    characters = 0
    ending_types: frozenset[str] = frozenset()

    def __init__(self, *, endings: int = 1) -> None:
        """The stream has ended with so many of its last events."""
        self._splitter = SseSplitter(MAX_EVENT_BYTES)
        self._endings_left = endings
        self._held = b""
        self._has_ending = False
        self.done = False
        self.error: RelayError | None = None
        self.usage: object = None
        self.output_seen = False
        self.served_tier: str | None = None
        self.upstream_id: str | None = None
        self.ids: list[str] = []

    @property
    def is_complete(self) -> bool:
        return self.error is None and self._has_ending

    def feed(self, chunk: bytes) -> bytes:
        return b"".join([self._take(event) for event in self._splitter.feed(chunk)])

    def finish(self) -> bytes:
        rest = self._splitter.close()
        forward = b""
        if rest is not None and rest.data is not None and not self.done and self.error is None:
            # Half an event says nothing; one that lacks only its empty line is whole.
            try:
                msgspec.json.decode(rest.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                forward = self._take(rest)
        held, self._held = self._held, b""
        return forward + held

    def ending(self, error: RelayError | None) -> bytes:
        if error is None:
            return DONE if self.error is not None else b""
        return render_event(error) + DONE

    def output_text(self) -> str:
        return ""

    def see(self, told: Told, kind: str) -> None:
        """One more event that is no error."""

    def _take(self, event: Event) -> bytes:
        if self.done or self.error is not None:
            return b""
        if event.is_piece:
            return self._fail(upstream_failed())
        data = event.data
        if data is None:
            is_comment = any(line.startswith(b":") for line in split_lines(event.raw))
            return KEEP_ALIVE if is_comment else b""
        if not data.isascii():
            data = data.decode("utf-8", "replace").encode()
        try:
            told = _decode(data)
        except (msgspec.DecodeError, RecursionError):
            return self._strange(data)
        kind = told.type
        if told.error or kind == "error":
            return self._fail(from_upstream_event(told.error or msgspec.json.decode(data)))
        if not isinstance(kind, str) or not kind.isascii() or not kind.isprintable():
            return self._fail(upstream_failed())
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
        held, self._held = self._held, forward
        return held

    def _strange(self, data: bytes) -> bytes:
        """What is no JSON object: an empty event, or the end that other streams have."""
        text = data.strip()
        if not text or text.startswith(b":"):
            return KEEP_ALIVE
        return b"" if text == b"[DONE]" else self._fail(upstream_failed())

    def _fail(self, error: RelayError) -> bytes:
        self.error = error
        held, self._held = self._held, b""
        return held + render_event(error)


def _form(kind: str, event: Event, data: bytes) -> bytes:
    """Its name and its data, each in the one form; a name that says something else is left out."""
    plain = event.raw if event.is_plain and event.data is data else plain_form(Event(b"", data))
    names = (b"event: " + kind.encode(), b"event:" + kind.encode())
    is_named = not event.is_plain and any(line in names for line in split_lines(event.raw))
    return names[0] + b"\n" + plain if is_named else plain
