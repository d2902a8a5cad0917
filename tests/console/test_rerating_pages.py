"""Re-ratings in the console: previewed on a page, then applied or dropped by a button."""

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization
from billing.credit.balance import balance_nano_usd
from billing.models import Rerating
from billing.prices.services import price_set
from billing.rerating import reratings_continue
from tests.factories import ACTOR, make_organization, make_usage_record, now

MODEL = "tested"
FORM = {
    "first_day": "2026-11-01",
    "last_day": "2026-11-05",
    "organization": "",
    "model": MODEL,
    "prices": "now",
    "discounts": "then",
    "fraction": "",
    "reason": "the list was wrong",
}


def set_price(input_usd: str, output_usd: str) -> int:
    price = price_set(
        model=MODEL, input_usd=input_usd, output_usd=output_usd, actor=ACTOR, now=now()
    )
    return price.pk


@pytest.fixture
def acme(db: None) -> Organization:
    acme = make_organization("acme")
    old = set_price("10", "30")
    at = dt.datetime(2026, 11, 3, tzinfo=dt.UTC)
    for _ in range(3):
        make_usage_record(acme, at=at, model=MODEL, price_id=old)
    set_price("5", "15")
    return acme


def sent(client: Client, page: str, values: dict[str, Any], *arguments: Any) -> Any:
    return client.post(reverse(f"admin:billing_rerating_{page}", args=arguments), values)


def test_what_would_change_is_shown_and_then_made_so(
    administrator: Client, acme: Organization
) -> None:
    response = sent(administrator, "add", FORM)
    assert response.status_code == 302, response.content.decode()
    shown = administrator.get(response["location"]).content.decode()
    for words in ("acme", "prices of now, discounts of then", "the list was wrong", "-$0.03"):
        assert words in shown
    rerating = Rerating.objects.get()
    assert (
        "-$0.03"
        in administrator.get(
            reverse("admin:billing_rerating_apply", args=[rerating.pk])
        ).content.decode()
    )
    assert sent(administrator, "apply", {}, rerating.pk).status_code == 302
    assert reratings_continue(actor=ACTOR, now=now())
    assert balance_nano_usd(acme.pk) == 30_000_000
    for button in ("apply", "drop"):
        assert sent(administrator, button, {}, rerating.pk).status_code == 403


def test_it_is_dropped(administrator: Client, acme: Organization) -> None:
    sent(administrator, "add", FORM | {"discounts": "given", "fraction": "0.1"})
    rerating = Rerating.objects.get()
    assert sent(administrator, "drop", {}, rerating.pk).status_code == 302
    rerating.refresh_from_db()
    assert rerating.state == "dropped"


def test_what_makes_no_sense_is_said(administrator: Client, acme: Organization) -> None:
    response = sent(administrator, "add", FORM | {"discounts": "given"})
    assert "A given discount is a fraction" in response.content.decode()
    assert not Rerating.objects.exists()
