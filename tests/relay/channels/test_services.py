from functools import partial
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import AuditEvent, ConfigurationVersion
from relay.channels.base_urls import InvalidBaseUrl
from relay.channels.encryption import UnusableCredentialKeys, credential_decrypt
from relay.channels.services import (
    NewChannel,
    UnknownChannel,
    UnusableTerms,
    channel_add,
    channel_disable,
    channel_enable,
)
from relay.models import Channel, ChannelModel
from tests.commands import ask, manage, say
from tests.committing import Listener, run_together
from tests.factories import ACTOR
from tests.raw_sql import Break, Row, check_break, constraints_of, execute, insert, violates

CREDENTIAL = "sk-upstream-1"
BASE_URL = "https://api.openai.com/v1"


def add(**terms: Any) -> Channel:
    defaults = {"name": "openai", "base_url": BASE_URL, "credential": CREDENTIAL}
    return channel_add(new=NewChannel(**{**defaults, **terms}), actor=ACTOR)


@pytest.mark.django_db
def test_a_channel_serves_every_priced_model_unless_told_which() -> None:
    channel = add(base_url=f"{BASE_URL}/")
    channel.refresh_from_db()
    assert (channel.name, channel.base_url, channel.enabled) == ("openai", BASE_URL, True)
    assert (channel.serves_all_models, channel.insecure) == (True, False)
    assert not ChannelModel.objects.exists()
    some = add(name="some", models=["gpt-5", " gpt-4o", "gpt-5"])
    assert not some.serves_all_models
    models = some.models.order_by("model").values_list("model", "upstream_model")
    assert list(models) == [("gpt-4o", "gpt-4o"), ("gpt-5", "gpt-5")]


