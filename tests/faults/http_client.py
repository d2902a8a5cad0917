"""A small HTTP/1.1 client that tells exactly how much of an answer it saw."""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

BROKEN = (OSError, IncompleteReadError, asyncio.LimitOverrunError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int  # 0: not even a head came.
    headers: dict[str, str]
    body: bytes
    is_whole: bool  # The body has ended as its head said it would.


NOTHING = Answer(status=0, headers={}, body=b"", is_whole=False)


class Connection:
    """One connection for one call after another, until one of them breaks it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    async def post(
        self, path: str, api_key: str, body: bytes, *, head: str = "content-type: application/json"
    ) -> Answer:
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}\r\n"
        return await self._ask(head, api_key, body)

    async def get(self, path: str, api_key: str = "") -> Answer:
        return await self._ask(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n", api_key, b"")

    async def _ask(self, head: str, api_key: str, body: bytes) -> Answer:
        try:
            await self._send(head, api_key, body)
            return await self.receive()
        except BROKEN:
            await self.close()
            return NOTHING

    async def send(self, path: str, api_key: str, body: bytes) -> None:
        """Send a call and, until `receive`, read next to nothing of its answer."""
        await self._send(f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n", api_key, body)

    async def _send(self, head: str, api_key: str, body: bytes) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        if api_key:
            head += f"authorization: Bearer {api_key}\r\n"
        _, writer = self._streams
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    async def receive(self) -> Answer:
        assert self._streams is not None, "nothing was sent"
        try:
            answer = await _answer(self._streams[0])
        except BROKEN:
            answer = NOTHING
        if not answer.is_whole or answer.headers.get("connection") == "close":
            await self.close()
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._streams is not None:
            (_, writer), self._streams = self._streams, None
            await hang_up(writer)


async def hang_up(writer: StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _answer(reader: StreamReader) -> Answer:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    pieces: list[bytes] = []
    try:
        await _read_body(reader, headers, pieces)
        is_whole = True
    except IncompleteReadError as error:
        pieces.append(error.partial)
        is_whole = False
    except OSError:
        is_whole = False
    status = int(lines[0].split(" ")[1])
    return Answer(status=status, headers=headers, body=b"".join(pieces), is_whole=is_whole)


async def _read_body(reader: StreamReader, headers: dict[str, str], pieces: list[bytes]) -> None:
    if headers.get("transfer-encoding") != "chunked":
        pieces.append(await reader.readexactly(int(headers.get("content-length", "0"))))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
