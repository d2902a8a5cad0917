import datetime as dt
import uuid
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from billing.models import SpendLimit, UsageRecord
from tests.console.conftest import Get
from tests.factories import (
    make_api_key,
    make_grant,
    make_lease,
    make_organization,
    make_project,
    make_usage_record,
    uuid7_at,
)

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
ZEROS = {
    "requests": 0,
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "completion_tokens": 0,
    "reasoning_tokens": 0,
    "total_tokens": 0,
    "official_cost_nano_usd": 0,
    "official_cost_usd": "0.00",
    "charge_nano_usd": 0,
    "charge_usd": "0.00",
}


def usage(get: Get, query: str) -> Any:
    response = get(f"/v1/usage?{query}")
    assert response.status_code == 200, response.content
    return response.json()


def test_usage_by_day_has_exactly_the_shape_of_the_contract(
    get: Get, organization: Organization
) -> None:
    make_grant(organization, amount_nano_usd=5_000_000_001)
    make_usage_record(organization, at=NOON, cached_tokens=10, reasoning_tokens=7)
    make_usage_record(organization, at=NOON, charge_nano_usd=1)
    group = {
        "requests": 2,
        "prompt_tokens": 2000,
        "cached_tokens": 10,
        "completion_tokens": 2000,
        "reasoning_tokens": 7,
        "total_tokens": 4000,
        "official_cost_nano_usd": 80_000_000,
        "official_cost_usd": "0.08",
        "charge_nano_usd": 20_000_001,
        "charge_usd": "0.020000001",
    }
    assert usage(get, "start=2026-11-20&end=2026-11-20&group_by=day") == {
        "object": "usage",
        "start": "2026-11-20",
        "end": "2026-11-20",
        "balance_nano_usd": 5_000_000_001,
        "balance_usd": "5.000000001",
        "total": group,
        "data": [{"day": "2026-11-20", **group}],
    }


def test_usage_by_model_names_the_most_expensive_first(
    get: Get, organization: Organization
) -> None:
    make_usage_record(organization, at=NOON, model="cheap", charge_nano_usd=1)
    make_usage_record(organization, at=NOON, model="b", charge_nano_usd=5)
    make_usage_record(organization, at=NOON, model="a", charge_nano_usd=5)
    answer = usage(get, "start=2026-11-20&end=2026-11-20&group_by=model")
    assert [group["model"] for group in answer["data"]] == ["a", "b", "cheap"]
    assert all("day" not in group for group in answer["data"])
    assert answer["total"]["charge_nano_usd"] == 11


def test_the_limits_of_the_key_that_asks_are_listed(get: Get, organization: Organization) -> None:
    for cap, per in ((10**9, "total"), (5 * 10**8, "week")):
        SpendLimit.objects.create(organization=organization, per=per, cap_nano_usd=cap)
    total, week = usage(get, "")["spend_limits"]
    assert total == {
        "scope": f"organization {organization.slug}",
        "per": "total",
        "limit_nano_usd": 10**9,
        "limit_usd": "1.00",
        "used_nano_usd": 0,
        "used_usd": "0.00",
        "left_nano_usd": 10**9,
        "left_usd": "1.00",
        "resets_at": None,
    }
    assert week["resets_at"].endswith("T00:00:00.000Z")


def test_without_calls_there_are_zeros_and_no_groups(get: Get) -> None:
    answer = usage(get, "start=2026-11-01&end=2026-11-30")
    assert (answer["total"], answer["data"]) == (ZEROS, [])
    assert (answer["balance_nano_usd"], answer["balance_usd"]) == (0, "0.00")


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (dt.datetime(2026, 11, 19, 23, 59, 59, 999_000, tzinfo=dt.UTC), None),
        (dt.datetime(2026, 11, 20, 0, 0, tzinfo=dt.UTC), "2026-11-20"),
        (dt.datetime(2026, 11, 21, 23, 59, 59, 999_000, tzinfo=dt.UTC), "2026-11-21"),
        (dt.datetime(2026, 11, 22, 0, 0, tzinfo=dt.UTC), None),
    ],
)
def test_a_range_includes_both_of_its_days_to_the_millisecond(
    get: Get, organization: Organization, moment: dt.datetime, day: str | None
) -> None:
    # What decides is the time in the id, not a column that was set a moment later.
    later = moment + dt.timedelta(seconds=1)
    make_usage_record(organization, request_id=uuid7_at(moment), at=later)
    answer = usage(get, "start=2026-11-20&end=2026-11-21")
    assert [group["day"] for group in answer["data"]] == ([day] if day else [])
    assert answer["total"]["requests"] == len(answer["data"])


