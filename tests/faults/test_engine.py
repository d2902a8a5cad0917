"""Faults that need the engine alone, and the line to its database in our hands."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from billing.engine import EngineUnavailable, InsufficientQuota, MoneyEngine
from billing.engine.journal import Journal
from billing.identifiers import uuid7
from tests.billing.engine.support import (
    QUICK,
    Bank,
    request,
    running,
    settings_for,
    spend,
)
from tests.faults.line import Line
from tests.faults.product import ROOT, until

ENGINE_CONNECTIONS = 2
GRANT, HOLD, COST, CALLS = 1_000, 100, 70, 3
JOURNALS = 300
# Their leases outlast any wait for PostgreSQL to notice a deadlock.
LONG_LIVED = replace(QUICK, ttl=60.0)


@pytest.fixture
async def line(bank: Bank) -> AsyncIterator[Line]:
    async with Line(bank.url) as line:
        yield line


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    (tmp_path / "journals").mkdir()
    return tmp_path / "journals"


def sessions(bank: Bank, condition: str = "true") -> int:
    return bank.number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate-engine'"
        f" AND datname = current_database() AND {condition}"
    )


async def test_a_lock_that_lasts_does_not_pile_up_sessions(bank: Bank, journals: Path) -> None:
    organization = bank.organization(GRANT)
    async with running(settings_for(bank.url, journals)) as engine:
        with bank.connection.transaction():
            bank.connection.execute("SELECT 1 FROM billing_wallet FOR UPDATE")
            for _ in range(8):
                with pytest.raises(EngineUnavailable):
                    await engine.hold_open(request(organization, HOLD))
            await until(lambda: sessions(bank) <= 2 * ENGINE_CONNECTIONS, "fewer sessions")
        assert await spend(engine, organization, HOLD, COST) == COST
    assert bank.findings() == []


COMMIT_OF_RECORDS = (b"COPY billing_usagerecord", b"COMMIT")


@asynccontextmanager
async def dead_owner(bank: Bank, line: Line, journals: Path, *marks: bytes) -> AsyncIterator[None]:
    """A sibling lives; the owner was killed when that message of its shipping was on its way."""
    organization = bank.organization(GRANT)
    line.hold_at(*marks)
    arguments = (line.url, journals, organization, HOLD, COST, CALLS)
    async with running(settings_for(bank.url, journals)):
        owner = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.spender",
            *map(str, arguments),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(30):
                await line.held.wait()
                assert owner.stdout is not None
                assert await owner.stdout.readline() == b"spent\n"
        finally:
            owner.kill()
            await owner.communicate()
        yield
        await replayed(journals)
    assert bank.charged(organization) == CALLS * COST
    assert bank.balance(organization) == GRANT - CALLS * COST
    assert bank.findings() == []
    assert list(journals.iterdir()) == []


async def replayed(journals: Path) -> None:
    """Only the sibling's own journal is left."""
    await until(lambda: len(list(journals.iterdir())) == 1, "the end of the replay")


async def second_shipper(bank: Bank) -> None:
    await until(lambda: sessions(bank, "wait_event_type = 'Lock'"), "the second shipper")


async def test_f9_a_commit_that_comes_after_its_senders_death_counts(
    bank: Bank, line: Line, journals: Path
) -> None:
    async with dead_owner(bank, line, journals, *COMMIT_OF_RECORDS):
        await second_shipper(bank)
        line.release()


async def test_f9_a_commit_that_never_comes_does_not_count(
    bank: Bank, line: Line, journals: Path
) -> None:
    async with dead_owner(bank, line, journals, *COMMIT_OF_RECORDS):
        await second_shipper(bank)
        await line.cut()


async def test_f9_a_shipment_that_begins_after_its_replay_changes_nothing(
    bank: Bank, line: Line, journals: Path
) -> None:
    async with dead_owner(bank, line, journals, b"SET shipped_offset"):
        await replayed(journals)
        before = transactions_rolled_back(bank)
        line.release()
        await until(lambda: transactions_rolled_back(bank) > before, "its arrival")


