"""A connection without a network: a protocol, and as much of a transport as it uses."""

import asyncio
from typing import Any, cast

from gateway.http import HttpServer, Limits
from gateway.http.protocol import HttpProtocol
from relay.asgi_types import Application

TURNS = 200


class Stage:
    """The transport. What is written is kept; nothing is ever full."""

    def __init__(self, application: Application, **limits: Any) -> None:
        self.server = HttpServer(application, limits=Limits(**limits))
        self.protocol: HttpProtocol = self.server.connection()
        self.writes: list[bytes] = []
        self.is_closed = False
        self.is_reading = True
        self._waiting: list[bytes] = []
        self.protocol.connection_made(cast("asyncio.Transport", self))

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)

    def feed(self, data: bytes) -> None:
        """Let it arrive, or wait while nothing is read."""
        if self.is_reading and not self.is_closed:
            self.protocol.data_received(data)
        else:
            self._waiting.append(data)

    async def idle(self) -> None:
        """Return when nothing moves any more."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if not self.server.cycles:
                return

    def lose(self) -> None:
        self.is_closed = True
        self.protocol.connection_lost(None)

    # What a transport does.

    def write(self, data: bytes) -> None:
        assert not self.is_closed, "nothing is written behind the end"
        self.writes.append(bytes(data))

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            asyncio.get_running_loop().call_soon(self.feed, data)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.2", 5000)}.get(name)
