"""The money engine of one serving process: what the relay talks to.

It runs the worker's loops, replays the journals of dead siblings, and sweeps. When the database has
given its worker up, a new incarnation takes over and the old one only drains.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from uuid import UUID

from billing.engine import shipping, transactions
from billing.engine.database import Database, OutcomeUnknown
from billing.engine.durability import Durability
from billing.engine.holds import EngineUnavailable, Hold, HoldRequest
from billing.engine.journal import JournalFull, lock_file, remove, remove_nameless
from billing.engine.records import Call, Outcome
from billing.engine.settings import EngineSettings
from billing.engine.shipper import ShipCounters, Shipper
from billing.engine.spend_limits import LimitSet, SpendLimitTable
from billing.engine.sweeper import DatabaseClock, sweep
from billing.engine.timing import now
from billing.engine.worker import Worker

RETRY_SECONDS = 0.2
UNREADY_SECONDS = 0.5
STOP_POLL_SECONDS = 0.02
EAGER_SHIP_SECONDS = 0.01
logger = logging.getLogger("tollgate.engine")
# Told (topic, version, organization id) of every change that the database notifies.
Subscriber = Callable[[str, int, int], None]


class JournalUnreadable(Exception):
    """What this process wrote to its journal cannot be read back: the disk lies."""


class MoneyEngine:
    def __init__(self, settings: EngineSettings) -> None:
        self.counters = ShipCounters()
        self.settings = settings
        self.leases_database = self._database()
        self._shipping_database = self._database(listen=True)
        self._shipper = Shipper(self._shipping_database, self.counters)
        self.limits = SpendLimitTable()
        self._workers: list[Worker] = []  # The last one serves; the others drain.
        self._owners: dict[Hold, Worker] = {}
        self._subscribers: list[Subscriber] = []
        self._reconnected: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._replaying = asyncio.Lock()
        self._listening_since = 0
        self._look_again = asyncio.Event()
        self._database_clock = DatabaseClock()
        self._problem = "the engine has not started"

    def _database(self, *, listen: bool = False) -> Database:
        return Database(
            url=self.settings.database_url,
            timeout=self.settings.timing.timeout,
            listen=listen,
        )

    # --- What the relay uses ---------------------------------------------------------------------

    def hold_now(self, request: HoldRequest, limits: LimitSet | None = None) -> Hold | None:
        """The hold, if there is money at hand, as nearly always. Raises EngineUnavailable."""
        if not self._workers:
            raise EngineUnavailable(self._problem)
        worker = self._workers[-1]
        if (hold := worker.hold_now(request, limits)) is not None:
            self._owners[hold] = worker
        return hold

    async def hold_open(self, request: HoldRequest, limits: LimitSet | None = None) -> Hold:
        """Raises InsufficientQuota, SpendLimitReached, EngineUnavailable."""
        if (hold := self.hold_now(request, limits)) is None:
            worker = self._workers[-1]
            hold = await worker.hold_open(request, limits)
            self._owners[hold] = worker
        return hold

    def hold_extend(self, hold: Hold, amount_nano_usd: int) -> int:
        """More for a standard hold, as far as it can be had at once. Returns how much that is."""
        return self._owners[hold].hold_extend(hold, amount_nano_usd)

    def call_opened(self, hold: Hold, call: Call) -> None:
        """The call goes upstream. Raises JournalFailed: then nothing may be sent."""
        try:
            self._owners[hold].call_opened(hold, call)
        except BaseException:
            self._owners.pop(hold, None)
            raise

    def call_rerouted(self, hold: Hold, call: Call) -> None:
        """The call goes to another channel; the first one did not take it."""
        self._owners[hold].call_rerouted(hold, call)

    def call_settle(self, hold: Hold, outcome: Outcome, cost_nano_usd: int) -> int:
        """The call has ended; returns its charge. Raises DeadlinePassed, JournalFailed."""
        return self._owners.pop(hold).call_settle(hold, outcome, cost_nano_usd)

    async def kept(self, hold: Hold) -> None:
        """Wait until a settled call's record is as safe as the operator demands.

        Raises JournalFailed: the reply must be cut, though the call is charged.
        """
        if hold.kept is not None:
            await hold.kept

    def hold_release(self, hold: Hold) -> None:
        """Nothing was sent upstream after all."""
        self._owners.pop(hold).hold_release(hold)

    def limits_load(self, limits: SpendLimitTable) -> None:
        """The spend limits have changed: what is leased of narrower ones goes back at once."""
        older, self.limits = self.limits, limits
        narrower, wider = limits.narrower_than(older), limits.wider_than(older)
        for worker in self._workers:
            worker.book.limits_changed(narrower=narrower, wider=wider)

    def subscribe(self, subscriber: Subscriber, *, reconnected: Callable[[], None]) -> None:
        """Hear of every change; `reconnected` tells that some may have been missed."""
        self._subscribers.append(subscriber)
        self._reconnected.append(reconnected)

    def problems(self) -> list[str]:
        """Why no hold could be opened now; empty when all is well."""
        if self._stopping.is_set() or not self._workers:
            return ["stopping" if self._stopping.is_set() else self._problem]
        worker = self._workers[-1]
        if worker.retired or now() >= worker.fence:
            return ["the leases are not renewed: is PostgreSQL reachable?"]
        if worker.journal.full:
            return ["the journal cannot grow: is the disk full?"]
        return []

    # --- Life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the loops and wait for the first renewal, or for the first failure of one."""
        loops = (self._renew, self._tidy, self._ship, self._sync, self._scan, self._sweep)
        await self._serve_on()
        if not self.problems():
            # What dead siblings left goes back to its wallets before the first call is served.
            with contextlib.suppress(OutcomeUnknown):
                await self.replay_dead_siblings()
        self._tasks = [asyncio.create_task(loop()) for loop in loops]

    async def stop(self, patience_seconds: float) -> None:
        """Return free money, wait for calls, ship, finish; what is left, a sibling replays."""
        self._stopping.set()
        for worker in self._workers:
            worker.stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                answered_at = now()
                while self._workers:
                    if await self._wind_up():
                        answered_at = now()
                    elif now() - answered_at > 2 * self.settings.timing.timeout:
                        break  # The journal keeps it all.
                    await asyncio.sleep(STOP_POLL_SECONDS)
                else:
                    with contextlib.suppress(OutcomeUnknown):
                        await self.replay_dead_siblings()  # Nobody may be there to do it later.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            if worker.promises is not None:
                worker.promises.break_all("the engine stopped")
            await worker.book.close()
            worker.journal.close()
        await self.leases_database.close()
        await self._shipping_database.close()

    async def _wind_up(self) -> bool:
        """Whether the database answered."""
        for worker in self._workers:
            worker.tidy()
        try:
            await self._ship_once()
            await self._finish_retired()
        except OutcomeUnknown:
            return False
        return True

    async def _serve_on(self) -> None:
        """A worker that the database has given up only drains; the next one takes over at once."""
        if self._stopping.is_set() or (self._workers and not self._workers[-1].retired):
            return
        self._incarnate()
        if self._workers:
            await self._workers[-1].renew()

    def _incarnate(self) -> None:
        try:
            worker = Worker(self.settings, database=self.leases_database)
        except (JournalFull, OSError) as error:
            self._problem = f"no journal can be made: {error}"
            return
        self._workers.append(worker)

    async def _every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        """Run it for ever, at that pace; a failure is told, and does not end the loop."""
        answers = True
        while True:
            try:
                await action()
                answers = True
            except OutcomeUnknown as error:
                if answers:  # Said once an outage, not at each try.
                    logger.warning("The database does not answer: %s", error)
                answers = False
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.critical("A loop of the engine failed.", exc_info=True)
                await asyncio.sleep(1.0)
            await asyncio.sleep(seconds)

    async def _renew(self) -> None:
        await self._every(0, self._renew_once)

    async def _renew_once(self) -> None:
        await self._serve_on()
        for worker in self._workers:
            if not worker.book.fenced:
                await worker.renew()
        # After an outage that outlasted the leases, each second until the next try serves nobody.
        heartbeat = self.settings.timing.heartbeat
        pause = min(heartbeat, UNREADY_SECONDS) if self.problems() else heartbeat
        # Who has reconnected may have met a database that knows less than before.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._look_again.wait()
        self._look_again.clear()

    async def _tidy(self) -> None:
        await self._every(min(1.0, self.settings.timing.heartbeat), self._tidy_once)

    async def _tidy_once(self) -> None:
        await self._serve_on()
        for worker in self._workers:
            worker.tidy()
            worker.journal.delete_behind(worker.oldest_needed_offset())
            worker.journal.look_for_room()
        if not self._stopping.is_set():
            await self._finish_retired()

    async def _finish_retired(self) -> None:
        for worker in [w for w in self._workers if w.retired and w.ready_to_finish()]:
            finish = partial(
                transactions.finish,
                worker_id=worker.id,
                end=worker.journal.end,
                report=worker.report(),
            )
            finished = await self._shipping_database.run(finish)
            if worker not in self._workers:
                continue  # While it was asked, the loop and a stop may both have come here.
            if finished:
                self._workers.remove(worker)
                await worker.book.close()
                worker.journal.destroy()
            else:
                known = await self._shipping_database.run(
                    partial(shipping.shipped_offset, worker_id=worker.id)
                )
                worker.ship_again(known or 0)

    async def _ship(self) -> None:
        await self._every(0, self._listen_and_ship)

    async def _listen_and_ship(self) -> None:
        within = self.settings.timing.ship
        if self.settings.durability is Durability.DATABASE:
            within = min(within, EAGER_SHIP_SECONDS)  # Replies wait for it.
        payloads = await self._shipping_database.notifications(within=within)
        if self._shipping_database.connections != self._listening_since:
            self._listening_since = self._shipping_database.connections
            self._look_again.set()
            for reconnected in self._reconnected:
                reconnected()
        for payload in payloads:
            self._notified(payload)
        if not self._stopping.is_set():
            await self._ship_once()

    def _notified(self, payload: str) -> None:
        topic, version, organization_id = payload.split(" ")  # Of room it is the limit's id.
        for worker in self._workers:
            if topic == "recall":  # Of money; or, with a limit's id, of room in that.
                worker.book.recall(int(organization_id), int(version))
            elif topic == "room":
                worker.book.room_changed(int(organization_id), available=int(version))
            elif topic == "wallet":
                worker.book.wallet_changed(int(organization_id), available=int(version))
        for subscriber in self._subscribers:
            subscriber(topic, int(version), int(organization_id))

    async def _ship_once(self) -> None:
        for worker in self._workers:
            while worker.shipped < worker.journal.end:
                start = worker.shipped
                reached = await self._shipper.ship_from(
                    directory=worker.journal.directory, worker_id=worker.id, start=start
                )
                if reached == start:
                    raise JournalUnreadable(f"{worker.journal.directory} at {start}")
                if reached < start:
                    worker.ship_again(reached)
                    continue
                # A stop and the loop may both ship for a moment; the database serializes them.
                worker.shipped = max(worker.shipped, reached)
                if worker.promises is not None:  # The database is safer than any disk of ours.
                    worker.promises.kept_to(worker.shipped)

    async def _sync(self) -> None:
        if self.settings.durability is Durability.SYNCED:
            # Replies wait for it: sync as soon as one does, for all that were written by then.
            await self._every(0, self._sync_wanted)
        else:
            await self._every(self.settings.timing.sync, self._sync_once)

    async def _sync_wanted(self) -> None:
        if not self._workers:
            await asyncio.sleep(self.settings.timing.sync)
            return
        wanted = self._workers[-1].sync_wanted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.timing.sync):
                await wanted.wait()
        wanted.clear()
        await self._sync_once()

    async def _sync_once(self) -> None:
        for worker in list(self._workers):
            end = worker.journal.end
            try:
                await asyncio.to_thread(worker.journal.start_sync())
            except OSError:
                worker.journal.distrust()
                if worker.promises is not None:
                    worker.promises.break_all("the journal could not be synced")
                raise
            if worker.promises is not None and self.settings.durability is Durability.SYNCED:
                worker.promises.kept_to(end)

    async def _scan(self) -> None:
        await self._every(self.settings.timing.scan, self.replay_dead_siblings)

    async def replay_dead_siblings(self) -> None:
        """Take over the journals of this node whose owners are dead: their locks are free.

        Returns when none of them is left, unless another sibling is at it.
        """
        async with self._replaying:
            own = {str(worker.id) for worker in self._workers}
            for directory in sorted(self.settings.journals.iterdir()):
                if directory.name in own or not directory.is_dir():
                    continue
                if directory.name.startswith("."):
                    remove_nameless(directory)
                else:
                    await self._replay(directory)

    async def _replay(self, directory: Path) -> None:
        try:
            lock = lock_file(directory / "lock", create=False)
        except FileNotFoundError:
            return  # Its owner has just finished it.
        if lock is None:
            return
        try:
            logger.warning(
                "Replaying the journal of a dead worker.",
                extra={"fields": {"worker": directory.name, "by": os.getpid()}},
            )
            await self._shipper.replay(directory, UUID(directory.name))
            remove(directory)
        finally:
            os.close(lock)

    async def _sweep(self) -> None:
        await self._every(self.settings.timing.sweep, self._sweep_once)

    async def _sweep_once(self) -> None:
        # Who has just come back itself gives everybody else time to come back, too.
        grace = self.settings.timing.grace
        since = asyncio.get_running_loop().time() - self._shipping_database.connected_at
        if since > grace and await sweep(
            self._shipping_database, self.settings.timing, self._database_clock
        ):
            logger.critical("A worker was declared lost; its unspent money went back.")
