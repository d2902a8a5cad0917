"""Hours of calls: what they add up to is what the records say."""

import datetime as dt
import random
from collections import Counter
from typing import Any

import pytest
from django.db.models import Sum

from accounts.models import Organization
from billing.jobs import call_hours_gather, call_hours_gather_again
from billing.models import CallHour, UsageRecord
from billing.usage import call_hours
from billing.usage.call_hours import HOUR, calls_now, hour_of, hours_gather, hours_gather_again
from billing.usage.histograms import added, percentile
from tests.factories import make_organization, make_usage_record, now

NOW = dt.datetime(2026, 11, 20, 15, 30, tzinfo=dt.UTC)
MONEY = ("official_cost_nano_usd", "charge_nano_usd", "upstream_cost_nano_usd")


@pytest.fixture
def organization(db: None) -> Organization:
    return make_organization("acme")


def attempt(channel: str, cost: int = 0, **values: Any) -> dict[str, Any]:
    return {"channel": channel, "upstream_cost_nano_usd": cost, **values}


def sums(rows: Any) -> dict[str, int]:
    return {name: sum(getattr(row, name) for row in rows) for name in (*MONEY, "calls")}


def recorded() -> dict[str, int]:
    found = UsageRecord.objects.aggregate(**{name: Sum(name) for name in MONEY})
    return {**found, "calls": UsageRecord.objects.count()}


