"""Cuts the connection of a peer that takes nothing of what waits for it."""

import asyncio

# How often it looks within the deadline: a peer is cut at most a quarter too late.
LOOKS = 4


class WriteDeadline:
    """Runs only while a transport has more to send than it should: a good reader costs nothing."""

    __slots__ = (
        "_handle",
        "_idle_looks",
        "_loop",
        "_pause_seconds",
        "_transport",
        "_waiting_bytes",
    )

    def __init__(
        self, transport: asyncio.Transport, *, loop: asyncio.AbstractEventLoop, seconds: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._pause_seconds = seconds / LOOKS
        self._handle: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        self._idle_looks = 0

    def start(self) -> None:
        if self._handle is None:
            self._idle_looks = 0
            self._look_later()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look_later(self) -> None:
        self._waiting_bytes = self._transport.get_write_buffer_size()
        self._handle = self._loop.call_later(self._pause_seconds, self._look)

    def _look(self) -> None:
        self._handle = None
        waiting = self._transport.get_write_buffer_size()
        if not waiting:
            return
        self._idle_looks = self._idle_looks + 1 if waiting == self._waiting_bytes else 0
        if self._idle_looks < LOOKS:
            self._look_later()
        else:
            # Not a close: that would wait for the peer to take the rest.
            self._transport.abort()
