"""Setting spend limits, which no worker keeps to yet: so no command and no page offers them."""

import datetime as dt
from typing import Any

import pytest

from accounts.api_keys import UnknownApiKey, api_key_rotate
from accounts.models import AuditEvent, Organization
from billing.limits import (
    LimitScope,
    UnableToLimit,
    limit_scope_of,
    organization_time_zone_set,
    spend_limit_set,
)
from billing.models import SpendLimit, SpendLimitPeriod
from tests.commands import ask
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
