from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from pytest_django import DjangoAssertNumQueries, Settings

from gateway.checks import (
    TAG,
    refuse_simulator_in_production,
    refuse_unsafe_configuration,
    settings_check,
    simulator_check,
)
from relay.channels.services import NewChannel, channel_add
from relay.models import Channel
from tests.factories import ACTOR
from tests.gateway.test_launch import PRODUCTION


@pytest.fixture
def production(settings: Settings) -> Settings:
    settings.PRODUCTION = True
    settings.SECRET_KEY = PRODUCTION["SECRET_KEY"]
    settings.KEY_PEPPER = PRODUCTION["KEY_PEPPER"]
    settings.CREDENTIAL_KEYS = [PRODUCTION["CREDENTIAL_KEYS"]]
    return settings


def found() -> list[Any]:
    return [problem.id for problem in settings_check()]


def test_the_settings_of_these_tests_are_sound() -> None:
    refuse_unsafe_configuration()


def test_a_complete_production_is_sound(production: Settings) -> None:
    assert production.PRODUCTION
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("SECRET_KEY", "django-insecure-0123456789012345678901234567", 1),
        ("KEY_PEPPER", "", 2),
        ("KEY_PEPPER", "fifteen letters", 2),
        ("CREDENTIAL_KEYS", [], 3),
        ("CREDENTIAL_KEYS", [PRODUCTION["CREDENTIAL_KEYS"], "x"], 3),
        ("DEBUG", True, 4),
        ("DATABASE_URL", "", 5),
        ("LEASE_HEARTBEAT_SECONDS", 10.1, 6),
        ("PUBLIC_URL", "gateway.example", 8),
        ("PUBLIC_URL", "https://gateway.example", 8),
        ("PUBLIC_URL", "http://[2001:db8::1]:8000", 8),
        ("FREE_QUOTA_USD", "-1", 9),
        ("FREE_QUOTA_USD", "0.00000000001", 9),
        ("DEFAULT_DISCOUNT", "0", 10),
    ],
)
def test_each_danger_is_an_error(
    production: Settings, name: str, value: object, number: int
) -> None:
    setattr(production, name, value)
    assert found() == [f"gateway.E{number:03}"]
    assert all(problem.level == checks.ERROR for problem in settings_check())
    with pytest.raises(ImproperlyConfigured, match=f"gateway.E{number:03}"):
        refuse_unsafe_configuration()


def test_a_life_without_room_for_a_heartbeat(settings: Settings) -> None:
    settings.LEASE_TTL_SECONDS = 3.0
    settings.LEASE_HEARTBEAT_SECONDS = 0.5
    assert found() == []
    settings.LEASE_TTL_SECONDS = 2.0
    settings.LEASE_HEARTBEAT_SECONDS = 0.25
    assert found() == ["gateway.E007"]


def test_development_may_lack_what_production_must_have(settings: Settings) -> None:
    settings.SECRET_KEY = settings.PLACEHOLDER_SECRET
    settings.KEY_PEPPER = settings.PLACEHOLDER_SECRET
    settings.CREDENTIAL_KEYS = []
    settings.DATABASE_URL = ""
    settings.DEBUG = True
    assert found() == []


def test_they_are_registered(settings: Settings) -> None:
    settings.FREE_QUOTA_USD = "much"
    assert [problem.id for problem in checks.run_checks(tags=[TAG])] == ["gateway.E009"]


@pytest.mark.django_db
def test_production_refuses_the_simulator(production: Settings) -> None:
    new = NewChannel(name="invented", base_url="http://127.0.0.1:1/v1", credential="x")
    channel_add(new=new, actor=ACTOR)
    assert production.PRODUCTION
    refuse_simulator_in_production()
    Channel.objects.update(provider="simulator")
    with pytest.raises(ImproperlyConfigured, match="invented leads to the simulated upstream"):
        refuse_simulator_in_production()
    Channel.objects.update(enabled=False)
    refuse_simulator_in_production()


@pytest.mark.django_db
def test_the_database_is_asked_only_when_it_is_to_be(
    production: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert simulator_check(databases=None) == []
    with django_assert_num_queries(1):
        assert simulator_check(databases=["default"]) == []
