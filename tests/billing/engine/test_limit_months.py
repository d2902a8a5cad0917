"""A month and more of spend limits, over midnights, clock changes and changes of the time zone.

The database's clock is set, hours at a time; an oracle counts by the calendar what each window has.
"""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from billing.engine import LimitSet, MoneyEngine, SpendLimitReached
from billing.engine.spend_limits import LimitTerms
from billing.limits import organization_time_zone_set
from billing.windows import Window, window_at
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
from tests.factories import ACTOR
from tests.faults.test_clocks import Clock

HOUR = dt.timedelta(hours=1)
RICH = 10**9
HOLD = 100
# The database's clock jumps by hours, which no lease of a real worker would outlast.
TIMING = replace(QUICK, ttl=20.0, timeout=5.0, grace=5.6, max_call=60.0)


@pytest.fixture
def bank(committing_db: str) -> Iterator[Bank]:
    bank = Bank(committing_db)
    yield bank
    findings = bank.findings(retain=1e9)
    bank.connection.close()
    assert findings == []


@dataclass
class Calendar:
    """The database's time, and what was spent in which window by the calendar."""

    bank: Bank
    clock: Clock
    engine: MoneyEngine
    organization: int
    zone: str = "UTC"
    at: dt.datetime = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    spent: Counter[tuple[int, Window]] = field(default_factory=Counter)

    async def go_to(self, moment: dt.datetime) -> None:
        """All leases go back first: they would last an hour at most."""
        book = self.engine._workers[-1].book
        async with asyncio.timeout(20):
            while book.leases:
                for lease in book.leases.values():
                    lease.usable_until = 0.0
                self.engine._workers[-1].tidy()
                await asyncio.sleep(0.005)
        self.set_to(moment)

    def set_to(self, moment: dt.datetime) -> None:
        self.clock.set_ahead(round((moment - dt.datetime.now(dt.UTC)).total_seconds()))
        self.at = moment
        for account in self.engine._workers[-1].book.accounts.values():
            account.forget_refusal()  # It is remembered for a second at most.

    def limits(self, *limits: LimitTerms) -> LimitSet:
        return LimitSet(self.organization, self.zone, limits)

    def window(self, limit: LimitTerms) -> tuple[int, Window]:
        return limit.id, window_at(limit.per, self.at, ZoneInfo(self.zone))

    async def spend_one(self, *limits: LimitTerms) -> None:
        await spend(self.engine, self.organization, HOLD, HOLD, self.limits(*limits))
        for limit in limits:
            self.spent[self.window(limit)] += HOLD

    async def spend_all(self, *limits: LimitTerms) -> None:
        """Until a limit refuses it."""
        refused = None
        while refused is None:
            try:
                await self.spend_one(*limits)
            except SpendLimitReached as error:
                refused = error
        assert refused.resets_at == self.window(refused.limit)[1].end


@pytest.fixture
async def calendar(bank: Bank, tmp_path: Path) -> AsyncIterator[Calendar]:
    organization = bank.organization(RICH)
    clock = Clock(bank)
    async with running(settings_for(bank.url, tmp_path / "journals", timing=TIMING)) as engine:
        yield Calendar(bank, clock, engine, organization)
        clock.set_ahead(0)


async def zone_set(calendar: Calendar, zone: str) -> None:
    (slug,) = calendar.bank.row("SELECT slug FROM accounts_organization")

    def set_it() -> None:
        organization_time_zone_set(slug=str(slug), time_zone=zone, actor=ACTOR)
        connection.close()

    await asyncio.to_thread(set_it)
    calendar.zone = zone


@pytest.mark.parametrize(
    ("zone", "first_day"),
    [
        ("Europe/Berlin", dt.date(2026, 10, 20)),  # A day of 25 hours.
        ("America/Santiago", dt.date(2026, 9, 1)),  # A midnight that does not exist.
    ],
)
async def test_a_month_of_windows_holds_to_the_calendar(
    calendar: Calendar, zone: str, first_day: dt.date
) -> None:
    """Every 8 hours everything is spent that may be: no window gets more, and none gets less."""
    bank = calendar.bank
    await zone_set(calendar, zone)
    caps = {"day": 3 * HOLD, "week": 16 * HOLD, "month": 40 * HOLD}
    limits = [
        bank.limit(calendar.organization, caps["day"], per="day"),
        bank.limit(calendar.organization, caps["week"], per="week"),
        bank.limit(calendar.organization, caps["month"], per="month"),
    ]
    moment = dt.datetime.combine(first_day, dt.time(0, 30), tzinfo=dt.UTC)
    for _ in range(3 * 32):
        await calendar.go_to(moment)
        before = Counter({at: calendar.spent[at] for at in map(calendar.window, limits)})
        await calendar.spend_all(*limits)
        # The oracle: as much as the narrowest of the three has left, to the last hold.
        room = min(caps[limit.per] - before[calendar.window(limit)] for limit in limits)
        for limit in limits:
            window = calendar.window(limit)
            assert calendar.spent[window] - before[window] == room // HOLD * HOLD
        moment += 8 * HOUR
    await calendar.go_to(moment)
    assert_as_counted(calendar)


