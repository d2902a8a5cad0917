"""Where a worker's lease operations wait for its connection, and then go together.

While one transaction is under way, others come to wait; the next one takes them all. So a worker
with one organization asks at once, and one with a thousand asks for many of them in one go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from billing.engine import giving, growing
from billing.engine.database import Connection, Database, OutcomeUnknown
from billing.engine.funds import Want
from billing.engine.giving import Return
from billing.engine.growing import GrowAnswer
from billing.engine.leases import LeaseView
from billing.engine.money_moves import WalletMissing
from billing.engine.timing import Timing, now

MOST_TOGETHER = 64  # Their wallets are locked until the last of them is written.
Q = TypeVar("Q")
A = TypeVar("A")


class Answered(Generic[A]):
    """An answer, and when it was asked for, on the worker's clock."""

    def __init__(self, value: A, sent_at: float) -> None:
        self.value = value
        self.sent_at = sent_at


class Desk:
    def __init__(self, *, worker_id: UUID, database: Database, timing: Timing) -> None:
        send_grow = partial(_grow, worker_id=worker_id, timing=timing)
        self._growing: Queue[Want, GrowAnswer | None] = Queue(database, send_grow)
        self._giving: Queue[Return, LeaseView | None] = Queue(database, _give)
        self._runner: asyncio.Task[None] | None = None

    async def grow(self, want: Want) -> Answered[GrowAnswer | None]:
        """Raises OutcomeUnknown, WalletMissing, and what the database definitely refuses."""
        return await self._asked(self._growing.put(want))

    async def give(self, part: Return) -> Answered[LeaseView | None]:
        """Raises as above."""
        return await self._asked(self._giving.put(part))

    async def _asked(self, answer: "asyncio.Future[Answered[A]]") -> Answered[A]:
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._run())
        return await answer

    async def _run(self) -> None:
        # What somebody gives back, somebody else may be waiting for: it goes first.
        while self._giving.waiting or self._growing.waiting:
            await self._giving.send()
            await self._growing.send()

    async def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)


class Queue(Generic[Q, A]):
    """Operations of one kind; `transaction` answers each, in their order."""

    def __init__(
        self,
        database: Database,
        transaction: Callable[[Connection, Sequence[Q]], Awaitable[Sequence[Any]]],
    ) -> None:
        self.waiting: list[tuple[Q, asyncio.Future[Answered[A]]]] = []
        self._database = database
        self._transaction = transaction
        self._most = MOST_TOGETHER

    def put(self, operation: Q) -> "asyncio.Future[Answered[A]]":
        answer: asyncio.Future[Answered[A]] = asyncio.get_running_loop().create_future()
        self.waiting.append((operation, answer))
        return answer

    async def send(self) -> None:
        """The next ones. Where their outcome is unknown, the following ones go in smaller groups.

        So an organization whose wallet somebody keeps locked does not hold up the others for long.
        """
        asked, self.waiting = self.waiting[: self._most], self.waiting[self._most :]
        if not asked:
            return
        try:
            await self._send_together(asked)
            self._most = min(2 * self._most, MOST_TOGETHER)
        except OutcomeUnknown as error:
            self._most = max(1, len(asked) // 2)
            for _, answer in asked:
                _fail(answer, error)
        except Exception as error:  # noqa: BLE001  It reaches whoever asked.
            # A definite refusal: nothing was applied. Only who is to blame shall suffer from it.
            if len(asked) == 1:
                _fail(asked[0][1], error)
            else:
                for each in reversed(asked):
                    self.waiting.insert(0, each)
                self._most = max(1, len(asked) // 2)

    async def _send_together(self, asked: list[tuple[Q, "asyncio.Future[Answered[A]]"]]) -> None:
        sent_at = now()
        operations = [operation for operation, _ in asked]
        answers = await self._database.run(partial(_call, self._transaction, operations))
        for (_, future), value in zip(asked, answers, strict=True):
            if isinstance(value, Exception):
                _fail(future, value)
            elif not future.done():
                future.set_result(Answered(value, sent_at))


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


async def _call(
    transaction: Callable[[Connection, Sequence[Q]], Awaitable[Sequence[Any]]],
    operations: Sequence[Q],
    connection: Connection,
) -> Sequence[Any]:
    return await transaction(connection, operations)


async def _grow(
    connection: Connection, wants: Sequence[Want], *, worker_id: UUID, timing: Timing
) -> Sequence[GrowAnswer | WalletMissing | None]:
    answers = await growing.grow(connection, worker_id=worker_id, wants=wants, timing=timing)
    return [None] * len(wants) if answers is None else answers


async def _give(
    connection: Connection, returns: Sequence[Return]
) -> Sequence[LeaseView | WalletMissing | None]:
    return await giving.give(connection, returns=returns)
