"""Sounds on their way to the client: how long they are, and the last byte held back."""

from typing import Final

from relay.errors import RelayError
from relay.media import DurationMeter
from relay.upstream import UpstreamResponse

# What upstream makes of a voice that is asked for without any header: 16 bits, 24 kHz, mono.
_RAW_BYTES_PER_SECOND: Final = 2 * 24_000


class Sound:
    """Feed it the bytes of a sound as they pass."""

    def __init__(self, *, is_raw: bool = False) -> None:
        self.bytes = 0
        self._is_raw = is_raw
        self._meter = DurationMeter()
        self._is_closed = False
        self._measured: int | None = None

    def feed(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        if not self._is_raw:
            self._meter.feed(chunk)

    def milliseconds(self) -> int | None:
        """None if that cannot be known. Nothing is fed after it was asked for."""
        if self._is_raw:
            return -(-self.bytes * 1_000 // _RAW_BYTES_PER_SECOND)
        if not self._is_closed:
            self._is_closed = True
            self._measured = self._meter.close()
        return self._measured


class SoundMeter:
    """Follows an answer that is a sound; its last byte goes out after the call is settled."""

    is_event_stream = False
    keep_alive = b""
    is_between_events = False
    characters = 0
    done = False
    error: RelayError | None = None
    usage: object = None
    served_tier: str | None = None
    upstream_id: str | None = None

    def __init__(self, response: UpstreamResponse, *, is_raw: bool) -> None:
        self._response = response
        self._held = b""
        self.sound = Sound(is_raw=is_raw)
        self.output_seen = False
        self.ids: list[str] = []

    @property
    def is_complete(self) -> bool:
        return self._response.has_ended

    def feed(self, chunk: bytes) -> bytes:
        if not chunk:
            return b""
        self.output_seen = True
        self.sound.feed(chunk)
        forward = self._held + chunk[:-1]
        self._held = chunk[-1:]
        return forward

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def ending(self, error: RelayError | None) -> bytes | None:
        """A sound has no way to say that it is not whole."""
        return b"" if error is None else None

    def output_text(self) -> str:
        return ""
