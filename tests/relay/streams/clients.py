"""Clients with a socket of their own: they read and leave exactly as a test says."""

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.adversary.gateway import CHAT, PATIENCE_SECONDS, Customer

SMALL_BUFFER_BYTES = 4096
LARGE_READ_BYTES = 2**20


class Client:
    def __init__(self, port: int) -> None:
        self.received = bytearray()
        self._port = port
        self._socket = socket.socket()
        self._socket.setblocking(False)
        # What it does not read soon fills the way to it.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    async def ask(self, customer: Customer, body: bytes, *, connection: str = "keep-alive") -> None:
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: {connection}\r\n"
            f"content-type: application/json\r\nauthorization: Bearer {customer.api_key}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        await self._loop.sock_sendall(self._socket, head.encode() + body)

    async def see(self, text: bytes) -> None:
        """Read until that text has come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in self.received:
                assert await self.read(), f"closed after {self.received[-200:]!r}"

    async def read(self, most: int = SMALL_BUFFER_BYTES) -> bytes:
        """Some bytes; none at the end, be it orderly or not."""
        try:
            data = await self._loop.sock_recv(self._socket, most)
        except ConnectionError:
            data = b""
        self.received += data
        return data

    async def see_end(self, text: bytes = b"") -> None:
        """Read until the connection ends, or what was received ends with that text."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.read(LARGE_READ_BYTES):
                if text and self.received.endswith(text):
                    return

    # --- Ways to leave ---------------------------------------------------------------------------

    def close(self) -> None:
        self._socket.close()

    def half_close(self) -> None:
        """Say that nothing more will be asked, and go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """As a machine does it that knows nothing of the connection."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()


WAYS: dict[str, Callable[[Client], None]] = {
    "closes": Client.close,
    "closes its half": Client.half_close,
    "resets": Client.reset,
}
