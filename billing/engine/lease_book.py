"""One worker's leases, and the calls that wait for money: when to ask for more, when to give back.

The rules are the lease protocol's; the comments name the errors that a line keeps out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from uuid import UUID

from billing.engine.database import Database, OutcomeUnknown
from billing.engine.demand import least_missing, want_of
from billing.engine.desk import Answered, Desk
from billing.engine.giving import Return
from billing.engine.growing import GrowAnswer
from billing.engine.holds import (
    LONGEST_RETRY_SECONDS,
    RETRY_SECONDS,
    Account,
    Accounts,
    EngineUnavailable,
    Hold,
    HoldRequest,
    Lease,
    Waiter,
)
from billing.engine.journal import Journal, JournalFull
from billing.engine.leases import LeaseView
from billing.engine.money_moves import WalletMissing
from billing.engine.spend_limits import LimitSet
from billing.engine.tasks import Tasks
from billing.engine.timing import DRIFT, Timing, now
from billing.engine.waiting import hold_awaited
from billing.identifiers import uuid7

T = TypeVar("T")
logger = logging.getLogger("tollgate.engine")


class LeaseBook:
    def __init__(
        self,
        *,
        worker_id: UUID,
        journal: Journal,
        database: Database,
        timing: Timing,
        check_open: Callable[[], None],
    ) -> None:
        self.accounts = Accounts()
        self.leases: dict[UUID, Lease] = {}
        self.fenced = False  # The database has given this worker up, for ever.
        self.refusals = 0
        self._worker_id = worker_id
        self._journal = journal
        self._desk = Desk(worker_id=worker_id, database=database, timing=timing)
        self._timing = timing
        self._check_open = check_open
        self._tasks = Tasks()

    # --- Opening holds ---------------------------------------------------------------------------

    def hold_now(self, request: HoldRequest, limits: LimitSet | None = None) -> Hold | None:
        """The hold, if the lease has the money for it. Raises EngineUnavailable."""
        account = self.accounts.get(request.organization_id if limits is None else limits)
        self._check_open()
        return None if account is None else self._hold_now(account, request, answered=False)

    async def hold_open(self, request: HoldRequest, limits: LimitSet | None = None) -> Hold:
        """Raises InsufficientQuota, SpendLimitReached, EngineUnavailable."""
        if (hold := self.hold_now(request, limits)) is not None:
            return hold
        account = self.accounts.open(request.organization_id, limits)
        if account.refuses(account.bounds(request).minimum_nano_usd, now()):
            self.refusals += 1
            raise account.refusal()
        waiter = Waiter(
            request=request, asked_at=now(), granted=asyncio.get_running_loop().create_future()
        )
        account.waiting.append(waiter)
        self._pump(account)
        return await hold_awaited(
            account, waiter, patience=self._timing.timeout, undo=self._not_wanted
        )

    def _not_wanted(self, hold: Hold) -> None:
        hold.lease.held -= hold.amount_nano_usd
        self._journal.release()

    def _hold_now(self, account: Account, request: HoldRequest, *, answered: bool) -> Hold | None:
        lease, at = account.lease, now()
        if lease is None:
            return None
        if at >= lease.usable_until:
            self._drain(lease)
            return None
        bounds, free = account.bounds(request), lease.free
        if free >= bounds.wanted_nano_usd:
            amount = bounds.wanted_nano_usd
        elif free >= bounds.minimum_nano_usd and (answered or at < account.dry_until):
            amount = free
        else:
            return None
        try:
            self._journal.reserve()
        except JournalFull as error:
            raise EngineUnavailable(f"the journal is full: {error}") from error
        # After this point the hold must succeed.
        lease.held += amount
        lease.used_at = at
        return Hold(
            lease=lease,
            amount_nano_usd=amount,
            strict=account.strict,
            free_tier=account.free_tier,
            deadline=at + self._timing.max_call,
        )

    def extend(self, lease: Lease, amount: int) -> int:
        """What a running call gets at once of so much more; the lease grows for the rest of it."""
        account = self.accounts.get(lease.key)
        if account is None or account.waiting:
            return 0  # Who waits cannot begin without it.
        taken = max(0, min(lease.free, amount))
        lease.held += taken
        can_grow = account.lease is lease and not lease.busy and not self.fenced
        if taken < amount and can_grow and now() >= account.dry_until:
            lease.busy = True
            self._tasks.spawn(self._grow(account, lease, missing=amount - taken))
        return taken

    def released(self, lease: Lease) -> None:
        """A hold on the lease has ended: somebody may be waiting for its money."""
        account = self.accounts.get(lease.key)
        if account is not None and account.waiting:
            self._pump(account)

    def _pump(self, account: Account, *, may_grow: bool = True) -> None:
        """Open the waiting holds that fit, smallest first; one extension for all the others."""
        account.waiting.sort(key=lambda w: account.bounds(w.request).minimum_nano_usd)
        for waiter in list(account.waiting):
            if not waiter.granted.done():
                try:
                    self._check_open()
                    hold = self._hold_now(account, waiter.request, answered=waiter.answered)
                except EngineUnavailable as error:
                    waiter.granted.set_exception(error)
                else:
                    if hold is None:
                        continue
                    waiter.granted.set_result(hold)
            account.waiting.remove(waiter)
        if not (account.waiting and may_grow):
            return
        lease = account.lease
        if lease is None:
            lease = Lease(
                id=uuid7(),
                organization_id=account.organization_id,
                key=account.key,
                used_at=now(),
            )
            account.lease = self.leases[lease.id] = lease
        if not lease.busy:
            lease.busy = True
            self._tasks.spawn(self._grow(account, lease))

    # --- Operations on leases: one in flight for each --------------------------------------------

    async def _grow(self, account: Account, lease: Lease, *, missing: int = 0) -> None:
        """For all that wait or, if nobody does, for what a running call was found to miss."""
        waiters = list(account.waiting)
        if not (waiters or missing):
            lease.busy = False
            return
        account.set_headroom(now(), cover=self._timing.cover)
        want = want_of(account, lease, waiters, worker_id=self._worker_id, missing=missing)
        granted_before = lease.granted
        asked = await self._operate(lease, partial(self._desk.grow, want))
        answer, sent_at = asked.value, asked.sent_at
        if answer is None:
            self.fenced = True
            lease.busy = False
            self._pump(account, may_grow=False)
            return
        account.strict, account.free_tier = answer.strict, answer.free_tier
        for waiter in waiters:
            waiter.answered = True
        self._adopt(lease, answer.view, sent_at)
        if answer.rolled:  # Another lease takes the calls of the new window.
            self._drain(lease)
        if not answer.short:
            account.retry_stop()
        if answer.short:
            self._refuse(account, lease, waiters, answer)
        elif lease.granted - granted_before < want.desired_nano_usd:
            account.dry_until = now() + self._timing.refusal_memory
        self._after_operation(account, lease, short=answer.short)

    def _refuse(
        self, account: Account, lease: Lease, asked: list[Waiter], answer: GrowAnswer
    ) -> None:
        """The wallet is short. Refuse who waited long enough for recalls, or would in vain."""
        at = now()
        account.short_limit = answer.short_limit
        minimum = min(account.bounds(waiter.request).minimum_nano_usd for waiter in asked)
        # Other workers may return money, and calls of our own may leave some of their holds.
        self._pump(account, may_grow=False)  # The policy may be known only now.
        hopeless = answer.reachable_nano_usd + lease.granted - lease.spent < minimum
        self.refusals += account.refuse(
            minimum, asked_before=at if hopeless else at - self._timing.recall_wait
        )
        if hopeless:
            account.refused_until = at + self._timing.refusal_memory
            account.refused_minimum = minimum

    async def _operate(
        self, lease: Lease, ask: Callable[[], Awaitable[Answered[T]]]
    ) -> Answered[T]:
        """Repeat one operation until its outcome is known: its version makes copies harmless."""
        while True:
            try:
                return await ask()
            except OutcomeUnknown:
                await asyncio.sleep(2 * RETRY_SECONDS)
            except Exception as error:
                # A definite refusal means that nothing was applied, and that a rule is broken: the
                # lease serves no more calls, and the task's end tells the operator why.
                lease.busy = False
                self._drain(lease)
                if isinstance(error, WalletMissing):
                    del self.leases[lease.id]
                raise

    def _adopt(self, lease: Lease, view: LeaseView | None, sent_at: float) -> None:
        if (view.version if view else 0) < lease.version:
            self.forgotten(lease.id)
            if view is None:
                self._drain(lease)
                del self.leases[lease.id]
        if view is None:
            return
        lease.granted, lease.version = view.granted_nano_usd, view.version
        lease.limits = tuple(view.limits.values())
        lease.usable_until = sent_at + view.usable_for * (1 - 3 * DRIFT)
        account = self.accounts.get(lease.key)
        if account is not None:
            account.strict, account.free_tier = view.strict, view.free_tier
        if view.state != "open":
            self._drain(lease)
            self.leases.pop(lease.id, None)

    def _after_operation(self, account: Account | None, lease: Lease, *, short: bool) -> None:
        lease.busy = False
        recalled, lease.recalled = lease.recalled, False
        if account is not None:
            money_came, account.money_came = account.money_came, False
            if money_came:
                account.retry_stop()
            in_vain = (short or account.retry is not None) and not money_came
            self._pump(account, may_grow=not recalled and not in_vain)
        if recalled:  # Before asking for more: else a useless part is kept that another needs.
            self.give(lease)
        if account is not None:
            self._retry_later(account, short=short)

    def _retry_later(self, account: Account, *, short: bool) -> None:
        """Whoever waits asks again after a pause, should nobody tell that money came back."""
        if not account.waiting:
            account.retry_stop()
        elif account.retry is None and not (account.lease and account.lease.busy):
            oldest = min(waiter.asked_at for waiter in account.waiting)
            to_refusal = oldest + self._timing.recall_wait - now()
            pause = min(account.pause, to_refusal) if to_refusal > 0 else RETRY_SECONDS
            if short:
                account.pause = min(2 * account.pause, LONGEST_RETRY_SECONDS)
            loop = asyncio.get_running_loop()
            account.retry = loop.call_later(pause, self._retry, account)

    def _retry(self, account: Account) -> None:
        account.retry = None
        self._pump(account)

    def give(self, lease: Lease) -> None:
        """Return the free part to the wallet."""
        if lease.busy:
            lease.recalled = True
            return
        amount = lease.free
        if amount > 0 and lease.version:
            # Subtracted before it is sent, so that no hold takes it meanwhile, and never added
            # back on an unknown outcome: the repetition's answer says what is.
            lease.granted -= amount
            lease.busy = True
            self._tasks.spawn(self._give(lease, amount))

    async def _give(self, lease: Lease, amount: int | None) -> None:
        part = Return(
            organization_id=lease.organization_id,
            lease_id=lease.id,
            version=lease.version,
            amount_nano_usd=amount,
        )
        asked = await self._operate(lease, partial(self._desk.give, part))
        self._adopt(lease, asked.value, asked.sent_at)
        self._after_operation(self.accounts.get(lease.key), lease, short=False)

    def recall(self, organization_id: int, limit_id: int = 0) -> None:
        """Some worker runs short of this organization's money, or of room in one of its limits."""
        for lease in [x for x in self.leases.values() if x.organization_id == organization_id]:
            if not limit_id or lease.takes_of(limit_id):
                self.give(lease)

    def wallet_changed(self, organization_id: int, available: int) -> None:
        """New money, or returned money: what was refused may be payable now.

        What the wallet has is told where it is known, so that nobody asks in vain; else it is 0.
        """
        for account in self.accounts.of(organization_id):
            self._look_again(account, available)

    def room_changed(self, limit_id: int, available: int) -> None:
        """A limit has got room again, as far as it is known (else 0)."""
        for account in self.accounts.bound_by(limit_id):
            self._look_again(account, available)

    def limits_changed(self, *, narrower: set[int], wider: set[int]) -> None:
        for lease in list(self.leases.values()):
            if any(map(lease.takes_of, narrower)):
                self.give(lease)
        for limit_id in wider:
            self.room_changed(limit_id, available=0)

    def _look_again(self, account: Account, available: int) -> None:
        account.forget_refusal()
        if account.waiting and not (0 < available < least_missing(account)):
            account.money_came = account.lease is not None and account.lease.busy
            self._pump(account)

    def notice(self, view: LeaseView, sent_at: float) -> None:
        """Adopt what a late copy of an operation that was refused opened or extended after all."""
        account = self.accounts.open(view.organization_id, None)
        account.strict, account.free_tier = view.strict, view.free_tier
        lease = self.leases.get(view.lease_id)
        if lease is None:
            lease = Lease(
                id=view.lease_id,
                organization_id=view.organization_id,
                spent=view.spent_nano_usd,
                # Should the database have forgotten its end, what is to ship may be of it.
                last_end=self._journal.end,
                draining=True,
            )
            self.leases[lease.id] = lease
        if view.version > lease.version and not lease.busy:
            self._adopt(lease, view, sent_at)

    def forgotten(self, what: object) -> None:
        """The database has lost commits: money of ours may be somebody else's, so no more holds."""
        if not self.fenced:
            logger.critical("The database has forgotten what it had committed of %s.", what)
        self.fenced = True

    # --- Giving up leases ------------------------------------------------------------------------

    def _drain(self, lease: Lease) -> None:
        lease.draining = True
        account = self.accounts.get(lease.key)
        if account is not None and account.lease is lease:
            account.lease = None

    def tidy(self, *, leaving: bool, shipped: int) -> None:
        """Return what idles, retire what has ended, close what is drained and shipped."""
        at = now()
        for lease in list(self.leases.values()):
            idle = at - lease.used_at > self._timing.idle and not lease.held
            if leaving or idle or at >= lease.usable_until:
                self._drain(lease)
            if not lease.draining or lease.busy:
                continue
            if not lease.version:
                del self.leases[lease.id]  # It never came to be; a late copy would be noticed.
            elif lease.held or shipped < lease.last_end:
                self.give(lease)
            else:
                lease.busy = True
                self._tasks.spawn(self._give(lease, None))
        self.accounts.keep({lease.key for lease in self.leases.values()})

    def busy(self) -> bool:
        return any(lease.busy for lease in self.leases.values())

    async def close(self) -> None:
        for account in self.accounts.values():
            account.retry_stop()
        await self._desk.close()
        await self._tasks.close()
