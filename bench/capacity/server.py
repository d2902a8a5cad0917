"""A PostgreSQL in memory: connections, row locks, its cores, commits, notifications.

It takes as long as it is told (`Costs`): a statement needs the line both ways and time on one of
the cores; a commit that wrote something waits for the disk; who needs a row that another
transaction has locked waits in the order of arrival. Nothing else is slow, and nothing is lost.
"""

import asyncio
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.capacity.books import Books
from bench.capacity.sql import LockKey, Parameters, Rows, Transaction
from bench.capacity.statements import find


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """In seconds. The defaults are the figures of `inputs.json`, rounded up."""

    round_trip: float = 0.000_5
    statement: float = 0.000_07
    record: float = 0.000_007
    commit: float = 0.001
    notified: float = 0.000_05  # A session is woken up and sends what it was notified of.
    cores: int = 4


class Cores:
    """So many statements are executed at once; the others wait in the order of their arrival."""

    def __init__(self, count: int) -> None:
        self._free_at = [0.0] * count
        self.busy_seconds = 0.0

    def end_of(self, seconds: float, now: float) -> float:
        end = max(now, heapq.heappop(self._free_at)) + seconds
        heapq.heappush(self._free_at, end)
        self.busy_seconds += seconds
        return end


@dataclass(slots=True)
class RowLock:
    holders: dict[Transaction, bool] = field(default_factory=dict)  # Each: whether exclusively.
    queue: deque[tuple[Transaction, bool, asyncio.Future[None]]] = field(default_factory=deque)

    def admits(self, transaction: Transaction, *, exclusive: bool) -> bool:
        others = [held for holder, held in self.holders.items() if holder is not transaction]
        return not others or not (exclusive or any(others))

    def hand_on(self) -> None:
        while self.queue:
            transaction, exclusive, future = self.queue[0]
            if not future.done():
                if not self.admits(transaction, exclusive=exclusive):
                    return
                self.holders[transaction] = exclusive or self.holders.get(transaction, False)
                future.set_result(None)
            self.queue.popleft()


@dataclass(slots=True)
class Tally:
    """What the server was asked since the last reset."""

    since: float
    transactions: Counter[str] = field(default_factory=Counter)
    statements: Counter[str] = field(default_factory=Counter)
    by_wallet: Counter[int] = field(default_factory=Counter)  # Statements of lease operations.
    wallet_waits: list[float] = field(default_factory=list)
    wallet_held: Counter[int] = field(default_factory=Counter)  # In nanoseconds.
    busy_seconds: float = 0.0


LEASE_KINDS = ("lease_grow", "lease_return", "lease_close", "short", "none")


class Server:
    def __init__(self, costs: Costs) -> None:
        self.books = Books()
        self.costs = costs
        self.cores = Cores(costs.cores)
        self.listeners: dict[Session, None] = {}  # In order: the same one each time.
        self.on_freed: Callable[[Transaction], None] = lambda _: None
        self.total: Counter[str] = Counter()  # Transactions by kind, from the beginning.
        self._locks: dict[LockKey, RowLock] = defaultdict(RowLock)
        self.tally = Tally(since=self.now())

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def reset_tally(self) -> None:
        self.tally = Tally(since=self.now(), busy_seconds=self.cores.busy_seconds)

    def row(self, key: LockKey) -> RowLock:
        return self._locks[key._replace(exclusive=True)]

    def let_go(self, keys: dict[LockKey, float], transaction: Transaction) -> None:
        now = self.now()
        for key, since in keys.items():
            row = self.row(key)
            row.holders.pop(transaction, None)
            row.hand_on()
            if key.table == "wallet":
                self.tally.wallet_held[key.key] += int((now - since) * 1e9)
            if not (row.holders or row.queue):
                del self._locks[key._replace(exclusive=True)]

    def ended(self, transaction: Transaction) -> None:
        """It is committed."""
        tally = self.tally
        self.total[transaction.kind] += 1
        tally.transactions[transaction.kind] += 1
        tally.statements[transaction.kind] += transaction.statements
        if transaction.kind in LEASE_KINDS:
            tally.by_wallet.update(dict.fromkeys(transaction.organizations, transaction.statements))
        if transaction.freed:
            self.on_freed(transaction)
        for payload in dict.fromkeys(transaction.payloads):
            self.tell(payload)

    def tell(self, payload: str) -> None:
        loop, costs = asyncio.get_running_loop(), self.costs
        for session in self.listeners:
            at = self.cores.end_of(costs.notified, loop.time()) + costs.round_trip / 2
            loop.call_at(at, session.notified, payload)


@dataclass(frozen=True, slots=True)
class Notification:
    payload: str


class Cursor:
    def __init__(self, answer: Rows | int, session: "Session") -> None:
        self._rows = deque(answer) if isinstance(answer, list) else deque()
        self.rowcount = len(answer) if isinstance(answer, list) else answer
        self._session = session

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.popleft() if self._rows else None

    async def fetchall(self) -> Rows:
        rows, self._rows = list(self._rows), deque()
        return rows

    @asynccontextmanager
    async def copy(self, query: str) -> AsyncIterator["Cursor"]:
        assert query.startswith("COPY billing_usagerecord"), "nothing else is copied"
        yield self

    async def write(self, data: bytes) -> None:
        await self._session.copied(data)


