"""The public status page: what it tells, and what it does not."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import Organization
from console import status
from console.status import Status, StatusCache, status_now
from tests.factories import make_usage_record, now

FAILED: dict[str, Any] = {"outcome": "upstream_error", "status": 502, "charge_nano_usd": 0}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(status, "cache", StatusCache())
    return iter(())


def states() -> dict[str, str]:
    return {one["model"]: one["state"] for one in status_now(now())["models"]}


def test_each_model_has_a_state_of_its_own(organization: Organization) -> None:
    for number in range(10):
        make_usage_record(organization, model="well")
        make_usage_record(organization, model="worse", **(FAILED if number < 2 else {}))
        make_usage_record(organization, model="down", **(FAILED if number < 9 else {}))
    make_usage_record(organization, model="unlucky", **FAILED)
    make_usage_record(organization, model="")  # A response was asked for once more.
    refused: dict[str, Any] = {"outcome": "upstream_error", "status": 400, "charge_nano_usd": 0}
    make_usage_record(organization, model="misused", **refused)
    assert states() == {
        "well": "operational",
        "worse": "degraded",
        "down": "outage",
        "unlucky": "degraded",
        "misused": "quiet",
    }
    found = status_now(now())
    assert found["state"] == "outage"
    worse = next(one for one in found["models"] if one["model"] == "worse")
    assert worse["success_percent_24h"] == worse["success_percent_7d"] == 80
    assert len(worse["hours"]) == 24
    assert worse["hours"][-1]["success_percent"] == 80


def test_nothing_that_anybody_may_not_know(client: Client, organization: Organization) -> None:
    make_usage_record(organization, channel="secret-channel", credential="secret-label")
    for path in ("/status", "/status.json"):
        answer = client.get(path)
        text = answer.content.decode()
        assert answer.status_code == 200
        assert "gpt-4o" in text
        for secret in ("secret", "acme", "Acme", "sk-abcdefgh"):
            assert secret not in text
        assert "set-cookie" not in answer
        assert answer["cache-control"] == "public, max-age=60"
        assert client.post(path).status_code == 405
    make_usage_record(organization)
    document = json.loads(client.get("/status.json").content)
    assert document.keys() == {"state", "as_of", "models"}
    (model,) = document["models"]
    numbers = {name for name, value in model.items() if isinstance(value, int | float)}
    assert all(name.endswith(("_ms", "_24h", "_7d")) for name in numbers), "no counts"


def test_many_readers_ask_the_database_once(
    client: Client,
    organization: Organization,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_usage_record(organization)
    client.get("/status")
    with django_assert_num_queries(0):
        for _ in range(20):
            assert client.get("/status").status_code == 200
            assert client.get("/status.json").status_code == 200


def test_readers_who_come_together_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def read(_: object) -> Status:
        asked.append(1)
        return Status(state="quiet", as_of="", models=[])

    monkeypatch.setattr(status, "status_now", read)
    cache = StatusCache()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: cache.get()["state"], range(200)))
    assert (set(found), len(asked)) == ({"quiet"}, 1)


def test_what_was_known_is_told_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Status(state="operational", as_of="then", models=[])
    monkeypatch.setattr(status, "status_now", lambda _: known)
    cache = StatusCache()
    assert cache.get() is known

    def away(_: object) -> Status:
        raise OperationalError("away")

    monkeypatch.setattr(status, "status_now", away)
    monkeypatch.setattr(cache, "_fresh_until", 0.0)
    assert cache.get() is known
    with pytest.raises(OperationalError):
        StatusCache().get()


def test_it_can_be_turned_off(client: Client, db: None, settings: Settings) -> None:
    settings.STATUS_PAGE = False
    assert client.get("/status").status_code == 404
    assert client.get("/status.json").status_code == 404
    assert "/status" not in client.get("/").content.decode()
    settings.STATUS_PAGE = True
    assert 'href="/status"' in client.get("/").content.decode()