@pytest.mark.django_db
def test_the_credential_is_stored_encrypted_and_shown_nowhere() -> None:
    add()
    [stored] = execute("SELECT encrypted FROM relay_channelcredential")
    assert CREDENTIAL.encode() not in bytes(stored)
    assert credential_decrypt(stored) == CREDENTIAL
    event = AuditEvent.objects.get()
    assert (event.action, event.subject) == ("channel.add", "openai")
    assert event.details == {
        "base_url": BASE_URL,
        "models": [],
        "insecure": False,
        "credentials": ["main"],
    }
    assert CREDENTIAL not in repr(NewChannel(name="a", base_url="b", credential=CREDENTIAL))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("terms", "refusal"),
    [
        ({"name": ""}, UnusableTerms),
        ({"name": "-x"}, UnusableTerms),
        ({"name": "a b"}, UnusableTerms),
        ({"name": "x" * 61}, UnusableTerms),
        ({"credential": ""}, UnusableTerms),
        ({"credential": "sk-1\r\nx-evil: 1"}, UnusableTerms),
        ({"credential": "sk 1"}, UnusableTerms),
        ({"credential": "sk-é"}, UnusableTerms),
        ({"credential": "x" * 4097}, UnusableTerms),
        ({"models": [" "]}, UnusableTerms),
        ({"models": ["x" * 201]}, UnusableTerms),
        ({"base_url": "http://api.openai.com/v1"}, InvalidBaseUrl),
    ],
)
def test_a_channel_that_cannot_work_is_refused(
    terms: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        add(**terms)
    assert not Channel.objects.exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db
def test_a_name_is_given_once() -> None:
    add()
    with pytest.raises(UnusableTerms, match="'openai' already"):
        add(models=["gpt-5"])
    assert Channel.objects.count() == 1
    assert not ChannelModel.objects.exists()


@pytest.mark.django_db
def test_without_keys_nothing_is_stored(settings: Settings) -> None:
    settings.CREDENTIAL_KEYS = []
    with pytest.raises(UnusableCredentialKeys):
        add()
    assert not Channel.objects.exists()


@pytest.mark.django_db
def test_disabling_and_enabling() -> None:
    add()
    add(name="other")
    assert channel_disable(name="openai", reason="too slow", actor=ACTOR)
    assert not channel_disable(name="openai", reason="again", actor=ACTOR)
    channel = Channel.objects.get(name="openai")
    assert (channel.enabled, channel.disabled_reason) == (False, "too slow")
    assert Channel.objects.get(name="other").enabled
    assert channel_enable(name="openai", actor=ACTOR)
    assert not channel_enable(name="openai", actor=ACTOR)
    channel.refresh_from_db()
    assert (channel.enabled, channel.disabled_reason) == (True, "")
    actions = AuditEvent.objects.filter(subject="openai").order_by("id")
    assert [event.action for event in actions] == [
        "channel.add",
        "channel.disable",
        "channel.enable",
    ]


@pytest.mark.django_db
def test_an_unknown_channel_is_refused() -> None:
    with pytest.raises(UnknownChannel, match="nobody"):
        channel_disable(name="nobody", actor=ACTOR)
    with pytest.raises(UnknownChannel, match="nobody"):
        channel_enable(name="nobody", actor=ACTOR)


def test_of_those_who_add_the_same_name_at_once_one_wins(committing_db: str) -> None:
    answers = run_together(*[partial(add, models=["gpt-5"])] * 4)
    refused = [answer for answer in answers if isinstance(answer, UnusableTerms)]
    assert len(refused) == 3
    assert (Channel.objects.count(), ChannelModel.objects.count()) == (1, 1)


# --- The database ---------------------------------------------------------------------------------

BREAKS = [
    Break("channel_cost_is_not_negative", "relay_channel", {"cost_ppm": -1}),
    Break("channel_weight_is_positive", "relay_channel", {"weight": 0}),
    Break("channel_kind_is_known", "relay_channel", {"kind": "other"}),
    Break("channel_label_is_unique", "relay_channelcredential", {"encrypted": b"y"}, beside={}),
    Break("credential_is_disabled_at_a_time", "relay_channelcredential", {"enabled": False}),
    Break("idempotency_answer_has_a_head", "relay_idempotencykey", {"status": 200}),
    Break("channel_model_is_unique", "relay_channelmodel", {"upstream_model": "x"}, beside={}),
    Break("reconciliation_is_unique", "relay_reconciliation", {"requests": 5}, beside={}),
]


def valid_rows() -> dict[str, Row]:
    channel = add(name="another")
    return {
        "relay_channel": {
            "name": "third",
            "provider": "openai",
            "base_url": BASE_URL,
            "kind": "openai",
            "api_version": "",
            "concurrency": 0,
            "http2": False,
            "proxy": "",
            "header_names": "[]",
            "serves_all_models": True,
            "priority": 0,
            "weight": 1,
            "cost_ppm": 0,
            "insecure": False,
            "enabled": True,
            "disabled_reason": "",
            "created_at": "2026-05-17T00:00:00Z",
        },
        "relay_channelcredential": {
            "channel_id": channel.pk,
            "label": "another",
            "encrypted": b"x",
            "enabled": True,
            "disabled_reason": "",
            "disabled_at": None,
            "created_at": "2026-05-17T00:00:00Z",
        },
        "relay_idempotencykey": {
            "organization_id": 1,
            "endpoint": "chat.completions",
            "key": "a-key",
            "request_id": "01900000-0000-7000-8000-000000000000",
            "body_digest": b"x",
            "status": None,
            "created_at": "2026-05-17T00:00:00Z",
        },
        "relay_reconciliation": {
            "channel_id": channel.pk,
            "day": "2026-05-17",
            "model": "gpt-5",
            "drifts": "{}",
            "compared_at": "2026-05-18T00:00:00Z",
        },
        "relay_channelmodel": {
            "channel_id": channel.pk,
            "model": "gpt-5",
            "upstream_model": "gpt-5",
        },
    }


@pytest.mark.django_db
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.constraint)
def test_the_database_refuses(broken: Break) -> None:
    check_break(broken, valid_rows()[broken.table])


@pytest.mark.django_db
def test_the_rows_that_are_broken_were_valid() -> None:
    rows = valid_rows()
    for table, row in rows.items():
        insert(table, row)
    with violates("relay_channel_name_key"):
        insert("relay_channel", rows["relay_channel"])


