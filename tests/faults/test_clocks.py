"""F39: clocks that are set while calls run, and clocks that never agreed."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

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
from tests.faults.orphans import orphan, state
from tests.faults.product import until

GRANT, HOLD, COST = 1_000, 100, 70
DAY = 86_400
LONG_CALLS = replace(QUICK, max_call=600.0)


class Clock:
    """The database's clock, which its operator can set."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        (database,) = bank.row("SELECT current_database()")
        bank.connection.execute(
            "CREATE SCHEMA set;"
            "CREATE TABLE set.ahead AS SELECT interval '0' AS by;"
            "CREATE FUNCTION set.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
            " 'SELECT pg_catalog.clock_timestamp() + by FROM set.ahead';"
            # Whoever asks for the time without saying whose gets this one.
            f"ALTER DATABASE {database} SET search_path = set, pg_catalog, public"
        )
        bank.drop_other_sessions()

    def set_ahead(self, seconds: int) -> None:
        self._bank.connection.execute(
            "UPDATE set.ahead SET by = make_interval(secs => %s)", [seconds]
        )


@pytest.fixture
def clock(bank: Bank) -> Iterator[Clock]:
    yield Clock(bank)
    bank.connection.execute("UPDATE set.ahead SET by = interval '0'")


@pytest.mark.parametrize("seconds", [-DAY, DAY])
async def test_f39_the_wall_clock_of_a_worker_is_set(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Times in records are for people; deadlines and fences run on a clock that nobody can set."""
    organization = bank.organization(GRANT)
    true_time = time.time
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        hold = await engine.hold_open(request(organization, HOLD))
        engine.call_opened(hold, call_of(organization))
        monkeypatch.setattr(time, "time", lambda: true_time() + seconds)
        before = renewals(bank)
        await until(lambda: renewals(bank) != before, "a renewal")
        assert engine.problems() == []
        assert engine.call_settle(hold, DONE, COST) == COST
        assert await spend(engine, organization, HOLD, COST) == COST
        await until(lambda: bank.charged(organization) == 2 * COST, "the records")
    assert bank.balance(organization) == GRANT - 2 * COST
    assert bank.number("SELECT count(*) FROM billing_worker") == 1  # Nobody took it for dead.
    assert bank.findings() == []


def renewals(bank: Bank) -> object:
    return bank.row("SELECT max(expires_at) FROM billing_worker")


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_f39_the_clock_of_the_database_differs(
    bank: Bank, clock: Clock, tmp_path: Path, seconds: int
) -> None:
    clock.set_ahead(seconds)
    organization = bank.organization(GRANT)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        for _ in range(3):
            assert await spend(engine, organization, HOLD, COST) == COST
        before = renewals(bank)
        await until(lambda: renewals(bank) != before, "a renewal")
        assert await spend(engine, organization, HOLD, COST) == COST
        await until(lambda: bank.charged(organization) == 4 * COST, "the records")
        assert bank.row("SELECT state FROM billing_worker") == ("live",)
    assert bank.balance(organization) == GRANT - 4 * COST
    assert bank.findings() == []


async def test_f39_a_database_clock_that_is_set_ends_only_who_does_not_renew(
    bank: Bank, clock: Clock, tmp_path: Path
) -> None:
    """Right after it, everybody looks overdue for an hour: all get the time to renew."""
    organization = bank.organization(GRANT)
    dead = await orphan(bank, tmp_path / "gone", organization, hold=HOLD, cost=COST)
    async with running(settings_for(bank.url, tmp_path / "one", timing=LONG_CALLS)) as engine:
        hold = await engine.hold_open(request(organization, HOLD))
        engine.call_opened(hold, call_of(organization))
        await until(lambda: state(bank, dead) == "expired", "a sweeper that has begun")
        clock.set_ahead(3600)
        await until(lambda: state(bank, dead) == "lost", "the end of the dead one")
        query = "SELECT count(*) FROM billing_worker WHERE state = 'live'"
        assert bank.number(query) == 1
        assert engine.call_settle(hold, DONE, COST) == COST
        assert await spend(engine, organization, HOLD, COST) == COST
        await until(lambda: bank.charged(organization) == 3 * COST, "the records")
    assert bank.number("SELECT count(*) FROM billing_worker WHERE was_lost") == 1
    assert bank.balance(organization) == GRANT - 3 * COST
    assert bank.findings() == []
