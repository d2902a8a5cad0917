"""An engine whose database connections fail on purpose: before, within and after a transaction."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from typing_extensions import override

from billing.engine.database import Connection, Database, OutcomeUnknown
from billing.engine.engine import MoneyEngine
from billing.engine.settings import EngineSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Fate:
    """What happens to one transaction."""

    # passes, cut (never arrives), breaks (at a statement), answer_lost, slow_answer, late
    kind: str
    statement: int = 0


PASSES = Fate("passes")
SLOW_SECONDS = 0.3


@dataclass
class Faults:
    """The fates of the next transactions, and those that will arrive late."""

    coming: list[Fate] = field(default_factory=list)
    late: list[tuple["FaultyDatabase", Callable[[], Awaitable[Any]]]] = field(default_factory=list)
    met: int = 0
    refused: list[Exception] = field(default_factory=list)

    def draw(self) -> Fate:
        fate = self.coming.pop(0) if self.coming else PASSES
        self.met += fate is not PASSES
        return fate

    async def deliver(self) -> None:
        """The late messages arrive now; nobody hears of their outcome."""
        while self.late:
            database, message = self.late.pop(0)
            try:
                await message()
            except (OutcomeUnknown, psycopg.Error) as error:
                self.refused.append(error)  # Its sender has long given up.
            if database.abandoned:
                await database.close()


class Breaking:
    """A connection that breaks when its nth statement is sent."""

    def __init__(self, connection: Connection, statement: int) -> None:
        self._connection = connection
        self._left = statement

    def _count(self) -> None:
        if self._left == 0:
            raise psycopg.OperationalError("the connection broke on purpose")
        self._left -= 1

    async def execute(self, *arguments: Any) -> Any:
        self._count()
        return await self._connection.execute(*arguments)

    def cursor(self) -> Any:
        self._count()
        return self._connection.cursor()


class FaultyDatabase(Database):
    faults: Faults
    abandoned = False  # Its engine is dead; what it still sends is late messages.

    @override
    async def run(
        self,
        transaction: Callable[[Connection], Awaitable[T]],
        *,
        timeout: float | None = None,
    ) -> T:
        fate = self.faults.draw()
        if fate.kind == "cut":
            raise OutcomeUnknown("cut on purpose")
        if fate.kind == "late":
            late = partial(super().run, transaction, timeout=timeout)
            self.faults.late.append((self, late))
            raise OutcomeUnknown("late on purpose")
        if fate.kind == "breaks":

            async def breaking(connection: Connection) -> T:
                return await transaction(Breaking(connection, fate.statement))  # type: ignore[arg-type]  # It has what is used.

            return await super().run(breaking, timeout=timeout)
        result = await super().run(transaction, timeout=timeout)
        if fate.kind == "slow_answer":
            await asyncio.sleep(SLOW_SECONDS)
        if fate.kind == "answer_lost":
            raise OutcomeUnknown("answer lost on purpose")
        return result


class FaultyEngine(MoneyEngine):
    def __init__(self, settings: EngineSettings, faults: Faults) -> None:
        self._faults = faults
        super().__init__(settings)

    @override
    def _database(self, *, listen: bool = False) -> Database:
        database = FaultyDatabase(
            url=self.settings.database_url,
            timeout=self.settings.timing.timeout,
            listen=listen,
        )
        database.faults = self._faults
        return database

    def serving(self) -> list[UUID]:
        """The worker that serves now; none for an instant, when the database gave it up."""
        return [worker.id for worker in self._workers[-1:]]

    async def die(self) -> None:
        """As after `kill -9`: nothing is finished; the kernel frees the locks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            await worker.book.close()
            os.close(worker.journal._lock)
        self.abandon()
        for database in (self.leases_database, self._shipping_database):
            await database.close()

    def abandon(self) -> None:
        """Late messages may still arrive from it, and nothing else."""
        for database in (self.leases_database, self._shipping_database):
            assert isinstance(database, FaultyDatabase)
            database.abandoned = True
