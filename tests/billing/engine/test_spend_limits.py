"""Spend limits, leased with the money: they hold, and who finds room elsewhere is not refused.

Setting them is tests/billing/test_spend_limits.py.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest

from billing.engine import (
    EngineSettings,
    InsufficientQuota,
    LimitSet,
    MoneyEngine,
    SpendLimitReached,
    SpendLimitTable,
    spend_limits_load,
    transactions,
)
from billing.engine.spend_limits import LimitTerms
from billing.windows import Per
from tests.billing.engine import support
from tests.billing.engine.faulty import Faults, FaultyEngine
from tests.billing.engine.support import (
    DONE,
    QUICK,
    Bank,
    bounded_by,
    call_of,
    request,
    running,
    settle,
    spend,
)
from tests.faults.backups import Backup

# However busy the machine is, no call gives up on the database.
CALM = replace(QUICK, ttl=20.0, timeout=5.0, grace=5.6, max_call=60.0)
RICH = 10**9
HOLD = 100


def settings_for(url: str, journals: Path) -> EngineSettings:
    return support.settings_for(url, journals, timing=CALM)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    findings = bank.findings(retain=1e6)
    bank.connection.close()
    assert findings == []


@pytest.fixture
async def engine(bank: Bank, tmp_path: Path) -> AsyncIterator[MoneyEngine]:
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        yield engine


async def reached(engine: MoneyEngine, organization: int, limits: LimitSet) -> SpendLimitReached:
    with pytest.raises(SpendLimitReached) as refused:
        await spend(engine, organization, HOLD, HOLD, limits)
    return refused.value


async def load(engine: MoneyEngine) -> SpendLimitTable:
    """What a worker does when it hears that limits have changed."""
    engine.limits_load(await engine.leases_database.run(spend_limits_load))
    return engine.limits


async def until(bank: Bank, limit: LimitTerms, window: tuple[int, int, int]) -> None:
    async with asyncio.timeout(10):
        while bank.window(limit) != window:
            await asyncio.sleep(0.01)


async def test_no_more_is_spent_than_the_limit(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(RICH)
    limit = bank.limit(organization, 250)
    limits = bounded_by(organization, limit)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        for _ in range(2):
            await spend(engine, organization, HOLD, HOLD, limits)
        refused = await reached(engine, organization, limits)
        assert (refused.limit, refused.cap_nano_usd) == (limit, 250)
        tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
        assert refused.resets_at.date() in {tomorrow, tomorrow - dt.timedelta(days=1)}
        # What is left is still to be had, and others are not bounded.
        assert await spend(engine, organization, 50, 50, limits) == 50
        assert await spend(engine, organization, HOLD, HOLD) == HOLD
    assert bank.window(limit) == (0, 250, 0)
    assert bank.spent_of(limit) == 250
    assert bank.balance(organization) == RICH - 250 - HOLD


async def test_a_refused_call_has_taken_nothing_of_anything(
    engine: MoneyEngine, bank: Bank
) -> None:
    """Of the wallet and three limits one is short: all or nothing."""
    organization = bank.organization(RICH)
    caps: list[tuple[int, Per]] = [(10_000, "month"), (HOLD - 1, "day"), (5_000, "total")]
    wide, narrow, total = (bank.limit(organization, cap, per=per) for cap, per in caps)
    refused = await reached(engine, organization, bounded_by(organization, wide, narrow, total))
    assert refused.limit == narrow
    assert [bank.window(limit) for limit in (wide, narrow, total)] == [(0, 0, 0)] * 3
    assert bank.row("SELECT balance_nano_usd FROM billing_wallet") == (RICH,)
    await spend(engine, organization, HOLD, 60, bounded_by(organization, wide, total))
    (lease,) = (lease for lease in engine._workers[0].book.leases.values() if lease.version)
    leased = [bank.window(limit)[0] for limit in (wide, total)]
    assert leased == [lease.granted, lease.granted]


async def test_the_wallet_is_the_reason_where_it_is_what_is_short(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(HOLD - 1)
    limits = bounded_by(organization, bank.limit(organization, RICH))
    with pytest.raises(InsufficientQuota) as refused:
        await spend(engine, organization, HOLD, HOLD, limits)
    assert type(refused.value) is InsufficientQuota


async def test_a_remembered_refusal_names_the_limit_too(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(RICH)
    limits = bounded_by(organization, bank.limit(organization, HOLD - 1))
    first = await reached(engine, organization, limits)
    asked = engine._workers[0].book.refusals
    again = await reached(engine, organization, limits)
    assert engine._workers[0].book.refusals == asked + 1
    assert (again.limit, again.resets_at) == (first.limit, first.resets_at)


async def test_room_in_the_slices_of_others_is_found(bank: Bank, tmp_path: Path) -> None:
    """Each of eight workers has a part; then one wants what only all of them together have."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, 8 * HOLD)
    limits = bounded_by(organization, limit)
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(running(settings_for(bank.url, tmp_path / f"j{n}")))
            for n in range(8)
        ]
        holds = [await e.hold_open(request(organization, HOLD), limits) for e in engines]
        assert bank.window(limit) == (8 * HOLD, 0, 0)
        await reached(engines[0], organization, limits)
        for engine, hold in zip(engines, holds, strict=True):
            engine.hold_release(hold)
        everything = await engines[0].hold_open(request(organization, 8 * HOLD), limits)
        assert settle(engines[0], everything, 8 * HOLD) == 8 * HOLD
        await reached(engines[1], organization, limits)
    assert bank.window(limit) == (0, 8 * HOLD, 0)


