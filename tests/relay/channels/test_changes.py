"""Changing channels and their credentials, and what the workers read of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEvent
from relay.channels.credentials import (
    UnknownCredential,
    credential_disable,
    credential_enable,
    credential_remove,
)
from relay.channels.services import (
    ChannelTerms,
    NewChannel,
    UnknownChannel,
    UnusableTerms,
    channel_add,
    channel_set,
)
from relay.channels.table import ChannelRoute, ChannelTable, channels_load
from relay.models import Channel, ChannelCredential
from relay.upstream import Deadlines
from tests.commands import ask, say
from tests.factories import ACTOR

BASE_URL = "https://api.openai.com/v1"
SECRETS = ("sk-one", "sk-two", "sk-three", "hunter2", "very-secret")


def add(name: str = "main", **terms: Any) -> Channel:
    new = NewChannel(name=name, base_url=BASE_URL, credential="sk-one", terms=ChannelTerms(**terms))
    return channel_add(new=new, actor=ACTOR)


def change(**terms: Any) -> Channel:
    channel_set(name="main", terms=ChannelTerms(**terms), actor=ACTOR)
    return Channel.objects.get(name="main")


def loaded(url: str) -> ChannelTable:
    async def load() -> ChannelTable:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return await channels_load(connection)

    return asyncio.run(load())


def credentials_of(routes: Sequence[ChannelRoute]) -> list[tuple[str, bytes, float]]:
    return [(route.credential, route.authorization, route.weight) for route in routes]


def test_a_worker_reads_what_was_set(committing_db: str) -> None:
    add(
        model_map={"gpt-4": "gpt-4o"},
        priority=5,
        weight=3,
        concurrency=7,
        proxy="socks5://me:hunter2@10.0.0.1:1080",
        headers={"X-Team": "very-secret"},
        idle_seconds=2.5,
    )
    channel_set(name="main", terms=ChannelTerms(), credentials={"SECOND": "sk-two"}, actor=ACTOR)
    table = loaded(committing_db)
    first, second = table.candidates("gpt-4")
    assert first.upstream_model("gpt-4") == "gpt-4o"
    assert first.serves("gpt-5"), "a map alone limits nothing"
    assert (first.priority, first.concurrency) == (5, 7)
    assert first.proxy == "socks5://me:hunter2@10.0.0.1:1080"
    assert first.headers == ((b"x-team", b"very-secret"),)
    assert first.patience is not None
    assert first.patience.over(Deadlines()) == Deadlines(idle_seconds=2.5)
    assert credentials_of([first, second]) == [
        ("main", b"Bearer sk-one", 1.5),
        ("SECOND", b"Bearer sk-two", 1.5),
    ]
    assert not any(secret in repr(table.routes) for secret in SECRETS)


def test_a_channel_without_a_credential_left_is_out_of_service(committing_db: str) -> None:
    add()
    credential_disable(channel="main", label="main", actor=ACTOR)
    table = loaded(committing_db)
    assert (table.candidates("gpt-5"), table.is_out_of_service("gpt-5")) == ([], True)
    credential_enable(channel="main", label="main", actor=ACTOR)
    assert len(loaded(committing_db).candidates("gpt-5")) == 1


def test_azure_wants_its_own_header_and_deployments(committing_db: str) -> None:
    new = NewChannel(
        name="azure",
        base_url="https://x.openai.azure.com",
        credential="sk-one",
        terms=ChannelTerms(kind="azure", api_version="2024-10-21", model_map={"gpt-4o": "mine"}),
    )
    channel_add(new=new, actor=ACTOR)
    [route] = loaded(committing_db).routes
    assert (route.authorization_header, route.authorization) == (b"api-key", b"sk-one")
    assert route.target(b"/chat/completions", "gpt-4o") == (
        b"/openai/deployments/mine/chat/completions?api-version=2024-10-21"
    )


@pytest.mark.django_db
def test_what_is_not_said_stays() -> None:
    add(priority=5, weight=3, headers={"x-a": "1"})
    channel = change(weight=9)
    assert (channel.priority, channel.weight, channel.header_names) == (5, 9, ["x-a"])
    assert change(headers={}).headers_encrypted is None
    assert change(models=["a"], model_map={"b": "c"}).serves_all_models is False
    names = Channel.objects.get().models.order_by("model").values_list("model", "upstream_model")
    assert list(names) == [("a", "a"), ("b", "c")]
    change(model_map={"a": "d"})
    assert list(names.all()) == [("a", "d"), ("b", "b")]
    assert change(models=[]).serves_all_models


@pytest.mark.django_db
@pytest.mark.parametrize(
    "terms",
    [
        {"weight": 0},
        {"weight": 10_001},
        {"priority": 10**7},
        {"concurrency": -1},
        {"kind": "anthropic"},
        {"api_version": "2024-10-21"},
        {"proxy": "ftp://x"},
        {"headers": {"authorization": "x"}},
        {"base_url": "http://elsewhere.example/v1"},
        {"model_map": {"a": ""}},
    ],
)
def test_a_change_that_cannot_be_changes_nothing(terms: dict[str, Any]) -> None:
    add()
    before = Channel.objects.values().get()
    with pytest.raises((UnusableTerms, Exception), match=r".") as refused:
        change(**terms)
    assert type(refused.value).__name__ in {"UnusableTerms", "InvalidBaseUrl"}
    assert Channel.objects.values().get() == before
    assert AuditEvent.objects.filter(action="channel.set").count() == 0


@pytest.mark.django_db
def test_a_credential_is_rotated_by_its_label() -> None:
    add()
    credential_disable(channel="main", label="main", reason="stolen", actor=ACTOR)
    assert not credential_disable(channel="main", label="main", actor=ACTOR)
    old = ChannelCredential.objects.get()
    assert (old.enabled, old.disabled_reason, old.disabled_at is None) == (False, "stolen", False)
    channel_set(name="main", terms=ChannelTerms(), credentials={"main": "sk-two"}, actor=ACTOR)
    new = ChannelCredential.objects.get()
    assert (new.enabled, new.disabled_at, new.pk) == (True, None, old.pk)
    assert bytes(new.encrypted) != bytes(old.encrypted)
    with pytest.raises(UnusableTerms, match="only credential"):
        credential_remove(channel="main", label="main", actor=ACTOR)
    channel_set(name="main", terms=ChannelTerms(), credentials={"b": "sk-three"}, actor=ACTOR)
    credential_remove(channel="main", label="main", actor=ACTOR)
    assert ChannelCredential.objects.get().label == "b"
    with pytest.raises(UnknownCredential):
        credential_enable(channel="main", label="main", actor=ACTOR)
    with pytest.raises(UnknownChannel):
        credential_enable(channel="nobody", label="main", actor=ACTOR)
    actions = AuditEvent.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == [
        "channel.add",
        "channel.credential_disable",
        "channel.set",
        "channel.set",
        "channel.credential_remove",
    ]


@pytest.mark.django_db
def test_the_commands_say_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("ONE", "TWO", "THREE"), SECRETS, strict=False):
        monkeypatch.setenv(name, value)
    where = ("--base-url", BASE_URL, "--credential", "ONE", "TWO")
    chosen = ("--priority", "10", "--weight", "3", "--concurrency", "4", "--kind", "openai")
    through = ("--proxy", "http://u:hunter2@p.example:3128", "--header", "X-A=very-secret")
    mapped = ("--model-map", "gpt-4=gpt-4o", "--model-map", "o1=o3")
    assert ask("channel_add", "main", *where, *chosen, *through, *mapped) == {"channel": "main"}
    ask("channel_set", "main", "--priority", "-1", "--credential", "THREE", "--http2", "on")
    ask("channel_set", "main", "--credential-disable", "ONE", "--cost", "0.4")
    ask("channel_set", "main", "--balance", "deepseek", "--balance-low", "9.5")
    answer = ask("channel_list")
    assert answer == {
        "channels": [
            {
                "channel": "main",
                "kind": "openai",
                "base_url": BASE_URL,
                "enabled": True,
                "disabled_reason": "",
                "priority": -1,
                "weight": 3,
                "concurrency": 4,
                "models": None,
                "model_map": ["gpt-4=gpt-4o", "o1=o3"],
                "credentials": ["TWO", "THREE"],
                "credentials_disabled": ["ONE"],
                "credentials_refused": [],
                "checks": [],
                "cost": "0.4",
                "balance": "deepseek",
                "balance_low": "9.50",
                "proxy": "http://p.example:3128",
                "headers": ["x-a"],
                "http2": True,
                "api_version": "",
            }
        ]
    }
    told = say("channel_list") + str(list(AuditEvent.objects.values_list("details", flat=True)))
    assert "main: priority -1, weight 3" in told
    assert not any(secret in told for secret in SECRETS)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["channel_set", "main"], "what to change"),
        (["channel_set", "nobody", "--weight", "2"], "no channel 'nobody'"),
        (["channel_set", "main", "--model-map", "a"], "PUBLIC=UPSTREAM"),
        (["channel_set", "main", "--header", "Host=x"], "relay's own"),
        (["channel_set", "main", "--credential", "NO_SUCH"], "NO_SUCH is not set"),
        (["channel_add", "b", "--base-url", BASE_URL], "needs a credential"),
    ],
)
def test_the_commands_refuse_clearly(arguments: list[str], complaint: str) -> None:
    add()
    with pytest.raises(CommandError, match=complaint):
        call_command(*arguments)