def transactions_rolled_back(bank: Bank) -> int:
    bank.connection.execute("SELECT pg_stat_clear_snapshot()")
    return bank.number(
        "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    )


def worker_states(bank: Bank) -> list[object]:
    rows = bank.connection.execute("SELECT state FROM billing_worker ORDER BY id").fetchall()
    return [state for (state,) in rows]


async def test_an_owner_that_was_cut_off_settles_late_and_once(
    bank: Bank, line: Line, journals: Path
) -> None:
    """Its lock keeps siblings from its journal, so only time can take its money away."""
    organization = bank.organization(GRANT)
    async with running(settings_for(line.url, journals)) as owner:
        assert await spend(owner, organization, HOLD, COST) == COST
        await until(lambda: bank.charged(organization) == COST, "the record")
        line.hold_all()
        assert await spend(owner, organization, HOLD, COST) == COST
        async with running(settings_for(bank.url, journals)) as sibling:
            await until(lambda: "lost" in worker_states(bank), "the owner's loss")
            assert bank.findings() == []
            await spend_all_but(sibling, organization, bank, rest=COST // 2)
            line.release()
            await until(lambda: "complete" in worker_states(bank), "the owner's end")
            await until(lambda: owner.problems() == [], "its next incarnation")
            with pytest.raises(InsufficientQuota):
                await spend(owner, organization, HOLD, COST)
    assert bank.charged(organization) == GRANT + COST - COST // 2
    assert bank.balance(organization) == 0
    assert bank.findings() == []


async def spend_all_but(engine: MoneyEngine, organization: int, bank: Bank, *, rest: int) -> None:
    amount = bank.balance(organization) - rest
    assert await spend(engine, organization, amount, amount) == amount
    await until(lambda: bank.balance(organization) == rest, "the record")


async def test_a_stop_without_database_leaves_the_journal_to_the_next(
    bank: Bank, line: Line, journals: Path
) -> None:
    organization = bank.organization(GRANT)
    engine = MoneyEngine(settings_for(line.url, journals))
    await engine.start()
    assert await spend(engine, organization, HOLD, COST) == COST
    await until(lambda: bank.charged(organization) == COST, "the record")
    line.hold_all()
    assert await spend(engine, organization, HOLD, COST) == COST
    await engine.stop(1.0)
    assert len(list(journals.iterdir())) == 1
    await line.cut()
    async with running(settings_for(bank.url, journals)):
        await until(lambda: bank.charged(organization) == 2 * COST, "the replay")
    assert bank.open_leases() == 0
    assert bank.findings() == []
    assert list(journals.iterdir()) == []


async def test_f15_a_deadlock_is_tried_again(bank: Bank, journals: Path) -> None:
    """Somebody locks the lease and then the worker, which is not the order of the engine."""
    organization = bank.organization(GRANT)
    async with running(settings_for(bank.url, journals, timing=LONG_LIVED)) as engine:
        await spend(engine, organization, HOLD, COST)
        await until(lambda: bank.charged(organization) == COST, "the record")
        calls, before = 2, deadlocks(bank)
        while not await deadlocked(bank, engine, organization):
            calls += 1
        await until(lambda: deadlocks(bank) > before, "the server's count of deadlocks")
        await until(lambda: bank.charged(organization) == calls * COST, "the records")
        assert engine.counters.set_aside == 0
    assert bank.balance(organization) == GRANT - calls * COST
    assert bank.findings() == []


async def deadlocked(bank: Bank, engine: MoneyEngine, organization: int) -> bool:
    """Whether it was the engine's transaction, and not ours, that PostgreSQL has ended."""
    with suppress(psycopg.errors.DeadlockDetected), bank.connection.transaction():
        bank.connection.execute("SELECT 1 FROM billing_lease WHERE state = 'open' FOR UPDATE")
        assert await spend(engine, organization, HOLD, COST) == COST
        with Bank(bank.url).connection as observer:
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND transactionid IS NOT NULL"
            await until(lambda: observer.execute(waiting).fetchone(), "the shipper")
        await asyncio.to_thread(
            bank.connection.execute, "SELECT 1 FROM billing_worker WHERE state = 'live' FOR UPDATE"
        )
        return True
    return False


def deadlocks(bank: Bank) -> int:
    bank.connection.execute("SELECT pg_stat_clear_snapshot()")
    return bank.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


async def test_f15_a_serialization_error_is_tried_again(bank: Bank, journals: Path) -> None:
    """Where the operator has made a stricter isolation the default, transactions may collide."""
    organization = bank.organization(GRANT)
    (database,) = bank.row("SELECT current_database()")
    bank.connection.execute(
        f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'"
    )
    bank.drop_other_sessions()
    async with running(settings_for(bank.url, journals)) as engine:
        before = transactions_rolled_back(bank)
        with bank.connection.transaction():
            bank.connection.execute("UPDATE billing_wallet SET short_at = clock_timestamp()")
            call = asyncio.create_task(spend(engine, organization, HOLD, COST))
            await until(lambda: sessions(bank, "wait_event_type = 'Lock'"), "the growth")
        assert await call == COST
        assert transactions_rolled_back(bank) > before
        await until(lambda: bank.charged(organization) == COST, "the record")
    assert bank.balance(organization) == GRANT - COST
    assert bank.findings() == []


def make_and_remove(journals: Path) -> None:
    for _ in range(JOURNALS):
        Journal.create(root=journals, worker_id=uuid7(), segment_bytes=65536).destroy()


async def test_siblings_leave_journals_alone_that_come_and_go(bank: Bank, journals: Path) -> None:
    sibling = MoneyEngine(settings_for(bank.url, journals))
    coming_and_going = asyncio.create_task(asyncio.to_thread(make_and_remove, journals))
    while not coming_and_going.done():
        await sibling.replay_dead_siblings()
        await asyncio.sleep(0)
    await coming_and_going
    assert list(journals.iterdir()) == []