def test_every_constraint_is_tried() -> None:
    assert constraints_of("relay") == {broken.constraint for broken in BREAKS}


def test_every_change_is_told_to_the_workers(committing_db: str, listener: Listener) -> None:
    start = ConfigurationVersion.objects.get(topic="channels").version
    add(models=["gpt-5"])  # The channel, its credential, and its model.
    channel_disable(name="openai", actor=ACTOR)
    execute("UPDATE relay_channelmodel SET upstream_model = 'x'")
    execute("DELETE FROM relay_channelmodel")
    execute("DELETE FROM relay_channelcredential")
    execute("DELETE FROM relay_channel")
    assert listener.heard() == [f"channels {start + step} 0" for step in range(1, 9)]
    assert ConfigurationVersion.objects.get(topic="channels").version == start + 8


# --- The commands ---------------------------------------------------------------------------------


@pytest.fixture
def upstream_key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("UPSTREAM_KEY", f" {CREDENTIAL}\n")
    return "UPSTREAM_KEY"


@pytest.mark.django_db
def test_a_channel_is_added_with_the_credential_of_the_environment(upstream_key: str) -> None:
    options = ["--base-url", BASE_URL, "--key-env", upstream_key]
    assert ask("channel_add", "openai", *options) == {"channel": "openai"}
    channel = Channel.objects.get()
    assert credential_decrypt(channel.credentials.get().encrypted) == CREDENTIAL
    assert channel.serves_all_models
    text = say("channel_add", "second", *options, "--models", "gpt-4o", "gpt-5")
    assert "Added the channel second" in text
    assert Channel.objects.get(name="second").models.count() == 2


@pytest.mark.django_db
def test_plain_http_takes_an_option(upstream_key: str) -> None:
    options = ["--base-url", "http://upstream.example.com/v1", "--key-env", upstream_key]
    with pytest.raises(CommandError, match="--insecure"):
        call_command("channel_add", "plain", *options)
    ask("channel_add", "plain", *options, "--insecure")
    assert Channel.objects.get().insecure


@pytest.mark.django_db
def test_a_channel_is_disabled_by_name() -> None:
    add()
    assert ask("channel_disable", "openai") == {"channel": "openai", "changed": True}
    assert say("channel_disable", "openai") == "The channel openai is disabled already.\n"
    channel = Channel.objects.get()
    assert not channel.enabled
    assert channel.disabled_reason.startswith("command:channel_disable (")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["channel_add", "a", "--base-url", BASE_URL, "--key-env", "NO_SUCH"], "NO_SUCH is not"),
        (["channel_add", "a", "--base-url", "x", "--key-env", "UPSTREAM_KEY"], "https://"),
        (["channel_add", "a b", "--base-url", BASE_URL, "--key-env", "UPSTREAM_KEY"], "'a b'"),
        (["channel_disable", "nobody"], "no channel 'nobody'"),
    ],
)
def test_what_cannot_be_is_an_error(
    upstream_key: str, arguments: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint) as refused:
        call_command(*arguments)
    assert refused.value.returncode == 1
    assert not Channel.objects.exists()


def test_an_operator_at_a_shell_sees_no_credential(fresh_database_url: str) -> None:
    done = manage(
        *("channel_add", "openai", "--base-url", BASE_URL, "--key-env", "UPSTREAM_KEY", "--json"),
        DATABASE_URL=fresh_database_url,
        UPSTREAM_KEY=CREDENTIAL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == '{"channel": "openai"}'


def test_what_a_channel_costs_is_a_fraction(
    monkeypatch: pytest.MonkeyPatch, committing_db: str
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-upstream")
    arguments = ("--base-url", "https://cheap.example/v1", "--key-env", "UPSTREAM_KEY")
    ask("channel_add", "cheap", *arguments, "--cost", "0.25")
    assert Channel.objects.get(name="cheap").cost_ppm == 250_000