def some_calls(organization: Organization, count: int) -> None:
    chance = random.Random(7)
    for _ in range(count):
        failed = chance.random() < 0.3
        costs = [chance.randrange(1000) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        channels = [chance.choice("abc") for _ in costs]
        attempts = [attempt(*made) for made in zip(channels, costs, strict=True)]
        make_usage_record(
            organization,
            at=NOW - chance.random() * 5 * HOUR,
            channel=channels[-1],
            model=chance.choice(["gpt-4o", "o3"]),
            outcome="upstream_error" if failed else "completed",
            status=502 if failed else 200,
            official_cost_nano_usd=chance.randrange(9000),
            charge_nano_usd=0 if failed else chance.randrange(9000),
            upstream_cost_nano_usd=sum(costs),
            attempts=attempts if len(costs) > 1 else None,
            duration_ms=chance.randrange(10_000),
        )


def test_hours_add_up_to_the_records(organization: Organization) -> None:
    some_calls(organization, 120)
    assert hours_gather(now=NOW) == len({row.hour for row in CallHour.objects.all()})
    rows = list(CallHour.objects.all())
    assert sums(rows) == recorded()
    assert sum(row.attempts_failed for row in rows) == sum(
        len(record.attempts or ()) - 1
        for record in UsageRecord.objects.filter(attempts__isnull=False)
    )
    assert sum(row.served + row.failed for row in rows) == 120
    assert sum(sum(row.duration_counts.values()) for row in rows) == sum(r.served for r in rows)


def test_hours_gathered_twice_are_the_same(organization: Organization) -> None:
    some_calls(organization, 40)
    for _ in range(2):
        hours_gather(now=NOW)
        hours_gather_again(since=NOW - 6 * HOUR, until=NOW)
    assert sums(CallHour.objects.all()) == recorded()


def test_who_asks_gets_what_is_not_gathered_yet(organization: Organization) -> None:
    make_usage_record(organization, at=NOW - 3 * HOUR)
    hours_gather(now=NOW - 2 * HOUR)
    make_usage_record(organization, at=NOW - 3 * HOUR)  # Of the hour that was gathered last.
    make_usage_record(organization, at=NOW)
    since, until = NOW - 24 * HOUR, NOW + HOUR
    found = call_hours.call_hours(since=hour_of(since), until=until)
    assert found.is_complete
    assert sums(found.rows) == recorded()
    hours_gather(now=NOW)
    assert sums(CallHour.objects.all()) == recorded()


def test_nobody_waits_for_ever(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    make_usage_record(organization, at=NOW)
    hours_gather(now=NOW)
    monkeypatch.setattr(call_hours, "PATIENCE_MILLISECONDS", 20)
    slow = call_hours._GATHER.replace(
        "WHERE request_id", "WHERE pg_sleep(9) IS NULL AND request_id"
    )
    monkeypatch.setattr(call_hours, "_GATHER", slow)
    found = call_hours.call_hours(since=hour_of(NOW), until=NOW + HOUR)
    assert not found.is_complete
    assert sums(found.rows) == recorded()


def test_a_long_break_is_caught_up_with(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_hours, "HOURS_AT_ONCE", 2)
    for days in (90, 60, 59, 1, 0):
        make_usage_record(organization, at=NOW - dt.timedelta(days=days))
    assert [hours_gather(now=NOW) for _ in range(4)] == [2, 2, 2, 2]
    assert sums(CallHour.objects.all()) == recorded()


@pytest.mark.parametrize(
    ("outcome", "status", "expected"),
    [
        ("completed", 200, "served"),
        ("client_left", 200, "served"),
        ("interrupted", 200, "failed"),
        ("expired", 200, "failed"),
        ("lost", 0, "failed"),
        ("upstream_error", 200, "failed"),
        ("upstream_error", 503, "failed"),
        ("upstream_error", 429, "failed"),
        ("upstream_error", 400, "neither"),
        ("upstream_error", 404, "neither"),
        ("upstream_error", 499, "neither"),
    ],
)
def test_what_is_a_failure(
    organization: Organization, outcome: str, status: int, expected: str
) -> None:
    make_usage_record(organization, outcome=outcome, status=status, charge_nano_usd=0)
    hour = hour_of(now())
    (row,) = calls_now(since=hour - HOUR, until=hour + HOUR) or []
    assert row.unearned_cost_nano_usd == row.upstream_cost_nano_usd > 0
    found = {"served": row.served, "failed": row.failed, "neither": 1 - row.served - row.failed}
    assert {name for name, number in found.items() if number} == {expected}


def test_a_failed_attempt_counts_where_it_was_made(organization: Organization) -> None:
    attempts = [attempt("a", 3), attempt("a", 4), attempt("b", 5)]
    make_usage_record(organization, at=NOW, channel="b", attempts=attempts, charge_nano_usd=9)
    hours_gather(now=NOW)
    a, b = CallHour.objects.order_by("channel")
    assert (a.calls, a.attempts_failed, a.upstream_cost_nano_usd) == (0, 2, 7)
    assert (b.calls, b.attempts_failed, b.upstream_cost_nano_usd) == (1, 0, 5)
    assert (a.unearned_cost_nano_usd, b.unearned_cost_nano_usd) == (7, 0)


def test_percentiles_are_true_within_half_a_class(organization: Organization) -> None:
    times = [number * 37 for number in range(1, 101)]
    for number, milliseconds in enumerate(times):
        make_usage_record(
            organization,
            at=NOW - number % 3 * HOUR,
            duration_ms=milliseconds,
            first_token_ms=milliseconds // 10 if number % 2 else None,
        )
    hours_gather(now=NOW)
    rows = CallHour.objects.all()
    duration = added(row.duration_counts for row in rows)
    first_token = added(row.first_token_counts for row in rows)
    assert (sum(duration.values()), sum(first_token.values())) == (100, 50)
    for share in (0.5, 0.95):
        found = percentile(duration, share)
        assert found == pytest.approx(times[int(share * 100) - 1], rel=0.08)
    assert percentile(Counter(), 0.5) is None


def test_the_jobs_gather(organization: Organization) -> None:
    make_usage_record(organization)
    call_hours_gather()
    assert sums(CallHour.objects.all()) == recorded()
    make_usage_record(organization, at=now() - dt.timedelta(days=2))
    call_hours_gather()
    assert sums(CallHour.objects.all()) != recorded()
    call_hours_gather_again()
    assert sums(CallHour.objects.all()) == recorded()
