"""The connections to one destination, and the calls that wait for one."""

import asyncio
import ssl
from collections import OrderedDict
from dataclasses import dataclass

from relay.upstream.connection import Connection
from relay.upstream.errors import (
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    PoolTimeout,
    TlsFailed,
)
from relay.upstream.limits import Limits
from relay.upstream.messages import Destination
from relay.upstream.tls import client_context

# Resolves to a connection, or to None, which stands for a bare slot.
Waiter = asyncio.Future[Connection | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """Open connections are idle or busy; waiting counts calls."""

    open: int
    idle: int
    busy: int
    connecting: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a connection and then, again, for its opening.

    `give_up_at` is in the loop's time and cuts both short.
    """

    seconds: float
    give_up_at: float


class Pool:
    """Hands out connections, at most as many as there are slots.

    A slot is the right to have one connection, from before it is opened until after it is gone.
    Whoever waits is handed a free connection, or a bare slot to open one with, in order of
    arrival; so as long as anybody waits, nothing is idle and no slot is free.
    """

    def __init__(self, destination: Destination, *, limits: Limits) -> None:
        self.authority = destination.authority
        self.destination = destination
        self._server_name = (
            (destination.server_name or destination.host) if destination.tls else None
        )
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._slots_taken = 0
        self._connections: set[Connection] = set()
        # Both are ordered sets. Of the idle, the one used last is taken, and the others expire.
        self._idle: dict[Connection, None] = {}
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._is_closed = False

    def take_idle(self) -> Connection | None:
        """Return a live connection that nobody uses, if there is one."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_alive():
                return connection
            connection.abort()
        return None

    async def acquire(self, patience: Patience) -> Connection:
        """Return a connection, to be started before anything is awaited. Raises UpstreamError."""
        is_first_in_line = False
        while True:
            if self._is_closed:
                raise ConnectFailed("The engine is closed.", sent=False)
            if (idle := self.take_idle()) is not None:
                return idle
            if self._slots_taken < self._limits.connections_per_destination:
                self._slots_taken += 1
                return await self._open(patience)
            connection = await self._wait(patience, is_first_in_line=is_first_in_line)
            if connection is None:
                return await self._open(patience)
            if connection.is_alive():
                return connection
            # It died between being handed over and now; nobody loses their place for that.
            connection.abort()
            is_first_in_line = True

    def statistics(self) -> PoolStatistics:
        open_count, idle_count = len(self._connections), len(self._idle)
        return PoolStatistics(
            open=open_count,
            idle=idle_count,
            busy=open_count - idle_count,
            connecting=self._slots_taken - open_count,
            waiting=len(self._waiting),
        )

    async def close(self) -> None:
        """Break every call and return when all sockets are closed."""
        self._is_closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(ConnectFailed("The engine was closed.", sent=False))
        connections = list(self._connections)
        for connection in connections:
            connection.break_off(ConnectionBroken("The engine was closed.", sent=True))
        for connection in connections:
            await connection.wait_lost()

    # For the connections.

    def connection_free(self, connection: Connection) -> None:
        if self._server_name is not None and not connection.has_served:
            # The server's ticket has come with its first answer, not with the handshake.
            connection.has_served = True
            self._remember_session(connection, self._server_name)
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        else:
            self._idle[connection] = None

    def connection_gone(self, connection: Connection) -> None:
        # One that broke while it was being opened never came in here; its opener has the slot.
        if connection in self._connections:
            self._connections.remove(connection)
            self._idle.pop(connection, None)
            self._give_back_slot()

    # Inside.

    def _next_waiter(self) -> Waiter | None:
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():  # Else it was cancelled in this very round of the loop.
                return waiter
        return None

    def _give_back_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
        else:
            self._slots_taken -= 1

    async def _wait(self, patience: Patience, *, is_first_in_line: bool) -> Connection | None:
        """Return a connection, or None, which stands for a bare slot."""
        if len(self._waiting) >= self._limits.waiting_per_destination:
            raise PoolTimeout("Too many calls wait for a connection.", sent=False)
        waiter: Waiter = self._loop.create_future()
        self._waiting[waiter] = None
        if is_first_in_line:
            self._waiting.move_to_end(waiter, last=False)
        try:
            async with asyncio.timeout_at(self._stage_end(patience)):
                return await waiter
        except BaseException as error:
            self._waiting.pop(waiter, None)
            self._decline(waiter)
            if isinstance(error, TimeoutError):
                raise PoolTimeout("No connection became free in time.", sent=False) from error
            raise

    def _decline(self, waiter: Waiter) -> None:
        """Pass on what a waiter was given and, being cancelled at that moment, cannot use."""
        if waiter.cancelled() or waiter.exception() is not None:
            return
        connection = waiter.result()
        if connection is None:
            self._give_back_slot()
        elif connection.is_alive():
            self.connection_free(connection)
        else:
            connection.abort()

    async def _open(self, patience: Patience) -> Connection:
        """Turn a slot into a connection; on failure the slot goes back."""
        try:
            connection = await self._connect(patience)
        except BaseException:
            self._give_back_slot()
            raise
        self._connections.add(connection)
        return connection

    async def _connect(self, patience: Patience) -> Connection:
        destination, loop = self.destination, self._loop
        try:
            context = client_context(destination.ca_file) if destination.tls else None
            async with asyncio.timeout_at(self._stage_end(patience)):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop=loop, owner=self, limits=self._limits),
                    destination.host,
                    destination.port,
                    ssl=context,
                    server_hostname=self._server_name,
                )
        except TimeoutError as error:
            raise ConnectTimeout(
                "The upstream could not be reached in time.", sent=False
            ) from error
        except ssl.SSLError as error:
            raise TlsFailed(f"No TLS with the upstream: {error}.", sent=False) from error
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"The upstream cannot be reached: {error}.", sent=False) from error
        if self._is_closed or not connection.is_open():
            connection.abort()
            raise ConnectFailed("The connection was closed as soon as it was open.", sent=False)
        return connection

    def _stage_end(self, patience: Patience) -> float:
        return min(self._loop.time() + patience.seconds, patience.give_up_at)

    def _remember_session(self, connection: Connection, server_name: str) -> None:
        session = connection.tls_session()
        if session is not None:
            client_context(self.destination.ca_file).remember(server_name, session)
