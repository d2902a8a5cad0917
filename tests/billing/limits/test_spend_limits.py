"""Setting spend limits, and what is told of them; that they hold is tests/billing/engine."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError

from accounts.api_keys import UnknownApiKey, api_key_rotate
from accounts.models import AuditEvent, Organization
from billing.identifiers import uuid7
from billing.limits import (
    LimitScope,
    LimitState,
    UnableToLimit,
    limit_scope_of,
    limit_states,
    limits_of_key,
    limits_of_scope,
    organization_time_zone_set,
    spend_limit_set,
)
from billing.models import Lease, SpendLimit, SpendLimitPeriod, Worker
from billing.windows import BEGINNING, END, window_at
from tests.commands import ask, say
from tests.factories import ACTOR, make_api_key, make_organization, make_project, now

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def set_limit(scope: LimitScope, cap: int | None, per: Any = "day") -> SpendLimit | None:
    return spend_limit_set(scope=scope, per=per, cap_nano_usd=cap, actor=ACTOR, now=now())


def test_a_scope_has_one_limit_per_window(acme: Organization) -> None:
    scope = LimitScope(organization=acme)
    first, again, week = set_limit(scope, 10), set_limit(scope, 20), set_limit(scope, 30, "week")
    assert first == again
    assert week != first
    caps = SpendLimit.objects.order_by("id").values_list("per", "cap_nano_usd")
    assert list(caps) == [("day", 20), ("week", 30)]
    events = AuditEvent.objects.filter(action="spend_limit.set").order_by("id")
    assert [event.details["before_usd"] for event in events] == [None, "0.00000001", None]


def test_a_removed_limit_can_be_set_anew(acme: Organization) -> None:
    scope = LimitScope(organization=acme)
    first = set_limit(scope, 10)
    assert set_limit(scope, None) is None
    assert set_limit(scope, None) is None
    assert AuditEvent.objects.filter(action="spend_limit.remove").count() == 1
    assert set_limit(scope, 10) != first


@pytest.mark.parametrize(("cap", "over"), [(100, 0), (60, 0), (59, 1), (0, 60)])
def test_a_new_cap_counts_in_the_running_window(acme: Organization, cap: int, over: int) -> None:
    scope = LimitScope(organization=acme)
    limit = set_limit(scope, 80)
    assert limit is not None
    past, running = (
        SpendLimitPeriod.objects.create(
            limit=limit,
            period_start=now() + start,
            period_end=now() + start + 24 * HOUR,
            cap_nano_usd=80,
            leased_nano_usd=10,
            used_nano_usd=50,
        )
        for start in (-30 * HOUR, -HOUR)
    )
    set_limit(scope, cap)
    running.refresh_from_db()
    past.refresh_from_db()
    assert (running.cap_nano_usd, running.over_nano_usd) == (cap, over)
    assert (past.cap_nano_usd, past.over_nano_usd) == (80, 0)


def test_scopes_are_named_as_people_name_them(acme: Organization) -> None:
    project = make_project(acme, "second")
    key, _ = make_api_key(acme, project=project)
    rotated = api_key_rotate(prefix=key.prefix, grace=HOUR, actor=ACTOR, now=now()).api_key
    assert limit_scope_of(organization="acme") == LimitScope(organization=acme)
    assert limit_scope_of(project="acme/second") == LimitScope(organization=acme, project=project)
    assert limit_scope_of(key=rotated.prefix) == LimitScope(organization=acme, api_key=key)
    with pytest.raises(UnknownApiKey):
        limit_scope_of(key="sk-nobody")
    for wrong in ({}, {"project": "acme"}, {"key": "a", "organization": "acme"}):
        with pytest.raises(UnableToLimit):
            limit_scope_of(**wrong)


@pytest.mark.parametrize(("per", "cap"), [("year", 1), ("day", -1), ("day", 10**19)])
def test_a_limit_that_makes_no_sense_is_refused(acme: Organization, per: str, cap: int) -> None:
    with pytest.raises(UnableToLimit):
        set_limit(LimitScope(organization=acme), cap, per)
    assert not SpendLimit.objects.exists()


def test_an_organization_counts_its_days_in_its_zone(acme: Organization) -> None:
    answer = ask("organization_time_zone", "acme", "Europe/Berlin")
    assert answer == {"organization": "acme", "time_zone": "Europe/Berlin"}
    for wrong in ("Mars/Base", "", "../etc", "Europe"):
        with pytest.raises(UnableToLimit):
            organization_time_zone_set(slug="acme", time_zone=wrong, actor=ACTOR)
    acme.refresh_from_db()
    assert acme.time_zone == "Europe/Berlin"


def test_the_command_sets_lists_and_removes(acme: Organization) -> None:
    make_project(acme, "second")
    key, _ = make_api_key(acme)
    answer = ask("spend_limit_set", "--key", key.prefix, "--usd", "2.50", "--per", "month")
    assert answer == {
        "limit": SpendLimit.objects.get().pk,
        "organization": "acme",
        "project": None,
        "key": key.prefix,
        "per": "month",
        "cap_nano_usd": 2_500_000_000,
    }
    assert "acme may spend 1.00 USD per day" in say(
        "spend_limit_set", "--organization", "acme", "--usd", "1", "--per", "day"
    )
    assert "may spend 3.00 USD in total" in say(
        "spend_limit_set", "--project", "acme/second", "--usd", "3", "--per", "total"
    )
    listed = ask("spend_limit_list", "--organization", "acme")["limits"]
    assert [(each["key"], each["project"], each["per"]) for each in listed] == [
        (key.prefix, None, "month"),
        (None, None, "day"),
        (None, "second", "total"),
    ]
    removed = ask("spend_limit_set", "--key", key.prefix, "--usd", "none", "--per", "month")
    assert (removed["limit"], removed["cap_nano_usd"]) == (None, None)
    assert say("spend_limit_list", "--key", key.prefix) == "No spend limit is in force.\n"
    for wrong in ("acme", "nobody/default", "acme/nobody"):
        with pytest.raises(CommandError):
            ask("spend_limit_set", "--project", wrong, "--usd", "1", "--per", "day")


def make_window(limit: SpendLimit, *, used: int, leased: int = 0, **columns: Any) -> None:
    running = window_at("day", now(), ZoneInfo("UTC"))
    SpendLimitPeriod.objects.create(
        limit=limit,
        cap_nano_usd=limit.cap_nano_usd,
        leased_nano_usd=leased,
        used_nano_usd=used,
        **{"period_start": running.start, "period_end": running.end} | columns,
    )


def state_of(limit: SpendLimit) -> LimitState:
    (state,) = limit_states([SpendLimit.objects.get(pk=limit.pk)], now=now())
    return state


def test_what_is_used_and_left_is_told(acme: Organization) -> None:
    limit = set_limit(LimitScope(organization=acme), 100)
    assert limit is not None
    fresh = state_of(limit)
    assert (fresh.used_nano_usd, fresh.left_nano_usd, fresh.used_percent) == (0, 100, 0)
    # What leases hold and no call has spent is left: it comes back to who needs it.
    make_window(limit, used=70, leased=30)
    state = state_of(limit)
    assert (state.used_nano_usd, state.left_nano_usd, state.used_percent) == (70, 30, 70)
    assert state.resets_at == window_at("day", now(), ZoneInfo("UTC")).end
    period = SpendLimitPeriod.objects.get()
    worker = Worker.objects.create(id=uuid7(), node="n", expires_at=now())
    for state_name, spent in (("open", 20), ("closed", 10)):
        Lease.objects.create(
            id=uuid7(),
            worker=worker,
            organization=acme,
            usable_until=now(),
            state=state_name,
            granted_nano_usd=spent,
            spent_nano_usd=spent,
            limit_period_ids=[period.pk],
        )
    assert state_of(limit).used_nano_usd == 90  # Of closed leases it is in `used` already.
    told = say("spend_limit_list", "--organization", "acme")
    assert "acme has used 0.00000009 of 0.0000001 USD per day until" in told


def test_a_change_of_zone_gives_no_second_allowance(acme: Organization) -> None:
    """The running windows end now, and what is gone of them counts in those that begin."""
    scope = LimitScope(organization=acme)
    day, total = set_limit(scope, 100), set_limit(scope, 100, "total")
    assert day is not None
    assert total is not None
    make_window(day, used=70)
    make_window(total, used=70, period_start=BEGINNING, period_end=END)
    organization_time_zone_set(slug="acme", time_zone="Pacific/Auckland", actor=ACTOR)
    cut = SpendLimitPeriod.objects.get(limit=day)
    assert cut.cut_short
    assert cut.period_end <= now()
    whole = SpendLimitPeriod.objects.get(limit=total)
    assert (whole.cut_short, whole.period_end) == (False, END)
    assert [state_of(limit).used_nano_usd for limit in (day, total)] == [70, 70]
    assert state_of(total).resets_at is None


def test_the_limits_of_a_key_are_all_that_bound_it(acme: Organization) -> None:
    project = make_project(acme, "second")
    key, _ = make_api_key(acme, project=project)
    rotated = api_key_rotate(prefix=key.prefix, grace=HOUR, actor=ACTOR, now=now()).api_key
    other, _ = make_api_key(acme)
    set_limit(LimitScope(organization=acme), 1)
    set_limit(LimitScope(organization=acme, project=project), 2)
    set_limit(LimitScope(organization=acme, api_key=key), 3)
    set_limit(LimitScope(organization=acme, api_key=key), 4, "week")
    set_limit(LimitScope(organization=acme, api_key=key), None, "week")
    caps = [[limit.cap_nano_usd for limit in limits_of_key(k)] for k in (key, rotated, other)]
    assert caps == [[1, 2, 3], [1, 2, 3], [1]]
    (mine,) = limits_of_scope(limit_scope_of(key=rotated.prefix))
    assert mine.cap_nano_usd == 3
