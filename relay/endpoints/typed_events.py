"""What meters of streams of typed events have in common: every endpoint but the chats has such.

Events are forwarded one by one, each whole. The last one is held back until the call is settled.
"""

from abc import ABC, abstractmethod
from typing import Final

import msgspec

from relay.bodies.sse import Event, SseSplitter, split_lines
from relay.errors import RelayError, upstream_failed
from relay.metering.meter import KEEP_ALIVE

# An event can be a whole picture, or a whole response with all its pictures.
MAX_EVENT_BYTES: Final = 64 * 1024 * 1024


class TypedEvents(ABC):
    """The base of a meter; what an event means, and how an error is told, is for the others."""

    is_event_stream = True
    keep_alive = KEEP_ALIVE
    is_between_events = True

    def __init__(self) -> None:
        self._splitter = SseSplitter(MAX_EVENT_BYTES)
        self._held = b""
        self.characters = 0
        self.done = False
        self.error: RelayError | None = None
        self.usage: object = None
        self.output_seen = False
        self.served_tier: str | None = None
        self.upstream_id: str | None = None
        self.ids: list[str] = []

    @abstractmethod
    def read(self, event: Event, data: bytes) -> bytes:
        """What to forward of one more event, whose data is UTF-8."""

    @abstractmethod
    def rendered(self, error: RelayError) -> bytes:
        """The error as the client of this endpoint looks for it."""

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
        return forward + self._release()

    def strange(self, data: bytes) -> bytes:
        """What is no JSON object: an empty event, or the end that other streams have."""
        text = data.strip()
        if not text or text.startswith(b":"):
            return KEEP_ALIVE
        return b"" if text == b"[DONE]" else self.fail(upstream_failed())

    def fail(self, error: RelayError) -> bytes:
        self.error = error
        return self._release() + self.rendered(error)

    def _take(self, event: Event) -> bytes:
        if self.done or self.error is not None:
            return b""
        if event.is_piece:
            return self.fail(upstream_failed())
        data = event.data
        if data is None:
            is_comment = any(line.startswith(b":") for line in split_lines(event.raw))
            return KEEP_ALIVE if is_comment else b""
        if not data.isascii():
            data = data.decode("utf-8", "replace").encode()
        return self.read(event, data)

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held
