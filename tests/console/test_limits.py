"""The pages of limits: set by form, replaced, removed."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization
from billing.models import RateLimit, SpendLimit
from billing.prices.services import price_set
from tests.factories import ACTOR, make_api_key, make_organization, make_project, now

RATE, SPEND = reverse("admin:billing_ratelimit_add"), reverse("admin:billing_spendlimit_add")


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def send(client: Client, url: str, **values: Any) -> str:
    """The page that follows."""
    response = client.post(url, values, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_a_rate_limit_is_set_replaced_and_removed(
    administrator: Client, acme: Organization
) -> None:
    assert administrator.get(RATE).status_code == 200
    send(administrator, RATE, organization=acme.pk, calls_per_minute=60, concurrency=5)
    limit = RateLimit.objects.get()
    assert (limit.calls_per_minute, limit.tokens_per_minute, limit.concurrency) == (60, None, 5)
    send(administrator, RATE, organization=acme.pk, tokens_per_minute=1000)
    limit.refresh_from_db()
    assert (limit.calls_per_minute, limit.tokens_per_minute) == (None, 1000)
    url = reverse("admin:billing_ratelimit_remove", args=[limit.pk])
    assert "Remove limit" in administrator.get(url).content.decode()
    send(administrator, url)
    assert not RateLimit.objects.exists()


def test_a_model_a_project_and_a_key_are_limited(administrator: Client, acme: Organization) -> None:
    price_set(model="a-model", input_usd="1", output_usd="2", actor=ACTOR, now=now())
    key, _ = make_api_key(acme)
    project = make_project(acme, "web")
    send(administrator, RATE, model="a-model", concurrency=1)
    send(administrator, RATE, project=project.pk, concurrency=2)
    send(administrator, RATE, api_key=key.pk, concurrency=3)
    rows = RateLimit.objects.order_by("concurrency")
    assert [row.model for row in rows] == ["a-model", "", ""]
    assert (rows[1].project, rows[2].api_key) == (project, key)


def test_exactly_one_scope(administrator: Client, acme: Organization) -> None:
    said = "Say whom the limit is for: one of them."
    assert said in send(administrator, RATE, concurrency=1)
    project = acme.projects.create(slug="web", name="Web")
    both = {"organization": acme.pk, "project": project.pk}
    assert said in send(administrator, RATE, **both, concurrency=1)
    assert not RateLimit.objects.exists()


def test_a_spend_limit_is_set_and_removed(administrator: Client, acme: Organization) -> None:
    assert administrator.get(SPEND).status_code == 200
    send(administrator, SPEND, organization=acme.pk, amount="2.5", per="day")
    limit = SpendLimit.objects.get()
    assert (limit.cap_nano_usd, limit.per) == (2_500_000_000, "day")
    listed = administrator.get(reverse("admin:billing_spendlimit_changelist")).content.decode()
    assert "$0.00 (0 %)" in listed
    assert "$2.50 left, anew" in listed
    send(administrator, reverse("admin:billing_spendlimit_remove", args=[limit.pk]))
    limit.refresh_from_db()
    assert limit.removed_at is not None
