"""One PostgreSQL connection of the engine: transactions whose outcome is either known or not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
CHANNEL = "tollgate"


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
            options="-c idle_in_transaction_session_timeout=10000",
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
        async with self._lock:
            try:
                async with asyncio.timeout(timeout or self._timeout):
                    connection = await self._connected()
                    async with connection.transaction():
                        return await transaction(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                await self._discard()
                raise OutcomeUnknown(str(error) or type(error).__name__) from error
            except asyncio.CancelledError:
                await self._discard()
                raise

    async def notifications(self, *, within: float) -> list[str]:
        """The payloads that arrive within so many seconds, from the first one on.

        Raises OutcomeUnknown.
        """
        async with self._lock:
            try:
                connection = await self._connected()
                return [n.payload async for n in connection.notifies(timeout=within, stop_after=1)]
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                await self._discard()
                raise OutcomeUnknown(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        async with self._lock:
            await self._discard()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True
            )
            self.connections += 1
            self.connected_at = asyncio.get_running_loop().time()
            if self._listen:
                await self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing only frees the socket; it waits for nothing that a dead server could withhold.
            await connection.close()
