"""A worker process: our HTTP server around our application, and its end: calls get their time."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import uvloop

from gateway.http import HttpServer, Limits
from relay.asgi_types import Receive, Scope, Send

# What a newcomer asks for first.
EXAMPLE_MODEL = "gpt-4o-mini"
# After the calls have ended: for clients that are slow to take the last bytes.
CLOSE_SECONDS = 5.0
LOOK_SECONDS = 0.05


class DrainingApplication(Protocol):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def start(self) -> None: ...
    async def drain(self, patience_seconds: float) -> None: ...
    def problems(self) -> list[str]: ...


class WorkerServer:
    """Stops on SIGTERM: first no new connections, then the calls end, then the connections do.

    A second SIGTERM hurries: streams get their error event at once, what is owed is still recorded.
    """

    def __init__(
        self,
        server: HttpServer,
        *,
        application: DrainingApplication,
        patience_seconds: float,
        announce_ready: Callable[[], None],
    ) -> None:
        self._server = server
        self._application = application
        self._patience_seconds = patience_seconds
        self._announce_ready = announce_ready
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """Called again, it hurries."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def serve(self, listener: socket.socket) -> None:
        """Return when it was stopped and everything has ended."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        await self._application.start()
        await self._server.listen(listener)
        announcing = asyncio.create_task(self._announce())
        await self._stop.wait()
        announcing.cancel()
        # Whoever is idle goes, whoever waits for an answer gets no further one.
        self._server.shut_down()
        try:
            await self._drain()
        finally:
            await self._server.close(CLOSE_SECONDS)

    async def _announce(self) -> None:
        while self._application.problems():  # noqa: ASYNC110  Nobody tells when they end.
            await asyncio.sleep(LOOK_SECONDS)
        self._announce_ready()

    async def _drain(self) -> None:
        draining = asyncio.ensure_future(self._application.drain(self._patience_seconds))
        hurrying = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            await self._application.drain(0)
        hurrying.cancel()
        await draining


def worker_run(listener: socket.socket, *, ready_descriptor: int) -> None:
    """The body of a worker process. A byte to the descriptor says that it is ready."""
    # Loaded by the supervisor already, so this costs nothing here.
    from django.conf import settings

    from gateway.asgi import application

    def announce_ready() -> None:
        os.write(ready_descriptor, b"1")
        os.close(ready_descriptor)

    # Calls leave hardly any cycles behind; to look for them every 700 objects costs a twentieth.
    gc.set_threshold(10_000, 20, 50)

    async def main() -> None:
        http = HttpServer(
            application,
            limits=Limits(write_seconds=settings.WRITE_SECONDS),
            trusted_proxies=settings.TRUSTED_PROXIES,
        )
        server = WorkerServer(
            http,
            application=application,
            patience_seconds=settings.DRAIN_SECONDS,
            announce_ready=announce_ready,
        )
        await server.serve(listener)

    _run(main())


def simulator_run(listener: socket.socket) -> None:
    """The body of the simulated upstream's process; it is stopped when no worker calls it."""
    from relay.simulator import application
    from relay.simulator.tokens import Tokenizer

    # Loads the vocabulary, so that not even the first answer has to wait for it.
    Tokenizer(EXAMPLE_MODEL)

    async def main() -> None:
        # A worker that waits for its own slow client is not to be cut here before that one is.
        http = HttpServer(application, limits=Limits(write_seconds=24 * 3600))
        await http.listen(listener)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        await http.close(CLOSE_SECONDS)

    _run(main())


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
