"""One PostgreSQL connection of the engine: transactions whose outcome is either known or not."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
CHANNEL = "tollgate"
# Of the state that the server or the line is in, not of what was asked: read-only, out of space,
# shutting down, deadlocked, gone. The same may well succeed a moment later.
NOT_NOW = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)


class OutcomeUnknown(Exception):
    """The transaction may have been applied, may not, or may be applied seconds from now."""


class Database:
    """Runs one transaction at a time; a connection that failed is thrown away, never reused."""

    def __init__(self, *, url: str, timeout: float, listen: bool = False) -> None:
        self.connected_at = float("inf")  # Loop time of the current connection's beginning.
        self.connections = 0  # How many were made; who listens must look again after each.
        self._timeout = timeout
        self._listen = listen
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._conninfo = make_conninfo(
            url,
            connect_timeout=max(2, round(timeout)),
            application_name="tollgate-engine",
            # A message on a broken network lives at most this long (PROTOCOL: LATE_MESSAGE).
            tcp_user_timeout=10_000,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            # The server ends the session of a line that we have cut, even if it waits for a lock.
            options="-c idle_in_transaction_session_timeout=10000"
            " -c client_connection_check_interval=1000"
            # Each statement is planned once a connection, whatever arrays it is given; and it finds
            # its rows by their keys, however small the tables were when it was planned.
            " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off",
        )

    async def run(
        self,
        transaction: Callable[[Connection], Awaitable[T]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  It bounds the statement too, and is per call.
    ) -> T:
        """Run it in one transaction.

        Raises OutcomeUnknown where the answer is lost; a definite refusal by the database
        (psycopg.IntegrityError, DataError ...) passes through, and then nothing was applied.
        """
        seconds = timeout or self._timeout
        async with self._turn():
            try:
                connection = await self._connected()
                return await _within(seconds, connection, _transact(connection, transaction))
            except NOT_NOW as error:
                await self._discard()
                raise OutcomeUnknown(str(error) or type(error).__name__) from error
            except asyncio.CancelledError:
                await self._discard()
                raise

    async def notifications(self, *, within: float) -> list[str]:
        """The payloads that arrive within so many seconds, from the first one on.

        Raises OutcomeUnknown.
        """
        async with self._turn():
            try:
                connection = await self._connected()
                return [n.payload async for n in connection.notifies(timeout=within, stop_after=1)]
            except NOT_NOW as error:
                await self._discard()
                raise OutcomeUnknown(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        async with self._lock:
            await self._discard()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One transaction at a time; who waits too long for those before it gives up, too."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._lock.acquire()
        except TimeoutError:
            raise OutcomeUnknown("the connection is busy") from None
        try:
            yield
        finally:
            self._lock.release()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection: Connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True
            )
            self._connection = connection
            self.connections += 1
            self.connected_at = asyncio.get_running_loop().time()
            if self._listen:
                await _within(self._timeout, connection, connection.execute(f"LISTEN {CHANNEL}"))
        return self._connection

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing only frees the socket; it waits for nothing that a dead server could withhold.
            await connection.close()


async def _transact(connection: Connection, transaction: Callable[[Connection], Awaitable[T]]) -> T:
    async with connection.transaction():
        return await transaction(connection)


async def _within(seconds: float, connection: Connection, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, or a psycopg.OperationalError when it takes longer.

    The driver would first ask a silent server to cancel, and wait for that; so the line is cut.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            _cut(connection)
            await asyncio.wait({task})
            task.exception()  # Seen; when we are cancelled, nobody asks for it any more.
    return task.result()


def _cut(connection: Connection) -> None:
    """Whoever waits for the server on this connection is told at once that it is broken."""
    with (
        suppress(psycopg.OperationalError, OSError),  # It has broken by itself.
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)