async def test_keys_of_one_project_share_its_limit(engine: MoneyEngine, bank: Bank) -> None:
    """One limit in the leases of several sets of limits of the same worker."""
    organization = bank.organization(RICH)
    project = bank.limit(organization, 5 * HOLD)
    keys = [
        bank.limit(organization, 4 * HOLD, per="month"),
        bank.limit(organization, RICH, per="week"),
    ]
    one, two = (bounded_by(organization, key, project) for key in keys)
    for _ in range(2):
        await spend(engine, organization, HOLD, HOLD, one)
    for _ in range(3):
        await spend(engine, organization, HOLD, HOLD, two)
    for limits in (one, two):
        assert (await reached(engine, organization, limits)).limit == project


async def test_what_was_refused_is_served_when_room_comes_back(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(RICH)
    limits = bounded_by(organization, bank.limit(organization, HOLD))
    async with (
        running(settings_for(bank.url, tmp_path / "one")) as one,
        running(settings_for(bank.url, tmp_path / "two")) as two,
    ):
        hold = await one.hold_open(request(organization, HOLD), limits)
        waiting = asyncio.ensure_future(two.hold_open(request(organization, HOLD // 2), limits))
        async with asyncio.timeout(10):
            while not any(a.retry for a in two._workers[0].book.accounts.values()):
                await asyncio.sleep(0.001)
        assert settle(one, hold, HOLD // 2) == HOLD // 2
        assert settle(two, await waiting, HOLD // 2) == HOLD // 2


async def test_a_recall_of_room_is_stored_until_the_next_renewals(
    engine: MoneyEngine, bank: Bank
) -> None:
    """A notification may be lost: who renews is told which limit is short."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, HOLD - 1)
    await reached(engine, organization, bounded_by(organization, limit))
    (worker,) = engine._workers
    renewing = partial(transactions.renew, worker_id=worker.id, timing=CALM, report={})
    renewal = await engine.leases_database.run(renewing)
    assert renewal is not None
    assert renewal.recalls == [(organization, limit.id)]


@pytest.mark.parametrize("cap", [None, 3 * HOLD, 10 * HOLD])
async def test_a_changed_cap_counts_at_once(bank: Bank, tmp_path: Path, cap: int | None) -> None:
    """Lowered, raised or removed while calls run: leases give back what is too much."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, 6 * HOLD)
    limits = bounded_by(organization, limit)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        await load(engine)
        # Its lease has all of the limit, and most of it is free.
        engine.hold_release(await engine.hold_open(request(organization, 6 * HOLD), limits))
        hold = await engine.hold_open(request(organization, 2 * HOLD), limits)
        bank.connection.execute(
            "UPDATE billing_spendlimit SET cap_nano_usd = coalesce(%(cap)s, cap_nano_usd),"
            " removed_at = CASE WHEN %(cap)s IS NULL THEN now() END;",
            {"cap": cap},
        )
        bank.connection.execute(
            "UPDATE billing_spendlimitperiod SET cap_nano_usd = %(cap)s,"
            " over_nano_usd = greatest(0, leased_nano_usd + used_nano_usd - %(cap)s)",
            {"cap": 6 * HOLD if cap is None else cap},
        )
        await load(engine)
        if cap is None:
            assert await spend(engine, organization, 20 * HOLD, HOLD, limits) == HOLD
        else:
            for _ in range((cap - 2 * HOLD) // HOLD):
                await spend(engine, organization, HOLD, HOLD, limits)
            assert (await reached(engine, organization, limits)).cap_nano_usd == cap
        assert settle(engine, hold, 2 * HOLD) == 2 * HOLD


async def test_a_cap_below_what_is_gone_gives_nobody_more(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(RICH)
    limit = bank.limit(organization, 6 * HOLD)
    limits = bounded_by(organization, limit)
    await load(engine)
    hold = await engine.hold_open(request(organization, 2 * HOLD), limits)
    bank.connection.execute("UPDATE billing_spendlimit SET cap_nano_usd = 1")
    bank.connection.execute(
        "UPDATE billing_spendlimitperiod SET cap_nano_usd = 1,"
        " over_nano_usd = leased_nano_usd + used_nano_usd - 1"
    )
    await load(engine)
    await reached(engine, organization, limits)
    await until(bank, limit, (2 * HOLD, 0, 2 * HOLD - 1))
    assert settle(engine, hold, HOLD) == HOLD  # A call that runs is not cut.


async def test_calls_that_cost_nothing_pass_a_used_up_limit(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(RICH)
    limits = bounded_by(organization, bank.limit(organization, 0))
    await reached(engine, organization, limits)
    assert await spend(engine, organization, 0, 0, limits) == 0


async def test_what_costs_more_than_its_hold_is_over_the_limit(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(RICH, strict=False)
    limit = bank.limit(organization, HOLD)
    limits = bounded_by(organization, limit)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        assert await spend(engine, organization, HOLD, 3 * HOLD, limits) == 3 * HOLD
        await reached(engine, organization, limits)
    assert bank.window(limit) == (0, 3 * HOLD, 2 * HOLD)


# --- Deaths --------------------------------------------------------------------------------------


async def test_a_killed_worker_keeps_no_room_and_no_charge(bank: Bank, tmp_path: Path) -> None:
    """kill -9 with a settled call that was not shipped, an open one, and a free part."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, 10 * HOLD)
    limits = bounded_by(organization, limit)
    settings = settings_for(bank.url, tmp_path / "journals")
    victim = FaultyEngine(settings, Faults())
    await victim.start()
    for _ in range(2):
        hold = await victim.hold_open(request(organization, HOLD), limits)
        victim.call_opened(hold, call_of(organization))
    victim.call_settle(hold, DONE, HOLD - 1)
    await victim.die()
    async with running(settings):
        await until(bank, limit, (0, HOLD - 1, 0))
    assert bank.spent_of(limit) == HOLD - 1


async def test_a_lost_worker_that_comes_back_counts_in_its_window(
    bank: Bank, tmp_path: Path
) -> None:
    """Its room was given away; what it had promised is over the limit, and nobody else's is."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, HOLD)
    limits = bounded_by(organization, limit)
    async with running(settings_for(bank.url, tmp_path / "one")) as one:
        hold = await one.hold_open(request(organization, HOLD), limits)
        one.call_opened(hold, call_of(organization))
        bank.connection.execute(
            "UPDATE billing_worker SET state = 'expired', expires_at = now() - interval '1 day'"
        )
        async with running(settings_for(bank.url, tmp_path / "two")) as two:
            await until(bank, limit, (0, 0, 0))
            assert await spend(two, organization, HOLD, HOLD, limits) == HOLD
        assert bank.window(limit) == (0, HOLD, 0)
        assert one.call_settle(hold, DONE, HOLD) == HOLD
        await until(bank, limit, (0, 2 * HOLD, HOLD))


async def test_what_the_database_forgot_counts_in_its_limit_again(
    bank: Bank, tmp_path: Path
) -> None:
    """The record in the journal says in which windows it counts: its lease is gone."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, 10 * HOLD)
    limits = bounded_by(organization, limit)
    backup = Backup(bank)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        hold = await engine.hold_open(request(organization, HOLD), limits)
        engine.call_opened(hold, call_of(organization))
        backup.restore()
        engine.call_settle(hold, DONE, HOLD)
        async with asyncio.timeout(10):
            while bank.charged(organization) != HOLD:
                await asyncio.sleep(0.01)
        assert bank.window(limit) == (0, HOLD, 0)
    assert bank.spent_of(limit) == HOLD


# --- Who is bounded by what ----------------------------------------------------------------------


async def test_workers_know_what_bounds_a_key(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(0)
    other = bank.organization(0)
    number = bank.number
    project = number(
        "INSERT INTO accounts_project (organization_id, slug, name, created_at)"
        " VALUES (%s, 'web', 'Web', now()) RETURNING id",
        organization,
    )
    key = number(
        "INSERT INTO accounts_apikey (organization_id, project_id, name, prefix, last4, digest,"
        " scopes, created_at) VALUES (%s, %s, '', 'sk-abc', 'wxyz', sha256('x'), '{relay}', now())"
        " RETURNING id",
        organization,
        project,
    )
    insert = (
        "INSERT INTO billing_spendlimit (organization_id, project_id, api_key_id, per,"
        " cap_nano_usd, created_at, removed_at) VALUES (%s, %s, %s, %s, 1, now(), {}) RETURNING id"
    )
    of_all = number(insert.format("NULL"), organization, None, None, "day")
    of_project = number(insert.format("NULL"), organization, project, None, "day")
    of_key = number(insert.format("NULL"), organization, None, key, "total")
    number(insert.format("now()"), organization, None, key, "week")
    table = await load(engine)
    assert set(table.organizations) == {organization}
    assert other not in table.organizations

    def ids(project_id: int, family: int) -> list[int]:
        found = table.organizations[organization].of(project_id, family)
        return [] if found is None else [limit.id for limit in found.limits]

    assert ids(project, key) == [of_key, of_project, of_all]
    assert ids(project, key + 1) == [of_project, of_all]
    assert ids(project + 1, key + 1) == [of_all]
    limits = table.organizations[organization].of(project, key)
    assert limits is not None
    assert limits.limits[0].scope == "API key sk-abc..."
    assert limits.limits[1].scope.startswith("project o")


async def test_a_constraint_refuses_more_than_there_is(bank: Bank) -> None:
    """What the statements must never do, the table does not take."""
    organization = bank.organization(RICH)
    limit = bank.limit(organization, HOLD)
    with pytest.raises(psycopg.errors.CheckViolation):
        bank.connection.execute(
            "INSERT INTO billing_spendlimitperiod (limit_id, period_start, period_end,"
            " cap_nano_usd, leased_nano_usd, used_nano_usd, over_nano_usd)"
            " VALUES (%s, now(), now() + interval '1 day', 100, 101, 0, 0)",
            [limit.id],
        )
