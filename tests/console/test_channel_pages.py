"""What an operator does to channels in the console."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from relay.channels.services import NewChannel, channel_add
from relay.models import Channel, ChannelCredential
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
