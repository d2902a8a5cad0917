"""All connections of one process, from the first to the last."""

import asyncio
import socket
from collections.abc import Sequence

from gateway.http.cycle import Cycle
from gateway.http.limits import Limits
from gateway.http.protocol import HttpProtocol
from gateway.http.proxies import TrustedProxies
from gateway.http.wakeup import Wakeup
from gateway.ports import BACKLOG
from relay.asgi_types import Application

DEFAULT_LIMITS = Limits()


class HttpServer:
    """Serves one ASGI application; made within the event loop that runs it."""

    def __init__(
        self,
        application: Application,
        *,
        limits: Limits = DEFAULT_LIMITS,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.limits = limits
        self.proxies = TrustedProxies(trusted_proxies)
        self.connections: set[HttpProtocol] = set()
        self.cycles: set[Cycle] = set()
        self.is_stopping = False
        self._application = application
        self._trusts_nobody = not trusted_proxies
        self._loop = asyncio.get_running_loop()
        self._ended = Wakeup(self._loop)
        self._listeners: list[asyncio.Server] = []

    async def listen(self, listener: socket.socket) -> None:
        server = await self._loop.create_server(self.connection, sock=listener, backlog=BACKLOG)
        self._listeners.append(server)

    def connection(self) -> HttpProtocol:
        return HttpProtocol(self, loop=self._loop)

    def shut_down(self) -> None:
        """Take no new connections, close the idle ones, and each other behind its answer."""
        self.is_stopping = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.shut_down()

    async def close(self, patience_seconds: float) -> None:
        """Shut down, and cut what has not ended in time."""
        self.shut_down()
        try:
            async with asyncio.timeout(patience_seconds):
                await self._wait_ended()
        except TimeoutError:
            for connection in list(self.connections):
                connection.transport.abort()
            tasks = [cycle.task for cycle in self.cycles if cycle.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.cycles.clear()  # Of those that had not even begun.
            await self._wait_ended()

    async def _wait_ended(self) -> None:
        while self.connections or self.cycles:
            await self._ended.wait()

    # For the connections.

    def trusts(self, host: str) -> bool:
        return not self._trusts_nobody and self.proxies.trusts(host)

    def start(self, cycle: Cycle) -> None:
        self.cycles.add(cycle)
        cycle.task = self._loop.create_task(cycle.run(self._application, self._cycle_ended))

    def _cycle_ended(self, cycle: Cycle) -> None:
        self.cycles.discard(cycle)
        if self.is_stopping:
            self._ended.wake()

    def connection_lost(self, connection: HttpProtocol) -> None:
        self.connections.discard(connection)
        self._ended.wake()
