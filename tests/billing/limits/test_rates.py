"""Setting rate limits: by command, audited, told to the workers, and read back whole."""

import asyncio
import datetime as dt

import psycopg
import pytest
from django.core.management import CommandError

from accounts.api_keys import api_key_rotate
from accounts.models import AuditEvent, Organization
from billing.limits import RateTable, ScopeRates, rates_load
from billing.models import RateLimit
from billing.prices.services import price_set
from tests.commands import ask, say
from tests.committing import Listener
from tests.factories import ACTOR, make_api_key, make_organization, now

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def acme(committing_db: str) -> Organization:
    return make_organization("acme")


def load(database_url: str) -> RateTable:
    async def read() -> RateTable:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            return await rates_load(connection)

    return asyncio.run(read())


def test_a_limit_is_set_changed_and_removed(acme: Organization) -> None:
    scope = ("--organization", "acme")
    first = ask("rate_limit_set", *scope, "--calls-per-minute", "60")
    assert first["organization"] == "acme"
    assert (first["calls_per_minute"], first["tokens_per_minute"]) == (60, None)
    second = ask("rate_limit_set", *scope, "--concurrency", "3")
    assert second["limit"] == first["limit"]
    assert (second["calls_per_minute"], second["concurrency"]) == (60, 3)
    ask("rate_limit_set", *scope, "--calls-per-minute", "none")
    gone = ask("rate_limit_set", *scope, "--concurrency", "none")
    assert (gone["limit"], gone["concurrency"]) == (None, None)
    assert not RateLimit.objects.exists()
    events = AuditEvent.objects.filter(organization=acme, action__startswith="rate_limit")
    assert [event.action for event in events.order_by("pk")] == [
        "rate_limit.set",
        "rate_limit.set",
        "rate_limit.set",
        "rate_limit.remove",
    ]


def test_what_changes_nothing_is_no_event(acme: Organization) -> None:
    ask("rate_limit_set", "--organization", acme.slug, "--tokens-per-minute", "none")
    assert not AuditEvent.objects.filter(action__startswith="rate_limit").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--organization", "acme"),
        ("--organization", "acme", "--concurrency", "0"),
        ("--organization", "acme", "--concurrency", "-1"),
        ("--organization", "acme", "--concurrency", "1.5"),
        ("--organization", "acme", "--calls-per-minute", str(10**12 + 1)),
        ("--organization", "nobody", "--concurrency", "1"),
        ("--key", "sk-nobody", "--concurrency", "1"),
        ("--model", "no-such-model", "--concurrency", "1"),
        ("--model", "m", "--organization", "acme", "--concurrency", "1"),
        ("--concurrency", "1"),
    ],
)
def test_what_makes_no_sense_is_refused(acme: Organization, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        say("rate_limit_set", *arguments)
    assert not RateLimit.objects.exists()


def test_the_workers_read_every_scope(acme: Organization, committing_db: str) -> None:
    before = load(committing_db)
    assert not before
    key, _ = make_api_key(acme)
    price_set(model="a-model", input_usd="1", output_usd="2", actor=ACTOR, now=now())
    project = f"acme/{key.project.slug}"
    ask("rate_limit_set", "--key", key.prefix, "--calls-per-minute", "1")
    ask("rate_limit_set", "--project", project, "--tokens-per-minute", "2")
    ask("rate_limit_set", "--organization", "acme", "--concurrency", "3")
    ask("rate_limit_set", "--model", "a-model", "--calls-per-minute", "4", "--concurrency", "5")
    table = load(committing_db)
    assert table
    assert table.version > before.version
    assert table.keys == {key.pk: ScopeRates(f"key:{key.pk}", f"key {key.prefix}...", 1)}
    project_id = key.project_id
    assert table.projects == {
        project_id: ScopeRates(f"project:{project_id}", f"project {project}", None, 2)
    }
    assert table.organizations[acme.pk].concurrency == 3
    assert table.models == {"a-model": ScopeRates("model:a-model", "model a-model", 4, None, 5)}


def test_a_key_limit_is_its_familys(acme: Organization, committing_db: str) -> None:
    first, _ = make_api_key(acme)
    issued = api_key_rotate(prefix=first.prefix, grace=HOUR, actor=ACTOR, now=now())
    ask("rate_limit_set", "--key", issued.api_key.prefix, "--concurrency", "3")
    assert list(load(committing_db).keys) == [first.pk]


def test_every_change_is_told(acme: Organization, listener: Listener) -> None:
    RateLimit.objects.create(organization=acme, concurrency=1)
    RateLimit.objects.update(concurrency=2)
    RateLimit.objects.all().delete()
    topics = [payload.split()[0] for payload in listener.heard()]
    assert [topic for topic in topics if topic == "limits"] == ["limits"] * 3
