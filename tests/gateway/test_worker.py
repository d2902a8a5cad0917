"""How a worker's server starts, is announced, and stops, with real connections."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.http import HttpServer
from gateway.ports import bind_listener
from gateway.worker import WorkerServer
from relay.asgi_types import Receive, Scope, Send

Address = tuple[str, int]
GET = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"


class Application:
    """Answers at once, or, under /slow, when it is told to or has to stop."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.found: list[str] = []
        self.release = asyncio.Event()
        self.cut = asyncio.Event()
        self._open = 0
        self._settled = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self._open += 1
        if scope["path"] == "/slow":
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
            await self.release.wait()
        ending = b"cut" if self.cut.is_set() else b"whole"
        await send({"type": "http.response.body", "body": ending})
        self._open -= 1
        if not self._open:
            self._settled.set()

    async def start(self) -> None:
        self.events.append("start")

    async def drain(self, patience_seconds: float) -> None:
        self.events.append(f"drain {patience_seconds:g}")
        if not patience_seconds:
            self.cut.set()
            self.release.set()
        while self._open:
            self._settled.clear()
            await self._settled.wait()

    def problems(self) -> list[str]:
        return self.found


@pytest.fixture
def application() -> Application:
    return Application()


@asynccontextmanager
async def serving(application: Application) -> AsyncIterator[tuple[Address, asyncio.Event]]:
    """Where it listens and when it is ready; the test stops it."""
    listener = bind_listener("127.0.0.1", 0)
    address = listener.getsockname()
    ready = asyncio.Event()
    server = WorkerServer(
        HttpServer(application),
        application=application,
        patience_seconds=60,
        announce_ready=ready.set,
    )
    task = asyncio.create_task(server.serve(listener))
    try:
        yield address, ready
    except BaseException:
        server.stop()
        application.release.set()
        raise
    finally:
        async with asyncio.timeout(30):
            await task


@asynccontextmanager
async def connect(
    address: Address,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        # The server may have reset it, as it should when it refuses what is still coming.
        with suppress(ConnectionError):
            await writer.wait_closed()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_it_is_ready_when_there_are_no_problems(application: Application) -> None:
    application.found = ["not yet"]
    async with serving(application) as (address, ready):
        async with connect(address) as (reader, writer):
            writer.write(GET % b"")
            await reader.readuntil(b"whole")
            assert not ready.is_set()
            application.found = []
            await ready.wait()
        stop()
    assert application.events == ["start", "drain 60"]


async def test_a_stop_waits_for_calls_and_closes_what_is_idle(application: Application) -> None:
    async with serving(application) as (address, ready):
        await ready.wait()
        async with connect(address) as (busy, writer), connect(address) as (idle, _):
            writer.write(GET % b"slow")
            await busy.readuntil(b"begun ")
            stop()
            assert await idle.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)
            application.release.set()
            assert (await busy.read()).count(b"whole") == 1
    assert application.events == ["start", "drain 60"]


async def test_a_second_stop_hurries(application: Application) -> None:
    async with serving(application) as (address, ready):
        await ready.wait()
        async with connect(address) as (reader, writer):
            writer.write(GET % b"slow")
            await reader.readuntil(b"begun ")
            stop()
            while len(application.events) < 2:
                await asyncio.sleep(0.01)
            stop()
            assert (await reader.read()).count(b"cut") == 1
    assert application.events == ["start", "drain 60", "drain 0"]
