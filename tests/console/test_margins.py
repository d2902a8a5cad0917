"""The page of margins adds up to the records, and the page of health says how calls fared."""

import datetime as dt
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization
from billing.models import UsageRecord
from billing.usage.call_hours import call_hours, hour_of, hours_gather
from billing.usage.margins import Margin, margins, total_margin
from console.presentation import count, usd
from tests.billing.usage.test_call_hours import attempt
from tests.factories import make_usage_record, make_user, now

PAGE = reverse("admin:billing_callhour_changelist")
HEALTH = reverse("console_health")
DAY = dt.timedelta(days=1)


@pytest.fixture
def traffic(organization: Organization) -> None:
    """Three days of calls, of which the first are gathered."""
    for number in range(30):
        retried = number % 5 == 0
        cost = 100 + number
        make_usage_record(
            organization,
            at=now() - (number % 3 * DAY if number <= 20 else 0 * DAY),
            channel="main" if number % 2 else "spare",
            model=("gpt-4o", "o3", "gpt-4o-mini")[number % 3],
            charge_nano_usd=0 if number % 7 == 0 else 90 + 3 * number,
            upstream_cost_nano_usd=cost,
            attempts=[attempt("broken", 40), attempt("main", cost - 40)] if retried else None,
        )
        if number == 20:
            hours_gather(now=now())


def check_total(found: dict[str, Margin]) -> None:
    records = UsageRecord.objects.all()
    assert sum(one.calls for one in found.values()) == len(records)
    assert sum(one.charge_nano_usd for one in found.values()) == sum(
        record.charge_nano_usd for record in records
    )
    assert sum(one.cost_nano_usd for one in found.values()) == sum(
        record.upstream_cost_nano_usd for record in records
    )
    assert sum(one.margin_nano_usd for one in found.values()) == sum(
        record.charge_nano_usd - record.upstream_cost_nano_usd for record in records
    )


def test_whatever_they_are_grouped_by_they_add_up_to_the_records(traffic: None) -> None:
    rows = call_hours(since=hour_of(now() - 5 * DAY), until=now()).rows
    check_total({"all": total_margin(rows)})
    check_total(margins(rows, lambda row: row.channel))
    check_total(margins(rows, lambda row: row.model))
    check_total(margins(rows, lambda row: str(row.hour)))
    by_channel = margins(rows, lambda row: row.channel)
    assert (by_channel["broken"].calls, by_channel["broken"].attempts_failed) == (0, 6)
    assert by_channel["broken"].unearned_nano_usd == by_channel["broken"].cost_nano_usd == 240


def test_the_page_shows_the_same_total_three_times(administrator: Client, traffic: None) -> None:
    text = administrator.get(PAGE).content.decode()
    footers = [" ".join(one.split()) for one in re.findall("<tfoot>(.*?)</tfoot>", text, re.DOTALL)]
    assert len(footers) == 3
    assert len(set(footers)) == 1
    records = UsageRecord.objects.all()
    charge, cost = (
        sum(getattr(record, f"{name}_nano_usd") for record in records)
        for name in ("charge", "upstream_cost")
    )
    for shown in (count(len(records)), usd(charge), usd(cost), usd(charge - cost)):
        assert f"<td>{shown}</td>" in footers[0]


def test_a_range_is_of_whole_days(administrator: Client, traffic: None) -> None:
    yesterday = (now() - DAY).date()
    page = administrator.get(PAGE, {"from": str(yesterday), "to": str(yesterday)})
    assert page.context["cards"][0].value == "7"
    assert [line.name for line in page.context["tables"][2].lines] == [str(yesterday)]
    for nonsense in ({"from": "x", "to": "y"}, {"from": "9999-12-31"}, {"to": "0001-01-01"}):
        assert administrator.get(PAGE, nonsense).status_code == 200


def test_the_health_of_models_and_channels(
    administrator: Client, organization: Organization
) -> None:
    attempts = [attempt("main"), attempt("spare")]
    make_usage_record(organization, channel="main", duration_ms=1000, first_token_ms=100)
    make_usage_record(organization, channel="spare", duration_ms=1000, attempts=attempts)
    failed: dict[str, Any] = {"outcome": "upstream_error", "status": 502, "charge_nano_usd": 0}
    make_usage_record(organization, channel="spare", **failed)
    tables = administrator.get(HEALTH).context["tables"]
    (model,), (main, spare) = tables[0][1], tables[1][1]
    assert (model.name, model.windows[0][:2]) == ("gpt-4o", ("66.7 %", "3 calls"))
    assert (main.name, main.windows[1][:2]) == ("main", ("50.0 %", "2 calls"))
    assert (spare.name, spare.windows[2][:2]) == ("spare", ("50.0 %", "2 calls"))
    assert main.windows[0][2:] != ("- / -", "-")


@pytest.mark.parametrize("path", [PAGE, HEALTH])
def test_both_are_for_who_may_see_them(client: Client, db: None, path: str) -> None:
    client.force_login(make_user("staff@example.com", is_staff=True))
    assert client.get(path).status_code == 403
