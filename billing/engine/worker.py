"""One incarnation of a serving process: its row, its journal, its leases, the calls in flight."""

import asyncio
import os
import time
from uuid import UUID

from msgspec.structs import replace

from billing.engine import transactions
from billing.engine.backlog import waiting_since
from billing.engine.database import Connection, Database, OutcomeUnknown
from billing.engine.durability import Durability, Promises
from billing.engine.holds import EngineUnavailable, Hold, HoldRequest, HoldState
from billing.engine.journal import Journal, JournalFailed
from billing.engine.lease_book import LeaseBook
from billing.engine.records import Call, Opened, Outcome, RecordTooLarge, Settled, frame
from billing.engine.recovery import acknowledged, forgotten_lease
from billing.engine.settings import EngineSettings
from billing.engine.spend_limits import LimitSet
from billing.engine.timing import now
from billing.engine.transactions import Renewal
from billing.identifiers import uuid7


class DeadlinePassed(Exception):
    """The call outlived the time for which its money was set aside: it may not settle now."""


class Worker:
    def __init__(self, settings: EngineSettings, *, database: Database) -> None:
        self.id: UUID = uuid7()
        self.journal = Journal.create(root=settings.journals, worker_id=self.id)
        waits = settings.durability is not Durability.JOURNAL
        self.promises = Promises() if waits else None
        self.sync_wanted = asyncio.Event()
        self.shipped = 0
        self.stopping = False
        self.fence = 0.0
        self.holds: set[Hold] = set()
        self.opened: dict[Hold, None] = {}  # Of calls that went upstream, oldest first.
        self.calls_settled = 0
        self.estimated = 0
        self.bound_exceeded = 0
        self.expired_calls = 0
        self.book = LeaseBook(
            worker_id=self.id,
            journal=self.journal,
            database=database,
            timing=settings.timing,
            check_open=self._check_open,
        )
        self._settings = settings
        self._database = database
        self._timing = settings.timing
        self._registered = False

    @property
    def retired(self) -> bool:
        """It only drains: it was fenced for ever, or it is stopping."""
        return self.stopping or self.book.fenced

    def _check_open(self) -> None:
        if self.retired or now() >= self.fence:
            raise EngineUnavailable("this worker's leases are not renewed")

    def hold_now(self, request: HoldRequest, limits: LimitSet | None = None) -> Hold | None:
        """The hold, if the lease has the money for it; nearly always it does.

        Raises EngineUnavailable.
        """
        hold = self.book.hold_now(request, limits)
        if hold is not None:
            self.holds.add(hold)
        return hold

    async def hold_open(self, request: HoldRequest, limits: LimitSet | None = None) -> Hold:
        """Raises InsufficientQuota, EngineUnavailable."""
        hold = await self.book.hold_open(request, limits)
        self.holds.add(hold)
        return hold

    def hold_extend(self, hold: Hold, amount_nano_usd: int) -> int:
        """Set more aside for a running call, as far as the lease has it. Returns how much."""
        assert hold.state is HoldState.OPEN, "an ended hold cannot be extended"
        assert not hold.strict, "a strict hold is a bound from its beginning"
        taken = self.book.extend(hold.lease, amount_nano_usd)
        hold.amount_nano_usd += taken
        return taken

    def call_opened(self, hold: Hold, call: Call) -> None:
        """Write down that the call goes upstream; from here on it must be settled.

        Raises JournalFailed: then nothing may be sent, and the hold is released.
        """
        lease = hold.lease
        record = Opened(
            call=call,
            lease_id=lease.id,
            hold_nano_usd=hold.amount_nano_usd,
            limits=lease.limits,
        )
        offset = self.journal.end
        try:
            self.journal.append(frame(record))
        except (JournalFailed, RecordTooLarge) as error:
            self.hold_release(hold)
            raise JournalFailed(str(error)) from error
        hold.call, hold.opened_offset = call, offset
        self.opened[hold] = None

    def call_rerouted(self, hold: Hold, call: Call) -> None:
        """Another channel takes the call over, since the first one did not take it at all."""
        assert hold.call is not None, "a call is rerouted after it was opened"
        assert hold.call.request_id == call.request_id, "another call"
        hold.call = call

    def call_settle(self, hold: Hold, outcome: Outcome, cost_nano_usd: int) -> int:
        """Write down what the call costs, before its last byte goes out. Returns the charge.

        Raises DeadlinePassed, JournalFailed: then nothing is charged, and the reply must be cut.
        """
        assert hold.state is HoldState.OPEN, "a hold ends once"
        assert hold.call is not None, "a call settles only after it was opened"
        assert cost_nano_usd >= 0, "a negative cost"
        charge = cost_nano_usd
        if cost_nano_usd > hold.amount_nano_usd:
            self.bound_exceeded += 1
            outcome = replace(outcome, flags=(*outcome.flags, "bound_exceeded"))
            charge = hold.amount_nano_usd if hold.strict else cost_nano_usd
        late = now() > hold.deadline
        if late:
            # Its money may have been given away by now: settling would be an overdraft.
            self.expired_calls += 1
            outcome, charge = replace(outcome, outcome="expired"), 0
        record = Settled(
            call=hold.call,
            lease_id=hold.lease.id,
            hold_nano_usd=hold.amount_nano_usd,
            charge_nano_usd=charge,
            outcome=outcome,
            settled_at=time.time(),
            limits=hold.lease.limits,
        )
        try:
            end = self.journal.append(_frame(record))
        except JournalFailed:
            self._end(hold, HoldState.RELEASED)
            raise
        self.calls_settled += 1
        self.estimated += outcome.usage_source == "estimated"
        hold.lease.spent += charge
        hold.lease.last_end = end
        self._end(hold, HoldState.SETTLED)
        if self.promises is not None:
            hold.kept = self.promises.promise(end)
            self.sync_wanted.set()
        if late:
            raise DeadlinePassed
        return charge

    def hold_release(self, hold: Hold) -> None:
        """Give the money back: nothing was sent upstream, so there is nothing to record."""
        assert hold.call is None, "a call that was opened must be settled"
        self._end(hold, HoldState.RELEASED)

    def _end(self, hold: Hold, state: HoldState) -> None:
        assert hold.state is HoldState.OPEN, "a hold ends once"
        hold.state = state
        hold.lease.held -= hold.amount_nano_usd
        assert hold.lease.held >= 0, "more was released than was held"
        self.holds.discard(hold)
        self.journal.release()
        if hold.call is not None:
            del self.opened[hold]
        self.book.released(hold.lease)

    async def renew(self) -> None:
        """One statement for all leases. The fence counts from before it was sent."""
        sent_at, shipped, versions = now(), self.shipped, acknowledged(self.book.leases)
        try:
            renewal = await self._database.run(self._renewal)
        except OutcomeUnknown:
            return
        if renewal is None:
            self.book.fenced = True
            return
        self._registered = True
        if lease_id := forgotten_lease(self.book.leases, versions, renewal.leases):
            self.book.forgotten(lease_id)
        if renewal.shipped_offset < shipped:
            self.ship_again(renewal.shipped_offset)
        if self.book.fenced:
            return
        self.fence = sent_at + self._timing.fence
        for view in renewal.leases:
            self.book.notice(view, sent_at)
        for organization_id, limit_id in renewal.recalls:
            self.book.recall(organization_id, limit_id)

    async def _renewal(self, connection: Connection) -> Renewal | None:
        if not self._registered:
            await transactions.worker_register(
                connection,
                worker_id=self.id,
                node=self._settings.node,
                pid=os.getpid(),
                timing=self._timing,
            )
        return await transactions.renew(
            connection, worker_id=self.id, timing=self._timing, report=self.report()
        )

    def report(self) -> dict[str, int]:
        """Counters for the operator, since this worker began."""
        leases = self.book.leases.values()
        return {
            "calls_settled": self.calls_settled,
            "calls_open": len(self.opened),
            "holds_open": len(self.holds),
            "held_nano_usd": sum(lease.held for lease in leases),
            "leases_open": len(leases),
            "refused": self.book.refusals,
            "estimated": self.estimated,
            "bound_exceeded": self.bound_exceeded,
            "expired": self.expired_calls,
            "journal_bytes": self.journal.end,
            "journal_bytes_unshipped": self.journal.end - self.shipped,
            "ship_lag_ms": self._ship_lag_ms(),
        }

    def _ship_lag_ms(self) -> int:
        """For how long the oldest record that is not shipped has been waiting."""
        if self.shipped >= self.journal.end:
            return 0
        since = waiting_since(self.journal.directory, self.shipped)
        return 0 if since is None else max(0, int(1000 * (time.time() - since)))

    def ship_again(self, offset: int) -> None:
        """The database stands there, though it had acknowledged more."""
        self.book.forgotten(self.id)
        self.shipped = offset

    def tidy(self) -> None:
        self.book.tidy(leaving=self.retired, shipped=self.shipped)

    def ready_to_finish(self) -> bool:
        return not (self.book.busy() or self.holds or self.shipped != self.journal.end)

    def oldest_needed_offset(self) -> int:
        """Segments behind this are of no use: shipped, and no open call began in them."""
        oldest = next(iter(self.opened), None)
        return min(self.shipped, oldest.opened_offset) if oldest else self.shipped


def _frame(record: Settled) -> bytes:
    """The framed record; what is only for information goes where it would be too large."""
    try:
        return frame(record)
    except RecordTooLarge:
        bare = replace(record.outcome, upstream_request_id="", service_tier="", flags=("trimmed",))
        return frame(replace(record, outcome=bare))
