"""The line between an engine and its database, in the test's hands: held, released, cut."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.http_client import hang_up

_CHUNK_BYTES = 65536


class Line:
    """A relay in front of PostgreSQL. What it holds back may arrive after its sender's death."""

    def __init__(self, url: str) -> None:
        self._target = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._marks: tuple[bytes, ...] = ()
        self._open = asyncio.Event()
        self._open.set()
        self.held = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """What the engine is told instead of the database's own address."""
        assert self._server is not None, "the line was not opened"
        port = self._server.sockets[0].getsockname()[1]
        return make_conninfo("", **{**self._target, "host": "127.0.0.1", "port": str(port)})

    def hold_at(self, *marks: bytes) -> None:
        """Hold back what a client sends from the message on that has the last mark.

        The marks before it must have been seen, in this order, on the same connection.
        """
        self._marks = marks
        self.held.clear()
        self._open.clear()

    def hold_all(self) -> None:
        self.hold_at(b"")

    def release(self) -> None:
        """Let it arrive, late."""
        self._marks = ()
        self._open.set()

    async def cut(self) -> None:
        """Break all connections, with what was held."""
        await asyncio.sleep(0)  # Who was accepted just now has begun, and so closes what it has.
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.release()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            server_reader, server_writer = await self._connect()
            answers = asyncio.create_task(_copy(server_reader, writer))
            try:
                # To its end, even if the client has died: the server knows nothing of that yet.
                await self._forward(reader, server_writer)
            finally:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
                await hang_up(server_writer)
        finally:
            await hang_up(writer)

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        host, port = self._target["host"], self._target.get("port", "5432")
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    async def _forward(self, reader: StreamReader, writer: StreamWriter) -> None:
        seen = 0
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                while seen < len(self._marks) and self._marks[seen] in data:
                    seen += 1
                if self._marks and seen == len(self._marks):
                    self.held.set()
                    await self._open.wait()
                    seen = 0
                writer.write(data)
                await writer.drain()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
