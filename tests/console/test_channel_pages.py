"""What an operator does to channels in the console."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from relay.channels.services import NewChannel, channel_add
from relay.models import Channel, ChannelCredential, CredentialCheck
from tests.factories import ACTOR

pytestmark = pytest.mark.django_db
SECRET = "sk-nobody-may-see-this"


@pytest.fixture
def channel(db: None) -> Channel:
    new = NewChannel(name="main", base_url="https://api.openai.com/v1", credential="sk-one")
    return channel_add(new=new, actor=ACTOR)


def sent(client: Client, page: str, channel: Channel, values: dict[str, Any]) -> Any:
    return client.post(reverse(f"admin:relay_channel_{page}", args=[channel.pk]), values)


def test_priority_and_weight_are_one_page_away(administrator: Client, channel: Channel) -> None:
    values = {"priority": 7, "weight": 3, "concurrency": 9, "model_map": "gpt-4=gpt-4o"}
    listed = administrator.get(reverse("admin:relay_channel_changelist")).content.decode()
    assert reverse("admin:relay_channel_routing", args=[channel.pk]) in listed
    assert sent(administrator, "routing", channel, values).status_code == 302
    channel.refresh_from_db()
    assert (channel.priority, channel.weight, channel.concurrency) == (7, 3, 9)
    assert channel.serves_all_models
    assert channel.models.get().upstream_model == "gpt-4o"
    refused = sent(administrator, "routing", channel, values | {"weight": 0})
    assert "whole number" in refused.content.decode()


def test_credentials_are_managed_and_never_shown(administrator: Client, channel: Channel) -> None:
    def act(action: str, label: str = "second", credential: str = "") -> Any:
        values = {"label": label, "action": action, "credential": credential}
        return sent(administrator, "credentials", channel, values)

    assert SECRET not in act("put", credential=f"{SECRET} x").content.decode()
    assert act("put", credential=SECRET).status_code == 302
    assert act("disable").status_code == 302
    page = administrator.get(reverse("admin:relay_channel_change", args=[channel.pk]))
    assert "second (disabled" in page.content.decode()
    assert SECRET not in page.content.decode()
    assert act("enable").status_code == 302
    assert act("remove", "main").status_code == 302
    assert "only credential" in act("remove").content.decode()
    assert ChannelCredential.objects.get().label == "second"


def test_a_refused_credential_is_an_alarm_on_the_first_page(
    administrator: Client, channel: Channel
) -> None:
    def alarm() -> bool:
        checks = administrator.get(reverse("admin:index")).context["checks"]
        [check] = [one for one in checks if one.title == "Credentials refused"]
        return bool(check.state == "bad")

    assert not alarm()
    channel.credentials.update(refused_at=timezone.now(), disabled_reason="Upstream answered 401.")
    assert alarm()
    sent(administrator, "credentials", channel, {"label": "main", "action": "enable"})
    assert not alarm()


def test_a_trial_says_that_it_may_cost_something(administrator: Client, channel: Channel) -> None:
    page = administrator.get(reverse("admin:relay_channel_trial", args=[channel.pk]))
    assert "upstream may charge you" in page.content.decode()


TERMS = {
    "base_url": "https://upstream.example/v1",
    "kind": "openai",
    "api_version": "",
    "cost": "0.4",
    "proxy": f"http://user:{SECRET}@proxy.example:3128",
    "http2": "on",
    "headers": f"x-team=relay\r\nx-secret={SECRET}",
    "connect_seconds": "1.5",
    "first_byte_seconds": "0",
    "idle_seconds": "0",
    "balance": "openrouter",
    "balance_low": "5",
}


def test_the_way_and_the_cost_are_said_and_secrets_stay(
    administrator: Client, channel: Channel
) -> None:
    assert sent(administrator, "terms", channel, TERMS).status_code == 302
    page = administrator.get(reverse("admin:relay_channel_terms", args=[channel.pk]))
    text = page.content.decode()
    assert "http://proxy.example:3128" in text
    assert "x-secret, x-team" in text
    assert SECRET not in text
    channel.refresh_from_db()
    assert (channel.base_url, channel.cost_ppm) == ("https://upstream.example/v1", 400_000)
    assert (channel.http2, channel.connect_seconds) == (True, 1.5)
    assert channel.first_byte_seconds is None
    assert (channel.balance, channel.balance_low_nano) == ("openrouter", 5 * 10**9)
    kept = TERMS | {"proxy": "", "headers": "", "http2": "", "balance_low": "0"}
    assert sent(administrator, "terms", channel, kept).status_code == 302
    channel.refresh_from_db()
    assert (channel.proxy, channel.http2) == ("http://proxy.example:3128", False)
    assert channel.balance_low_nano is None
    gone = TERMS | {"proxy": "none", "headers": "none"}
    assert sent(administrator, "terms", channel, gone).status_code == 302
    channel.refresh_from_db()
    assert (channel.proxy, channel.proxy_encrypted, channel.header_names) == ("", None, [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"proxy": "ftp://x"}, "begins with one of"),
        ({"headers": "authorization=x"}, "relay&#x27;s own"),
        ({"api_version": "2024-10-21"}, "kind azure"),
        ({"base_url": "http://elsewhere.example/v1"}, "https"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(
    administrator: Client, channel: Channel, change: dict[str, str], told: str
) -> None:
    answer = sent(administrator, "terms", channel, TERMS | change)
    assert answer.status_code == 200
    assert told in answer.content.decode()
    channel.refresh_from_db()
    assert channel.base_url == "https://api.openai.com/v1"


def test_what_a_check_found_is_on_the_channel_and_trouble_on_the_first_page(
    administrator: Client, channel: Channel
) -> None:
    check = CredentialCheck.objects.create(
        credential=channel.credentials.get(),
        checked_at=timezone.now(),
        status=200,
        duration_ms=12,
        balance_nano=1_500_000_000,
        balance_currency="USD",
    )
    page = reverse("admin:relay_channel_change", args=[channel.pk])
    assert "answers in 12 ms" in administrator.get(page).content.decode()
    assert "1.50 USD left" in administrator.get(page).content.decode()
    first = administrator.get("/admin/").content.decode()
    assert "Low balances" not in first
    assert "get no answer" not in first
    check.low_since, check.error = timezone.now(), "Upstream answered 500."
    check.save()
    first = administrator.get("/admin/").content.decode()
    assert "Low balances" in first
    assert "get no answer" in first
    assert "Upstream answered 500." in administrator.get(page).content.decode()
