"""A server on a real port, an application that a test writes, and a client of raw bytes."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gateway.http import HttpServer, Limits
from gateway.ports import bind_listener
from relay.asgi_types import DIRECT, Application, Receive, Scope, Send

PATIENCE_SECONDS = 20.0
READ_BYTES = 2**20


@dataclass
class Echo:
    """Answers with what it was asked, and remembers it."""

    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append({name: scope[name] for name in scope if name != DIRECT})
        body = await read_body(receive)
        self.bodies.append(body)
        path = scope["raw_path"]
        await reply(send, b"%b:%b" % (path, body))


async def read_body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", "the client has left"
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


async def reply(send: Send, body: bytes, *, status: int = 200, **headers: str) -> None:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def piece(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Wire:
    """The client's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def read(self) -> bytes:
        """Some bytes; none at the end, be it orderly or not."""
        try:
            data = await self._loop.sock_recv(self.socket, READ_BYTES)
        except ConnectionError:
            return b""
        self.received += data
        return data

    async def see(self, text: bytes) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in self.received:
                assert await self.read(), f"closed after {self.received[-300:]!r}"

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.read():
                pass
        return self.received

    async def answer(self) -> "Answer":
        """The next whole answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := Answer.parse(self.received)) is None:
                assert await self.read(), f"closed after {self.received[-300:]!r}"
        answer, self.received = found
        return answer

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> "tuple[Answer, bytes] | None":
        """An answer that is framed by length or chunks, and what comes behind it."""
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        assert len(headers) == len(lines) - 1, "a header came twice"
        status = int(lines[0].split(" ")[1])
        framed = _unchunk(rest) if "transfer-encoding" in headers else _count(rest, headers)
        if framed is None:
            return None
        return cls(status, headers, framed[0]), framed[1]

    @property
    def error(self) -> dict[str, Any]:
        """Of an answer in OpenAI's shape."""
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"].startswith("req_")
        document = json.loads(self.body)
        assert list(document) == ["error"]
        error: dict[str, Any] = document["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


def _count(data: bytes, headers: dict[str, str]) -> tuple[bytes, bytes] | None:
    length = int(headers.get("content-length", "0"))
    return None if len(data) < length else (data[:length], data[length:])


def _unchunk(data: bytes) -> tuple[bytes, bytes] | None:
    pieces = []
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        size = int(line, 16)
        if len(data) < size + 2:
            return None
        assert data[size : size + 2] == b"\r\n"
        pieces.append(data[:size])
        data = data[size + 2 :]
        if not size:
            return b"".join(pieces), data


@dataclass
class Served:
    server: HttpServer
    port: int
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, *, buffer_bytes: int | None = None) -> Wire:
        connection = socket.socket()
        connection.setblocking(False)
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        wire = Wire(connection)
        self.wires.append(wire)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        return wire

    async def ask(self, data: bytes) -> Answer:
        """The answer to these bytes on a connection of their own."""
        wire = await self.connect()
        await wire.send(data)
        return await wire.answer()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}") from None


@asynccontextmanager
async def serving(
    application: Application, *, trusted_proxies: tuple[str, ...] = (), **limits: Any
) -> AsyncIterator[Served]:
    server = HttpServer(application, limits=Limits(**limits), trusted_proxies=trusted_proxies)
    listener = bind_listener("127.0.0.1", 0)
    served = Served(server, listener.getsockname()[1])
    await server.listen(listener)
    try:
        yield served
    finally:
        for wire in served.wires:
            with suppress(OSError):
                wire.socket.close()
        await server.close(1.0)
