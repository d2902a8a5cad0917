"""Upstreams that do exactly what a test says, byte by byte, over real sockets."""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from relay.upstream import Destination, UpstreamEngine, UpstreamRequest

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(slots=True)
class Peer:
    """The upstream's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> tuple[bytes, bytes]:
        """Return head and body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        found = CONTENT_LENGTH.search(head)
        return head, await self.reader.readexactly(int(found[1]) if found else 0)

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a round of the loop of its own."""
        for piece in pieces:
            if self.writer.transport.is_closing():
                raise ConnectionResetError  # As drain says it; uvloop's write says RuntimeError.
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self, response: bytes) -> bytes:
        """Wait for a request, answer it, and return its head."""
        head, _ = await self.request()
        await self.send(response)
        return head

    def reset(self) -> None:
        """Close with RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def left(self) -> bytes:
        """Return what still came, once the other end has closed."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


Script = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class Upstream:
    """A listening server that plays a script on every connection."""

    script: Script
    tls: ssl.SSLContext | None = None
    accepted: int = 0
    port: int = 0
    failures: list[BaseException] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _plays: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def destination(self) -> Destination:
        return Destination(host="127.0.0.1", port=self.port, tls=False)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._play, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for play in self._plays:
            play.cancel()
        await asyncio.gather(*self._plays, return_exceptions=True)
        if self.failures:
            raise self.failures[0]

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._plays.add(task)
        try:
            await self.script(Peer(reader, writer))
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # The test is over, or the engine has left: as some tests want it to.
        except Exception as error:  # noqa: BLE001  Raised again when the server stops.
            self.failures.append(error)
        finally:
            self._plays.discard(task)
            writer.transport.abort()


Serve = Callable[..., Awaitable[Upstream]]


def call(destination: Destination, **fields: object) -> UpstreamRequest:
    """A request whose particulars do not matter."""
    given = {"method": b"GET", "target": b"/", "destination": destination, **fields}
    return UpstreamRequest(**given)  # type: ignore[arg-type]  # Each test knows its fields.


async def fetch(engine: UpstreamEngine, destination: Destination, **fields: object) -> bytes:
    """Return the body of the answer to a request whose particulars do not matter."""
    async with await engine.send(call(destination, **fields)) as response:
        return await response.read_all(1 << 24)


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds, giving the loop rounds to make it so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def open_sockets() -> int:
    """How many sockets this process holds."""
    return sum(path.is_socket() for path in Path("/proc/self/fd").iterdir())