class Session:
    """What the engine takes for its connection."""

    def __init__(self, server: Server) -> None:
        self.closed = False
        self._server = server
        self._transaction: Transaction | None = None
        self._locked: dict[LockKey, float] = {}
        self._waits_for: asyncio.Future[None] | None = None
        self._inbox: deque[str] = deque()
        self._bell: asyncio.Future[None] | None = None

    # --- The line --------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Whoever asks for it means to cut the line: there is no descriptor to shut down."""
        self._break()
        raise OSError("no descriptor")

    def _break(self) -> None:
        self.closed = True
        self._server.listeners.pop(self, None)
        for future in (self._waits_for, self._bell):
            if future is not None and not future.done():
                future.set_exception(psycopg.OperationalError("the line was cut"))

    async def close(self) -> None:
        self._break()
        self._roll_back()

    async def _until(self, at: float) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_at(at, _finish, future)
        try:
            await self._wait(future)
        finally:
            timer.cancel()

    async def _wait(self, future: asyncio.Future[None]) -> None:
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        self._waits_for = future
        try:
            await future
        finally:
            self._waits_for = None

    # --- Statements ------------------------------------------------------------------------------

    async def execute(self, query: str, parameters: Parameters = ()) -> Cursor:
        server, costs = self._server, self._server.costs
        found = find(query)
        if query.startswith("LISTEN"):
            server.listeners[self] = None
        transaction = self._transaction or Transaction(server.books)
        transaction.statements += 1
        keys = found.locks(server.books, parameters)
        arrived = server.now() + costs.round_trip / 2
        if keys:
            await self._until(arrived)
            for key in keys:
                await self._lock(transaction, key)
            arrived = server.now()
        end = server.cores.end_of(found.weight * costs.statement, arrived)
        await self._until(end + costs.round_trip / 2)
        transaction.at = server.now()
        answer = found.handler(transaction, parameters)
        return Cursor(answer, self)

    async def _lock(self, transaction: Transaction, key: LockKey) -> None:
        row, began = self._server.row(key), self._server.now()
        if row.holders.get(transaction, False) or (
            transaction in row.holders and not key.exclusive
        ):
            return
        if not row.queue and row.admits(transaction, exclusive=key.exclusive):
            row.holders[transaction] = key.exclusive
        else:
            future = asyncio.get_running_loop().create_future()
            row.queue.append((transaction, key.exclusive, future))
            # Whoever gives up leaves a future behind that is done: the queue passes over it.
            try:
                await self._wait(future)
            except BaseException:
                future.cancel()
                row.holders.pop(transaction, None)
                row.hand_on()
                raise
        now = self._server.now()
        self._locked[key] = now
        if key.table == "wallet":
            self._server.tally.wallet_waits.append(now - began)

    async def copied(self, data: bytes) -> None:
        """The binary rows of a COPY: each begins with how many columns it has."""
        transaction, server = self._transaction, self._server
        assert transaction is not None, "records ship in a transaction"
        count = data.count(b"sk-simulated")
        transaction.statements += 1
        end = server.cores.end_of(count * server.costs.record, server.now())
        await self._until(end + server.costs.round_trip)
        transaction.changes.add(server.books, "records", count)

    def cursor(self) -> Cursor:
        return Cursor([], self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self._until(self._server.now() + self._server.costs.round_trip)
        self._transaction = transaction = Transaction(self._server.books)
        try:
            yield
            await self._commit(transaction)
        except BaseException:
            self._roll_back()
            raise

    async def _commit(self, transaction: Transaction) -> None:
        server, costs = self._server, self._server.costs
        if transaction.payloads:  # Commits that notify take turns.
            await self._lock(transaction, LockKey("notifications", 0))
        disk = costs.commit if transaction.changes.any else 0.0
        await self._until(server.now() + costs.round_trip / 2 + disk)
        self._transaction, locked, self._locked = None, self._locked, {}
        server.let_go(locked, transaction)
        server.ended(transaction)
        await self._until(server.now() + costs.round_trip / 2)

    def _roll_back(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.changes.roll_back()
            locked, self._locked = self._locked, {}
            self._server.let_go(locked, transaction)

    # --- Notifications ---------------------------------------------------------------------------

    def notified(self, payload: str) -> None:
        self._inbox.append(payload)
        if self._bell is not None:
            _finish(self._bell)

    async def notifies(self, *, timeout: float, stop_after: int) -> AsyncIterator[Notification]:  # noqa: ASYNC109  As the driver's.
        assert stop_after == 1, "the engine takes what has come"
        loop = asyncio.get_running_loop()
        if not self._inbox:
            self._bell = loop.create_future()
            timer = loop.call_later(timeout, _finish, self._bell)
            try:
                await self._bell
            finally:
                timer.cancel()
                self._bell = None
        while self._inbox:
            yield Notification(self._inbox.popleft())


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
