"""The rules of the lease protocol, one by one; each test fails when its rule is broken."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from billing.engine import DeadlinePassed, EngineUnavailable, Timing, growing, transactions
from billing.engine.database import Database
from billing.engine.funds import Want
from billing.engine.growing import GrowAnswer
from billing.engine.holds import Lease
from billing.engine.journal import segments
from billing.engine.money_moves import WalletMissing
from billing.engine.settings import EngineSettings
from billing.engine.shipping import Batch, ship
from billing.engine.sweeper import DatabaseClock, sweep
from billing.engine.timing import now
from billing.engine.worker import Worker
from billing.identifiers import uuid7
from tests.billing.engine.faulty import Fate, Faults, FaultyDatabase
from tests.billing.engine.support import DONE, Bank, call_of, request, settings_for

# No loop runs in these tests: each step is made by hand.
TIMING = Timing(heartbeat=0.5, ttl=3.0, step=0.5, max_call=1.0, grace=3.0, timeout=2.0, idle=0.05)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    bank.connection.close()


class Stage:
    """A worker without its loops, on a database whose next transactions can be made to fail."""

    def __init__(self, bank: Bank, settings: EngineSettings) -> None:
        self.bank = bank
        self.faults = Faults()
        self.database = FaultyDatabase(url=bank.url, timeout=5.0)
        self.database.faults = self.faults
        self.worker = Worker(settings, database=self.database)

    def fail(self, *fates: Fate) -> None:
        self.faults.coming += fates

    def lease(self, organization: int) -> Lease:
        (lease,) = (
            x for x in self.worker.book.leases.values() if x.organization_id == organization
        )
        return lease

    async def quiet(self) -> None:
        """No operation is in flight any more."""
        async with asyncio.timeout(10):
            while self.worker.book.busy():
                await asyncio.sleep(0.005)

    async def spend(self, organization: int, hold: int, cost: int) -> None:
        opened = await self.worker.hold_open(request(organization, hold))
        self.worker.call_opened(opened, call_of(organization))
        self.worker.call_settle(opened, DONE, cost)

    def granted(self, lease: Lease) -> int:
        return self.bank.number(
            "SELECT granted_nano_usd FROM billing_lease WHERE id = %s", lease.id
        )


@pytest.fixture
async def stage(bank: Bank, tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(bank, settings_for(bank.url, tmp_path / "journals", timing=TIMING))
    await stage.worker.renew()
    yield stage
    await stage.worker.book.close()
    stage.worker.journal.close()
    await stage.database.close()
    assert bank.findings(retain=1e6) == []


def want(stage: Stage, organization: int, lease_id: UUID, version: int, amount: int) -> Want:
    return Want(
        worker_id=stage.worker.id,
        organization_id=organization,
        lease_id=lease_id,
        version=version,
        minimum_nano_usd=amount,
        desired_nano_usd=amount,
        wanted_nano_usd=amount,
    )


async def grow(stage: Stage, wanted: Want) -> GrowAnswer | None:
    answers = await grow_together(stage, [wanted])
    if answers is None:
        return None
    (answer,) = answers
    assert isinstance(answer, GrowAnswer)
    return answer


async def grow_together(stage: Stage, wants: list[Want]) -> list[GrowAnswer | WalletMissing] | None:
    asked = partial(growing.grow, worker_id=stage.worker.id, wants=wants, timing=TIMING)
    return await stage.database.run(asked)


async def test_the_fence_counts_from_before_the_renewal_was_sent(stage: Stage) -> None:
    sent_at = now()
    stage.fail(Fate("slow_answer"))
    await stage.worker.renew()
    assert now() - sent_at >= 0.3
    assert sent_at + TIMING.fence <= stage.worker.fence < sent_at + TIMING.fence + 0.1


def test_the_fence_leaves_room_for_drifting_clocks_and_their_steps() -> None:
    timing = Timing()
    # Each of two clocks may be wrong by a hundredth, and the database's may step.
    assert timing.fence * 1.01 <= (timing.ttl - timing.step) * 0.99
    assert timing.retain * 0.99 >= timing.max_call * 1.01
    with pytest.raises(ValueError, match="heartbeat"):
        Timing(heartbeat=20.0)


async def test_no_hold_is_opened_behind_the_fence(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    stage.worker.fence = now()
    with pytest.raises(EngineUnavailable):
        await stage.worker.hold_open(request(organization, 100))


async def test_nothing_grows_for_a_worker_that_was_given_up(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    stage.bank.connection.execute("UPDATE billing_worker SET state = 'expired'")
    assert await grow(stage, want(stage, organization, uuid7(), 0, 100)) is None
    await stage.worker.renew()
    assert stage.worker.book.fenced
    assert stage.bank.open_leases() == 0


async def test_a_repeated_operation_is_applied_once(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    lease_id = uuid7()
    first = await grow(stage, want(stage, organization, lease_id, 0, 100))
    again = await grow(stage, want(stage, organization, lease_id, 0, 100))
    assert first is not None
    assert again is not None
    assert again.view is not None
    assert (again.view.version, again.view.granted_nano_usd) == (1, 100)


async def test_an_answer_that_is_lost_is_asked_for_again(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    stage.fail(Fate("answer_lost"), Fate("cut"), Fate("answer_lost"))
    await stage.spend(organization, 100, 10)
    lease = stage.lease(organization)
    assert lease.granted == stage.granted(lease)


async def test_what_is_being_returned_serves_no_call(stage: Stage) -> None:
    """Subtracted before it is sent; not added back when the answer is lost."""
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 400, 0)
    lease = stage.lease(organization)
    held_before = lease.free
    stage.fail(Fate("answer_lost"))
    stage.worker.book.give(lease)
    assert lease.free == 0
    await stage.quiet()
    assert held_before > 0
    assert lease.free == 0
    assert stage.granted(lease) == lease.granted


async def test_a_recall_that_meets_a_busy_lease_is_served_later(stage: Stage) -> None:
    organization = stage.bank.organization(10_000)
    await stage.spend(organization, 100, 0)
    lease = stage.lease(organization)
    stage.fail(Fate("slow_answer"))
    growing = asyncio.ensure_future(stage.worker.hold_open(request(organization, 1_000)))
    while not lease.busy:
        await asyncio.sleep(0)
    stage.worker.book.recall(organization)
    hold = await growing
    await stage.quiet()
    # What the extension brought beyond the call went back.
    assert lease.free == 0
    assert stage.granted(lease) == 1_000
    stage.worker.hold_release(hold)


async def test_money_that_a_call_holds_is_not_returned(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    hold = await stage.worker.hold_open(request(organization, 100))
    lease = stage.lease(organization)
    stage.worker.book.recall(organization)
    await stage.quiet()
    assert stage.granted(lease) == lease.granted == 100
    stage.worker.call_opened(hold, call_of(organization))
    assert stage.worker.call_settle(hold, DONE, 100) == 100


async def test_an_extension_takes_a_quarter_at_most(stage: Stage) -> None:
    """Unless a call needs more: so that the last money is not scattered over idle workers."""
    organization = stage.bank.organization(10_000)
    await stage.spend(organization, 100, 0)
    assert stage.granted(stage.lease(organization)) <= 2_500
    other = stage.bank.organization(10_000)
    await stage.spend(other, 9_000, 0)
    assert stage.granted(stage.lease(other)) == 9_000


async def test_growth_by_a_late_message_is_noticed(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    unknown = uuid7()
    await grow(stage, want(stage, organization, unknown, 0, 100))
    await stage.worker.renew()
    lease = stage.lease(organization)
    assert (lease.id, lease.granted, lease.draining) == (unknown, 100, True)
    await grow(stage, want(stage, organization, unknown, 1, 50))
    await stage.worker.renew()
    assert lease.granted == 150
    stage.worker.tidy()
    await stage.quiet()
    assert stage.bank.open_leases() == 0


async def test_a_short_wallet_is_remembered_in_the_database(stage: Stage) -> None:
    organization = stage.bank.organization(10)
    answer = await grow(stage, want(stage, organization, uuid7(), 0, 100))
    assert answer is not None
    assert answer.short
    renewal = await stage.database.run(
        partial(transactions.renew, worker_id=stage.worker.id, timing=TIMING, report={})
    )
    assert renewal is not None
    assert renewal.recalls == [(organization, 0)]


async def test_a_call_that_outlives_its_hold_is_not_charged(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    hold = await stage.worker.hold_open(request(organization, 100))
    stage.worker.call_opened(hold, call_of(organization))
    hold.deadline = now() - 0.001
    with pytest.raises(DeadlinePassed):
        stage.worker.call_settle(hold, DONE, 50)
    assert stage.lease(organization).spent == 0


async def test_a_lease_past_its_end_serves_no_new_call(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    old = stage.lease(organization)
    old.usable_until = now()
    await stage.spend(organization, 100, 10)
    assert old.draining
    assert old.spent == 10


async def test_a_lease_ends_with_the_first_of_its_grants(stage: Stage) -> None:
    organization = stage.bank.organization(100)
    stage.bank.grant(organization, 100, expires_in=2.0)
    await stage.spend(organization, 150, 10)
    assert stage.lease(organization).usable_until <= now() + 2.0


async def test_a_drained_lease_closes_only_when_its_records_are_shipped(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    lease = stage.lease(organization)
    lease.used_at = now() - 10
    stage.worker.tidy()
    await stage.quiet()
    stage.worker.tidy()
    await stage.quiet()
    assert stage.bank.open_leases() == 1
    await ship_all(stage)
    stage.worker.tidy()
    await stage.quiet()
    assert stage.bank.open_leases() == 0
    assert stage.bank.charged(organization) == 10


async def ship_all(stage: Stage) -> None:
    from billing.engine.shipper import ShipCounters, Shipper

    shipper = Shipper(stage.database, ShipCounters())
    worker = stage.worker
    while worker.shipped < worker.journal.end:
        worker.shipped = await shipper.ship_from(
            directory=worker.journal.directory, worker_id=worker.id, start=worker.shipped
        )


async def test_a_late_shipper_changes_nothing(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    stage.fail(Fate("late"))
    with pytest.raises(Exception, match="late on purpose"):
        await ship_all(stage)
    await ship_all(stage)
    await stage.faults.deliver()
    assert stage.faults.refused == []
    assert stage.bank.charged(organization) == 10
    assert stage.bank.number("SELECT count(*) FROM billing_usagerecord") == 1


async def test_a_shipper_that_starts_elsewhere_ships_nothing(stage: Stage) -> None:
    batch = Batch(worker_id=stage.worker.id, start=7, end=9, records=[])
    assert await stage.database.run(partial(ship, batch=batch, wallets=set())) == 0


async def test_a_segment_stays_until_it_is_shipped_and_its_calls_have_ended(
    stage: Stage, bank: Bank
) -> None:
    organization = bank.organization(10**9)
    stage.worker.journal._segment_bytes = 8 * 1024
    long = await stage.worker.hold_open(request(organization, 100))
    stage.worker.call_opened(long, call_of(organization))
    for _ in range(60):
        await stage.spend(organization, 100, 1)
    journal = stage.worker.journal
    journal.delete_behind(stage.worker.oldest_needed_offset())
    assert segments(journal.directory)[0][0] == 0
    await ship_all(stage)
    journal.delete_behind(stage.worker.oldest_needed_offset())
    assert segments(journal.directory)[0][0] == 0  # The open call's record is in there.
    stage.worker.call_settle(long, DONE, 1)
    await ship_all(stage)
    journal.delete_behind(stage.worker.oldest_needed_offset())
    assert len(segments(journal.directory)) == 2


async def test_nobody_finishes_a_worker_whose_journal_is_not_shipped(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    finish = partial(transactions.finish, worker_id=stage.worker.id, end=stage.worker.journal.end)
    assert await stage.database.run(finish) is False
    assert stage.bank.open_leases() == 1
    await ship_all(stage)
    assert await stage.database.run(finish) is True
    assert stage.bank.open_leases() == 0


async def test_what_returns_goes_where_it_came_from(stage: Stage) -> None:
    organization = stage.bank.organization(0)
    soon = stage.bank.grant(organization, 100, expires_in=600.0)
    later = stage.bank.grant(organization, 100, expires_in=6000.0)
    await stage.spend(organization, 150, 30)
    stage.worker.book.give(stage.lease(organization))
    await stage.quiet()
    free: dict[int, int] = dict(
        stage.bank.connection.execute("SELECT id, free_nano_usd FROM billing_grant").fetchall()
    )
    # The part that expires last went back first; what was spent is of the part that expires first.
    assert free == {soon: 70, later: 100}


async def test_what_returns_to_an_expired_grant_expires(stage: Stage) -> None:
    organization = stage.bank.organization(0)
    stage.bank.grant(organization, 100, expires_in=600.0)
    await stage.spend(organization, 100, 30)
    stage.bank.connection.execute("UPDATE billing_grant SET expires_at = now()")
    stage.worker.book.give(stage.lease(organization))
    await stage.quiet()
    assert stage.bank.row("SELECT free_nano_usd, expired_nano_usd FROM billing_grant") == (0, 70)


async def test_the_leases_of_an_expired_worker_are_kept_until_its_calls_must_have_ended(
    stage: Stage,
) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    database = Database(url=stage.bank.url, timeout=5.0)
    set_back = "UPDATE billing_worker SET expires_at = now() - make_interval(secs => %s)"
    stage.bank.connection.execute(set_back, [TIMING.max_call])
    assert await sweep(database, TIMING, DatabaseClock()) == 0
    assert stage.bank.row("SELECT state FROM billing_worker") == ("expired",)
    assert stage.bank.open_leases() == 1
    stage.bank.connection.execute(set_back, [TIMING.retain + 1])
    assert await sweep(database, TIMING, DatabaseClock()) == 1
    assert stage.bank.open_leases() == 0
    await database.close()
    # It comes back: its record is late, and the wallet pays what it has.
    await ship_all(stage)
    assert stage.bank.charged(organization) == 10
    assert stage.bank.balance(organization) == 990


async def test_a_lost_worker_costs_the_operator_what_the_wallet_has_no_more(stage: Stage) -> None:
    organization = stage.bank.organization(100)
    await stage.spend(organization, 100, 80)
    database = Database(url=stage.bank.url, timeout=5.0)
    stage.bank.connection.execute("UPDATE billing_worker SET expires_at = now() - interval '1 day'")
    assert await sweep(database, TIMING, DatabaseClock()) == 1
    await database.close()
    stage.bank.connection.execute(
        "UPDATE billing_grant SET expires_at = now() WHERE organization_id = %s", [organization]
    )
    await ship_all(stage)
    assert stage.bank.charged(organization) == 80
    assert stage.bank.row(
        "SELECT sum(amount_nano_usd)::bigint FROM billing_ledgerentry WHERE account = 'write_off'"
    ) == (-80,)


def test_the_lock_is_not_inherited_by_programs_that_we_start(stage: Stage) -> None:
    assert not os.get_inheritable(stage.worker.journal._lock)


async def test_a_lease_of_which_the_database_knows_less_ends_the_worker(stage: Stage) -> None:
    organization = stage.bank.organization(1_000)
    await stage.spend(organization, 100, 10)
    await stage.worker.renew()
    assert not stage.worker.book.fenced
    stage.bank.connection.execute("UPDATE billing_lease SET version = version - 1")
    await stage.worker.renew()
    assert stage.worker.book.fenced


def test_a_database_clock_that_was_set_is_not_steady() -> None:
    clock, database_time = DatabaseClock(), 1e9
    assert clock.is_steady(database_time, TIMING)
    set_ahead = database_time + 86_400
    assert not clock.is_steady(set_ahead, TIMING)