def test_the_default_is_this_month_so_far(get: Get, organization: Organization) -> None:
    make_usage_record(organization)
    today = timezone.now().date()
    answer = usage(get, "")
    assert answer["start"] == today.replace(day=1).isoformat()
    assert answer["end"] == today.isoformat()
    assert answer["data"][-1]["day"] == today.isoformat()


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("end=2026-02-10", "2026-02-01", "2026-02-10"),
        ("start=2999-12-31", "2999-12-31", "2999-12-31"),
        ("start=2000-01-01&end=2999-12-31", "2000-01-01", "2999-12-31"),
        ("start=&end=2026-02-10&group_by=&unknown=1&unknown=2", "2026-02-01", "2026-02-10"),
    ],
)
def test_what_is_missing_is_filled_in(get: Get, query: str, start: str, end: str) -> None:
    answer = usage(get, query)
    assert (answer["start"], answer["end"]) == (start, end)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("start=yesterday", "start"),
        ("start=20261120", "start"),
        ("start=2026-W47-5", "start"),
        ("start=2026-02-30", "start"),
        ("start=1999-12-31", "start"),
        ("start=2026-11-20T00:00:00", "start"),
        ("start=%00", "start"),
        ("start=\u0662\u0660\u0662\u0666-11-20", "start"),
        ("start=2026-01-01&start=2026-01-02", "start"),
        ("start=2026-01-02&end=2026-01-01", "start"),
        ("end=3000-01-01", "end"),
        ("end=never", "end"),
        ("group_by=hour", "group_by"),
        ("group_by=day&group_by=model", "group_by"),
    ],
)
def test_a_bad_parameter_is_named(get: Get, query: str, parameter: str) -> None:
    response = get(f"/v1/usage?{query}")
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, parameter)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_parameter")
    assert f"'{parameter}'" in error["message"]


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/usage/records"])
def test_nobody_sees_another_organization(get: Get, path: str) -> None:
    other = make_organization("other", balance_nano_usd=1)
    make_usage_record(other)
    answer = get(path).json()
    assert answer["data"] == []
    assert "total" not in answer or answer["total"] == ZEROS


def test_a_key_sees_all_projects_of_its_organization(get: Get, organization: Organization) -> None:
    second = make_project(organization, "second")
    make_usage_record(organization, at=NOON)
    make_usage_record(organization, at=NOON + dt.timedelta(seconds=1), project=second)
    answer = usage(get, "start=2026-11-20&end=2026-11-20")
    assert answer["total"]["requests"] == 2
    _, key = make_api_key(organization, project=second)
    records = get("/v1/usage/records", key=key).json()["data"]
    assert [record["project"] for record in records] == ["second", "default"]


def test_the_balance_moves_with_charges_and_not_with_leases(
    get: Get, organization: Organization
) -> None:
    grant = make_grant(organization, amount_nano_usd=1_000)
    assert usage(get, "")["balance_nano_usd"] == 1_000
    make_lease(grant, granted_nano_usd=400)
    assert usage(get, "")["balance_nano_usd"] == 1_000
    make_lease(grant, granted_nano_usd=300, spent_nano_usd=120)
    assert usage(get, "")["balance_nano_usd"] == 880


def test_a_record_has_its_units_and_the_request_id_of_its_reply(
    get: Get, organization: Organization
) -> None:
    record = make_usage_record(
        organization,
        at=dt.datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=dt.UTC),
        stream=True,
        cached_tokens=3,
        price_id=77,
    )
    assert get("/v1/usage/records").json() == {
        "object": "list",
        "data": [
            {
                "request_id": f"req_{record.request_id.hex}",
                "created_at": "2026-11-20T12:00:00.123Z",
                "model": "gpt-4o",
                "endpoint": "chat/completions",
                "project": "default",
                "api_key_prefix": "sk-abcdefgh",
                "stream": True,
                "status": 200,
                "outcome": "completed",
                "retry_count": 0,
                "usage_source": "upstream",
                "prompt_tokens": 1000,
                "cached_tokens": 3,
                "completion_tokens": 1000,
                "reasoning_tokens": 0,
                "total_tokens": 2000,
                "units": {"input_tokens": 1000, "output_tokens": 1000},
                "discount_ppm": 500_000,
                "price_id": 77,
                "official_cost_nano_usd": 40_000_000,
                "official_cost_usd": "0.04",
                "charge_nano_usd": 20_000_000,
                "charge_usd": "0.02",
            }
        ],
        "next_cursor": None,
    }


def test_pages_hold_every_record_once_newest_first_also_within_a_millisecond(
    get: Get, organization: Organization
) -> None:
    base = uuid7_at(NOON).int >> 62 << 62
    ids = [uuid.UUID(int=base | number) for number in (5, 1, 9, 3, 7)]
    for request_id in ids:
        make_usage_record(organization, request_id=request_id)
    make_usage_record(make_organization("other"), request_id=uuid.UUID(int=base | 4))
    seen: list[str] = []
    cursor: Any = ""
    for size in (2, 2, 1):
        page = get(f"/v1/usage/records?limit=2&cursor={cursor}").json()
        assert len(page["data"]) == size
        seen += [record["request_id"] for record in page["data"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == [f"req_{request_id.hex}" for request_id in sorted(ids, reverse=True)]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "ten", "1e1", "+1", "99999999999"])
def test_a_limit_outside_1_to_100_is_refused(get: Get, limit: str) -> None:
    response = get(f"/v1/usage/records?limit={limit}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "limit")


@pytest.mark.parametrize(
    "cursor",
    ["x", "AAAA", "a" * 22, "A" * 23, "A" * 400, "/" * 22, "%00", "%F0%9F%98%80", "A" * 21 + "B"],
)
def test_a_cursor_that_was_not_made_here_is_refused(get: Get, cursor: str) -> None:
    response = get(f"/v1/usage/records?cursor={cursor}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "cursor")


def test_a_page_costs_the_same_statements_whatever_it_holds(
    get: Get, organization: Organization, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        project = make_project(organization, f"p{number}")
        make_usage_record(organization, project=project, model=f"model-{number}")
    with django_assert_max_num_queries(2):  # The key, the records.
        assert len(get("/v1/usage/records?limit=100").json()["data"]) == 30
    with django_assert_max_num_queries(4):  # The key, the groups, the balance, the limits.
        assert len(get("/v1/usage?group_by=model").json()["data"]) == 30
    assert UsageRecord.objects.count() == 30
