"""F14, F47: the database comes back without its last commits, or as an old backup.

Its workers live on. What their journals still hold ships again, once; nobody spends money that the
database gave back; and where something is gone for good, that is told.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from billing.engine import Hold, MoneyEngine
from billing.engine.journal import segments
from tests.billing.engine.faulty import Faults, FaultyEngine
from tests.billing.engine.support import (
    DONE,
    QUICK,
    Bank,
    call_of,
    request,
    running,
    settings_for,
    spend,
)
from tests.faults.backups import Backup
from tests.faults.line import Line
from tests.faults.product import until

GRANT, HOLD, COST, CALLS = 10_000, 100, 70, 3
# However long a busy machine takes to bring a backup back, no call passes its deadline.
LONG_CALLS = replace(QUICK, max_call=600.0)


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]


async def begun(engine: MoneyEngine, organization: int) -> Hold:
    """A call that is upstream."""
    hold = await engine.hold_open(request(organization, HOLD))
    engine.call_opened(hold, call_of(organization))
    return hold


async def charged(bank: Bank, organizations: list[int], amount: int) -> None:
    for organization in organizations:
        await until(lambda o=organization: bank.charged(o) == amount, "the records")  # type: ignore[misc]  # A default is a value here.


async def served(engine: MoneyEngine, organization: int) -> None:
    """The next incarnation takes calls."""
    await until(lambda: engine.problems() == [], "the next incarnation")
    assert await spend(engine, organization, HOLD, COST) == COST


@asynccontextmanager
async def started(bank: Bank, journals: Path) -> AsyncIterator[FaultyEngine]:
    engine = FaultyEngine(settings_for(bank.url, journals, timing=LONG_CALLS), Faults())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(5.0)


@pytest.mark.parametrize("copied_before", ["the records", "the leases", "the workers"])
async def test_f14_records_still_in_journals_ship_again(
    bank: Bank, tmp_path: Path, caplog: pytest.LogCaptureFixture, copied_before: str
) -> None:
    """All was shipped and forgotten; a call is upstream meanwhile; its process lives on."""
    organizations = [bank.organization(GRANT), bank.organization(GRANT, strict=False)]
    backup = Backup(bank) if copied_before == "the workers" else None
    async with started(bank, tmp_path / "journals") as engine:
        if copied_before == "the leases":
            backup = Backup(bank)
            await until(lambda: engine.problems() == [], "its return")
        for organization in organizations:
            await spend(engine, organization, HOLD, COST)
        if copied_before == "the records":
            await charged(bank, organizations, COST)
            backup = Backup(bank)
            await until(lambda: engine.problems() == [], "its return")
        for organization in organizations * (CALLS - 1):
            await spend(engine, organization, HOLD, COST)
        upstream = [await begun(engine, organization) for organization in organizations]
        await charged(bank, organizations, CALLS * COST)
        (first,) = engine.serving()
        assert backup is not None
        backup.restore()
        await until(lambda: first not in engine.serving(), "the end of the one that was forgotten")
        for hold in upstream:
            assert engine.call_settle(hold, DONE, COST) == COST
        for organization in organizations:
            await served(engine, organization)
        await charged(bank, organizations, (CALLS + 2) * COST)
    assert all("has forgotten" in alarm for alarm in alarms(caplog))
    assert bank.number("SELECT count(*) FROM billing_usagerecord") == 2 * (CALLS + 2)
    for organization in organizations:
        assert bank.balance(organization) == GRANT - (CALLS + 2) * COST
    assert bank.open_leases() == 0
    assert bank.findings() == []
    assert list((tmp_path / "journals").iterdir()) == []


@pytest.mark.parametrize("is_settled", [True, False])
async def test_f47_a_dead_workers_journal_is_not_thrown_away(
    bank: Bank, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_settled: bool
) -> None:
    """The backup is older than the worker, so the database never heard of it; it died meanwhile."""
    organization = bank.organization(GRANT)
    backup = Backup(bank)
    engine = FaultyEngine(settings_for(bank.url, tmp_path / "journals"), Faults())
    await engine.start()
    if is_settled:
        await spend(engine, organization, HOLD, COST)
        await charged(bank, [organization], COST)
    await begun(engine, organization)
    await engine.die()
    backup.restore()
    async with running(settings_for(bank.url, tmp_path / "journals")) as sibling:
        await until(lambda: len(list((tmp_path / "journals").iterdir())) == 1, "the replay")
        await served(sibling, organization)
    outcomes = bank.connection.execute("SELECT outcome FROM billing_usagerecord").fetchall()
    expected = [("completed",), ("completed",), ("lost",)][not is_settled :]
    assert sorted(outcomes) == expected
    assert bank.charged(organization) == (1 + is_settled) * COST
    assert bank.balance(organization) == GRANT - (1 + is_settled) * COST
    assert alarms(caplog)
    assert bank.findings() == []


@pytest.mark.parametrize("strict", [True, False])
async def test_f47_money_that_came_back_by_a_backup_is_not_spent_twice(
    bank: Bank, tmp_path: Path, strict: bool
) -> None:
    """Somebody else spends it before the first worker's records come: the rest is written off."""
    organization = bank.organization(GRANT, strict=strict)
    backup = Backup(bank)
    async with (
        Line(bank.url) as line,
        running(settings_for(line.url, tmp_path / "one", timing=LONG_CALLS)) as one,
    ):
        upstream = await one.hold_open(request(organization, GRANT))
        one.call_opened(upstream, call_of(organization))
        line.hold_all()
        backup.restore()
        async with running(settings_for(bank.url, tmp_path / "other")) as other:
            most = GRANT - COST
            assert await spend(other, organization, most, most) == most
            await until(lambda: bank.charged(organization) == most, "the record")
        one.call_settle(upstream, DONE, GRANT)
        await line.cut()
        await until(lambda: bank.charged(organization) == most + GRANT, "the late record")
    assert bank.balance(organization) == 0
    query = (
        "SELECT sum(amount_nano_usd)::bigint FROM billing_ledgerentry WHERE account = 'write_off'"
    )
    assert bank.number(query) == COST - GRANT
    assert bank.findings() == []


