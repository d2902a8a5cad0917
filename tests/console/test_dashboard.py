import datetime as dt
import uuid
from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization
from billing.models import Alert, AlertRule, Payment, SetAsideRecord
from billing.usage import overview
from billing.usage.overview import Engine, Traffic, day_traffic, engine_state
from console.dashboard import checks
from console.presentation import percent, usd, usd_text
from tests.factories import (
    make_grant,
    make_late_settlement,
    make_lease,
    make_organization,
    make_usage_record,
    make_worker,
    now,
)

DAY = dt.date(2026, 11, 20)


def at(hour: int, minute: int = 0) -> dt.datetime:
    return dt.datetime(2026, 11, 20, hour, minute, tzinfo=dt.UTC)


def test_a_day_is_summed_by_hour_model_organization_and_outcome(organization: Organization) -> None:
    other = make_organization("other", name="Other")
    make_usage_record(organization, at=at(0), model="a")
    make_usage_record(organization, at=at(23, 59), model="b", charge_nano_usd=90_000_000)
    make_usage_record(
        other, at=at(23), model="b", outcome="upstream_error", charge_nano_usd=0, status=502
    )
    make_usage_record(other, at=at(0) - dt.timedelta(milliseconds=1))
    make_usage_record(other, at=at(0) + dt.timedelta(days=1))
    day = day_traffic(DAY)
    assert day is not None
    a = Traffic(1, 0, 1000, 1000, 20_000_000, 16_000_000)
    assert day.total == Traffic(3, 1, 3000, 3000, 110_000_000, 48_000_000)
    assert day.total.margin_nano_usd == 62_000_000
    assert (day.hours[0], day.hours[1], day.hours[23].calls) == (a, Traffic(), 2)
    assert [(name, traffic.calls) for name, traffic in day.models] == [("b", 2), ("a", 1)]
    assert [(name, traffic.calls) for name, traffic in day.organizations] == [
        ("Acme", 2),
        ("Other", 1),
    ]
    assert day.outcomes == {"completed": 2, "upstream_error": 1}


def test_a_day_without_calls_is_all_zeros(db: None) -> None:
    day = day_traffic(DAY)
    assert day is not None
    assert (day.total, day.models, len(day.hours)) == (Traffic(), [], 24)


def test_who_opens_the_page_does_not_wait_for_ever(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PATIENCE_MILLISECONDS", 20)
    monkeypatch.setattr(overview, "_TRAFFIC", "SELECT pg_sleep(60), %s::uuid, %s::uuid")
    assert day_traffic(DAY) is None


def test_the_state_of_the_engine(organization: Organization) -> None:
    grant = make_grant(organization, amount_nano_usd=1000)
    make_lease(grant, granted_nano_usd=300, spent_nano_usd=100)
    make_worker(expires_at=now() - dt.timedelta(seconds=1))
    make_worker(state="expired", report={"ship_lag_ms": 70})
    make_late_settlement(organization, at=now())
    make_late_settlement(organization, at=now() - dt.timedelta(days=1))
    make_worker(state="complete")
    SetAsideRecord.objects.create(worker_id=uuid.uuid4(), journal_offset=1, payload=b"", reason="")
    assert engine_state() == Engine(
        workers_live=1,
        workers_overdue=1,
        workers_expired=1,
        leases_open=1,
        leases_unspent_nano_usd=200,
        records_set_aside=1,
        ship_lag_ms=70,
        late_settlements_today=1,
    )


def states(engine: Engine) -> dict[str, str]:
    return {check.title: check.state for check in checks(engine)}


def test_what_needs_a_look_is_marked(db: None) -> None:
    well = Engine(2, 0, 0, 1, 5, 0, audited_at=now())
    ill = Engine(0, 1, 1, 0, 0, 1, 10_000, 3, audited_at=now(), audit_findings=2)
    never = Engine(2, 0, 0, 1, 5, 0)
    nothing_to_sell = {"Channels enabled": "bad", "Models priced": "bad"}
    assert states(well) == {**dict.fromkeys(states(well), "good"), **nothing_to_sell}
    assert states(ill) == {
        **nothing_to_sell,
        "Workers alive": "bad",
        "Journals to replay": "warning",
        "Shipping behind": "warning",
        "Late settlements today": "warning",
        "Records set aside": "bad",
        "Audit": "bad",
        "Credentials refused": "good",
        "Open leases": "good",
    }
    assert states(never)["Audit"] == "warning"


def test_what_only_a_person_can_settle_is_shown_while_it_is_there(
    organization: Organization,
) -> None:
    well = Engine(2, 0, 0, 1, 5, 0, audited_at=now())
    Payment.objects.create(
        organization=organization, provider="stripe", amount_nano_usd=1, state="review"
    )
    rule = AlertRule.objects.create(
        organization=organization, kind="spend_limit", email="ann@example.com"
    )
    Alert.objects.create(rule=rule, crossing="1")
    assert states(well)["Payments to review"] == "bad"
    assert states(well)["Alerts that did not arrive"] == "warning"
    Payment.objects.update(state="failed")
    Alert.objects.update(sent_at=now())
    assert not {"Payments to review", "Alerts that did not arrive"} & states(well).keys()


def test_the_first_page_tells_today(
    administrator: Client, organization: Organization, django_assert_max_num_queries: Any
) -> None:
    make_usage_record(organization, charge_nano_usd=1_234_567_890_123, outcome="interrupted")
    with django_assert_max_num_queries(16):
        text = administrator.get("/admin/").content.decode()
    assert '$1,234.56<span class="tg-tail tg-quiet">7890123</span>' in text
    assert "Interrupted" in text
    assert "gpt-4o" in text


def test_the_first_page_without_the_numbers(
    administrator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.dashboard.day_traffic", lambda _: None)
    text = administrator.get("/admin/").content.decode()
    assert "too many calls" in text
    assert "Workers alive" in text


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (-1_500_000_000, "-$1.50"),
        (1_234_567_000_000_001, "$1,234,567.000000001"),
    ],
)
def test_money_is_shown_exactly(nano_usd: int, text: str) -> None:
    assert usd_text(nano_usd) == text


def test_digits_are_toned_down_only_behind_cents_that_say_something() -> None:
    assert "tg-quiet" in usd(10_000_001)
    assert "tg-quiet" not in usd(9_999_999)


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(1, 3, "33.3 %"), (-1, 2, "-50.0 %"), (1, 0, "-"), (0, 5, "0.0 %")]
)
def test_shares_are_rounded_for_the_eye(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text
