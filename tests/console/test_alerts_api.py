"""Customers choose their alerts with a key of the scope admin, and see nobody else's."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEvent, Organization
from billing.alerts import MAX_RULES
from billing.models import AlertRule
from relay.application import CANONICAL_PATHS, _canonical
from relay.paths import match
from tests.commands import ask
from tests.factories import make_api_key, make_organization

URL = "/v1/alerts"
LOW = {"kind": "low_balance", "below_usd": "2.5", "webhook_url": "https://example.com/hook"}


class Caller:
    def __init__(self, key: str) -> None:
        self._headers = {"authorization": f"Bearer {key}"}

    def post(self, document: Any) -> Any:
        body = document if isinstance(document, bytes) else json.dumps(document)
        return Client().post(
            URL, body, content_type="application/octet-stream", headers=self._headers
        )

    def get(self) -> Any:
        return Client().get(URL, headers=self._headers)

    def delete(self, alert: object) -> Any:
        return Client().delete(f"{URL}/{alert}", headers=self._headers)


def caller(organization: Organization, *scopes: str) -> Caller:
    return Caller(make_api_key(organization, scopes=list(scopes))[1])


@pytest.fixture
def acme(db: None) -> Caller:
    return caller(make_organization("acme"), "admin")


def test_an_alert_is_set_listed_and_removed(acme: Caller) -> None:
    made = acme.post(LOW)
    assert made.status_code == 200, made.content
    alert = made.json()
    assert (alert["object"], alert["kind"], alert["below_usd"]) == ("alert", "low_balance", "2.50")
    assert alert["below_nano_usd"] == 2_500_000_000
    assert alert["webhook_secret"].startswith("whsec_")
    assert made["cache-control"] == "no-store"
    assert acme.get().json() == {"object": "list", "data": [alert]}
    event = AuditEvent.objects.get(action="alert.add")
    assert event.actor_label.startswith("key:sk-")
    assert acme.delete(alert["id"]).json() == {
        "id": alert["id"],
        "object": "alert",
        "deleted": True,
    }
    assert acme.get().json()["data"] == []
    assert acme.delete(alert["id"]).status_code == 404


def test_alerts_of_others_are_not_there(acme: Caller) -> None:
    other = caller(make_organization("other"), "admin")
    alert = other.post(LOW).json()["id"]
    assert acme.get().json()["data"] == []
    assert acme.delete(alert).status_code == 404
    assert AlertRule.objects.get().removed_at is None


@pytest.mark.parametrize("scopes", [("relay",), ("usage",), ("relay", "usage")])
def test_it_takes_a_key_of_the_scope_admin(db: None, scopes: tuple[str, ...]) -> None:
    held = caller(make_organization(), *scopes)
    for answer in (held.get(), held.post(LOW), held.delete(1)):
        assert answer.status_code == 403
        assert "scope admin" in answer.json()["error"]["message"]
    assert not AlertRule.objects.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_type"),
        (b"[]", "invalid_type"),
        (b"[" * 100_000, "invalid_type"),
        (b'{"kind": "' + b"x" * 20_000 + b'"}', "invalid_type"),
        ({**LOW, "organization": "other"}, "unknown_parameter"),
        ({**LOW, "below_usd": 2.5}, "invalid_parameter"),
        ({**LOW, "below_usd": "much"}, "invalid_parameter"),
        ({**LOW, "below_usd": "0"}, "invalid_alert"),
        ({**LOW, "kind": "weather"}, "invalid_alert"),
        ({**LOW, "kind": "spend_limit"}, "invalid_alert"),
        ({**LOW, "webhook_url": "http://example.com"}, "invalid_alert"),
        ({**LOW, "email": "ann@example.com"}, "invalid_alert"),
        ({"kind": "free_quota_used"}, "invalid_alert"),
    ],
)
def test_what_makes_no_sense_is_refused(acme: Caller, body: Any, code: str) -> None:
    answer = acme.post(body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert not AlertRule.objects.exists()


def test_there_are_so_many_at_most(acme: Caller) -> None:
    organization = Organization.objects.get()
    for _ in range(MAX_RULES):
        AlertRule.objects.create(
            organization=organization, kind="spend_limit", email="ann@example.com"
        )
    assert "at most" in acme.post(LOW).json()["error"]["message"]


def test_other_methods_are_named(acme: Caller) -> None:
    answer = Client().put(URL, "{}", headers=acme._headers)
    assert answer.status_code == 405
    assert "POST" in answer["allow"]


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", "/v1/acme/default/openai"])
def test_every_prefix_leads_there(prefix: str) -> None:
    found = match(f"{prefix}/alerts/7")
    assert found is not None
    assert found.operation in CANONICAL_PATHS
    assert _canonical({"headers": []}, found)["path"] == "/v1/alerts/7"


def test_an_operator_issues_such_a_key(db: None) -> None:
    make_organization("acme")
    key = ask("api_key_issue", "acme", "--scopes", "admin")["api_key"]
    assert Caller(key).post(LOW).status_code == 200
