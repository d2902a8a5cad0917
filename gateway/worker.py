"""A worker process: uvicorn around our application, with an end in which calls get their time."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import uvicorn
from typing_extensions import override
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.ports import BACKLOG
from gateway.write_deadline import WriteDeadline
from relay.asgi_types import Receive, Scope, Send

KEEP_ALIVE_SECONDS = 75
# What a newcomer asks for first.
EXAMPLE_MODEL = "gpt-4o-mini"
# After the calls have ended: for clients that are slow to take the last bytes.
CLOSE_SECONDS = 5
# Real clients send less than 8 KB; httptools itself would keep what comes.
HEAD_LIMIT_BYTES = 64 * 1024


class DrainingApplication(Protocol):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def start(self) -> None: ...
    async def drain(self, patience_seconds: float) -> None: ...
    def problems(self) -> list[str]: ...


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a request whose head does not come to an end, and cuts who does not read on."""

    write_seconds = 60.0  # How long a client may take nothing of what waits for it.
    _write_deadline: WriteDeadline | None = None
    _running: RequestResponseCycle | None = None
    _in_head = True
    _head_ended = False
    _head_bytes = 0

    @override
    def data_received(self, data: bytes) -> None:
        self._head_ended = not self._in_head
        super().data_received(data)
        if self._in_head and not self._head_ended:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's head is too large.")

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_ended = True
        self._head_bytes = 0
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None and not self.transport.is_closing():
            self._write_deadline.stop()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reader()

    @override
    def eof_received(self) -> None:
        super().eof_received()  # The transport closes now, as soon as the client has read the rest.
        self._watch_reader()

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._write_deadline is not None:
            self._write_deadline.stop()
        super().connection_lost(exc)
        # uvicorn tells it to the latest request only. A client that has sent one behind the one
        # that is running would never be seen to leave.
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _watch_reader(self) -> None:
        if not self.transport.get_write_buffer_size():
            return
        if self._write_deadline is None:
            self._write_deadline = WriteDeadline(
                self.transport, loop=self.loop, seconds=self.write_seconds
            )
        self._write_deadline.start()


class WorkerServer(uvicorn.Server):
    """Stops on SIGTERM: first no new connections, then the calls end, then the connections do.

    A second SIGTERM hurries: streams get their error event at once, what is owed is still recorded.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        application: DrainingApplication,
        patience_seconds: float,
        announce_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._application = application
        self._patience_seconds = patience_seconds
        self._announce_ready = announce_ready
        self._announced = False
        self._hurry = asyncio.Event()

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._application.start()
        await super().startup(sockets)

    @override
    async def on_tick(self, counter: int) -> bool:
        if not self._announced and not self._application.problems():
            self._announced = True
            self._announce_ready()
        return await super().on_tick(counter)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # Whoever is idle goes, whoever waits for an answer gets no further one.
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            await self._drain()
        finally:
            await super().shutdown(sockets)

    def _stop(self) -> None:
        if self.should_exit:
            self._hurry.set()
        self.should_exit = True

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

    config = server_config(
        application,
        trusted_proxies=settings.TRUSTED_PROXIES,
        write_seconds=settings.WRITE_SECONDS,
    )
    server = WorkerServer(
        config,
        application=application,
        patience_seconds=settings.DRAIN_SECONDS,
        announce_ready=announce_ready,
    )
    server.run(sockets=[listener])


def simulator_run(listener: socket.socket) -> None:
    """The body of the simulated upstream's process; it is stopped when no worker calls it."""
    from relay.simulator import application
    from relay.simulator.tokens import Tokenizer

    # Loads the vocabulary, so that not even the first answer has to wait for it.
    Tokenizer(EXAMPLE_MODEL)
    # A worker that waits for its own slow client is not to be cut here before that one is.
    config = server_config(application, write_seconds=24 * 3600)
    uvicorn.Server(config).run(sockets=[listener])


def server_config(
    application: object,
    *,
    trusted_proxies: Sequence[str] = (),
    write_seconds: float = BoundedHttpProtocol.write_seconds,
) -> uvicorn.Config:
    # Below errors it tells of each invalid request, which anybody can send any number of.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        application,  # type: ignore[arg-type]  # Its own spelling of the ASGI types.
        loop="uvloop",
        http=type("WorkerHttp", (BoundedHttpProtocol,), {"write_seconds": write_seconds}),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