def assert_as_counted(calendar: Calendar) -> None:
    rows = calendar.bank.connection.execute(
        "SELECT limit_id, period_start, period_end, used_nano_usd FROM billing_spendlimitperiod"
        " WHERE used_nano_usd > 0"
    ).fetchall()
    assert {(row[0], Window(row[1], row[2])): row[3] for row in rows} == {
        window: amount for window, amount in calendar.spent.items() if amount
    }


async def test_a_call_counts_in_the_window_in_which_it_was_admitted(calendar: Calendar) -> None:
    """It is open over midnight, and the new day has its whole limit."""
    limit = calendar.bank.limit(calendar.organization, 3 * HOLD)
    await calendar.go_to(dt.datetime(2026, 11, 20, 23, 59, tzinfo=dt.UTC))
    first_day = calendar.window(limit)
    hold = await calendar.engine.hold_open(
        request(calendar.organization, HOLD), calendar.limits(limit)
    )
    calendar.engine.call_opened(hold, call_of(calendar.organization))
    calendar.set_to(dt.datetime(2026, 11, 21, 0, 1, tzinfo=dt.UTC))
    # Its lease ends with the window; the worker's clock, which nobody set, would not know.
    hold.lease.usable_until = 0.0
    await calendar.spend_all(limit)
    assert calendar.spent[calendar.window(limit)] == 3 * HOLD
    calendar.engine.call_settle(hold, DONE, HOLD)
    calendar.spent[first_day] += HOLD
    await calendar.go_to(calendar.at)
    assert_as_counted(calendar)


async def test_a_lease_that_outlived_its_window_takes_no_more(calendar: Calendar) -> None:
    """The worker believes that it may be used: the database says that the window is over."""
    limit = calendar.bank.limit(calendar.organization, 3 * HOLD)
    await calendar.go_to(dt.datetime(2026, 11, 20, 23, 0, tzinfo=dt.UTC))
    await calendar.spend_all(limit)
    calendar.set_to(dt.datetime(2026, 11, 21, 0, 1, tzinfo=dt.UTC))
    await calendar.spend_all(limit)
    assert sorted(calendar.spent.values()) == [3 * HOLD, 3 * HOLD]
    await calendar.go_to(calendar.at)
    assert_as_counted(calendar)


async def test_changes_of_the_zone_give_nobody_a_second_allowance(calendar: Calendar) -> None:
    """Every two hours another zone, there and back: the day's limit is had once, then the next."""
    limit = calendar.bank.limit(calendar.organization, 4 * HOLD)
    moment = dt.datetime(2026, 11, 20, 11, 0, tzinfo=dt.UTC)
    await calendar.go_to(moment)
    await calendar.spend_one(limit)
    for hours, zone in enumerate(("Europe/Berlin", "America/New_York", "UTC", "Europe/Berlin")):
        await calendar.go_to(moment + hours * HOUR)
        await zone_set(calendar, zone)
        left = 4 * HOLD - sum(calendar.spent.values())
        with pytest.raises(SpendLimitReached):
            await spend(
                calendar.engine, calendar.organization, left + 1, HOLD, calendar.limits(limit)
            )
        calendar.set_to(calendar.at)
        if left:
            await calendar.spend_one(limit)
        await calendar.go_to(calendar.at)
    charged = calendar.bank.charged(calendar.organization)
    assert charged == 4 * HOLD
    # The next day in the zone that is in force has its whole limit.
    await calendar.go_to(dt.datetime(2026, 11, 20, 23, 30, tzinfo=dt.UTC))
    await calendar.spend_all(limit)
    await calendar.go_to(calendar.at)
    assert calendar.bank.charged(calendar.organization) == charged + 4 * HOLD