async def test_f47_what_no_journal_holds_any_more_is_told(
    bank: Bank, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The older segments of the journal are gone; the last two are there, and ship."""
    organization = bank.organization(GRANT)
    async with started(bank, tmp_path / "journals") as engine:
        backup = Backup(bank)
        await until(lambda: engine.problems() == [], "its return")
        journal = engine._workers[-1].journal
        journal._segment_bytes = 8 * 1024
        while len(segments(journal.directory)) < 4:
            await spend(engine, organization, HOLD, 1)
        await until(lambda: len(segments(journal.directory)) == 2, "the end of the old segments")
        calls = bank.charged(organization)
        backup.restore()
        await until(lambda: bank.charged(organization) > 0, "what the journal holds")
        await served(engine, organization)
        await until(lambda: bank.charged(organization) > COST, "the record")
    assert 0 < bank.charged(organization) - COST < calls
    assert [alarm for alarm in alarms(caplog) if "does not hold any more" in alarm]
    assert bank.balance(organization) == GRANT - bank.charged(organization)
    assert bank.findings() == []


async def test_f47_records_of_an_organization_that_is_gone_are_set_aside(
    bank: Bank, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backup = Backup(bank)
    organization = bank.organization(GRANT)
    async with started(bank, tmp_path / "journals") as engine:
        await spend(engine, organization, HOLD, COST)
        await charged(bank, [organization], COST)
        backup.restore()
        aside = "SELECT count(*) FROM billing_setasiderecord"
        await until(lambda: bank.number(aside) == 1, "the record")
    assert [alarm for alarm in alarms(caplog) if "set aside" in alarm]
    found = {invariant for invariant, _, _ in bank.findings()}
    assert found == {"no record waits to be set right"}
