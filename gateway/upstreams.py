"""The upstream of a fresh install: OpenAI by the environment's credential, or the simulated one."""

from enum import StrEnum

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable
from billing.money import parse_fraction_ppm
from gateway.checks import SIMULATOR_PROVIDER
from gateway.env import env_str
from relay.channels.base_urls import base_url_check
from relay.channels.credentials import credentials_put
from relay.channels.encryption import UnreadableCredential, credential_decrypt
from relay.channels.services import (
    FIRST_LABEL,
    NewChannel,
    channel_add,
    channel_disable,
    channel_enable,
)
from relay.models import Channel

OPENAI_URL = "https://api.openai.com/v1"
# Not plainly "openai": that name an operator may have given to a channel of the console.
ENVIRONMENT_CHANNEL = "openai-environment"
SIMULATOR_CHANNEL = "simulator"
# The simulator takes any key. Where another channel serves a model too, that one comes first.
SIMULATOR_CREDENTIAL = "simulated"
SIMULATOR_PRIORITY = -1000


class Upstream(StrEnum):
    """Where calls go after the start."""

    ENVIRONMENT = "environment"  # OPENAI_API_KEY said so.
    SIMULATED = "simulated"
    CHANNELS = "channels"  # The operator's own.
    NONE = "none"


def upstream_prepare(*, simulator_url: str | None, actor: Actor) -> Upstream:
    """Make the channels follow the environment; without a simulator URL there is no simulator.

    Raises what `channel_add` refuses.
    """
    credential = env_str("OPENAI_API_KEY").strip()
    if credential:
        base_url = env_str("OPENAI_BASE_URL").strip() or OPENAI_URL
        channel_keep(
            new=NewChannel(
                name=ENVIRONMENT_CHANNEL,
                base_url=base_url,
                credential=credential,
                cost_ppm=parse_fraction_ppm(env_str("OPENAI_COST", "1"), allow_surcharge=True),
            ),
            actor=actor,
        )
    others = Channel.objects.filter(enabled=True).exclude(name=SIMULATOR_CHANNEL)
    if simulator_url is not None and not others.filter(serves_all_models=True).exists():
        _simulator_use(simulator_url, actor=actor)
        return Upstream.SIMULATED
    if Channel.objects.filter(name=SIMULATOR_CHANNEL, enabled=True).exists():
        channel_disable(name=SIMULATOR_CHANNEL, reason="There is a real upstream.", actor=actor)
    if others.filter(name=ENVIRONMENT_CHANNEL).exists() and credential:
        return Upstream.ENVIRONMENT
    return Upstream.CHANNELS if others.exists() else Upstream.NONE


def channel_keep(*, new: NewChannel, actor: Actor) -> None:
    """Add the channel, or give the one of that name this base URL and credential.

    One that the operator disabled stays so.
    """
    channel = Channel.objects.filter(name=new.name).first()
    if channel is None:
        channel_add(new=new, actor=actor)
    elif _differs(channel, new):
        _channel_point(channel, new=new, actor=actor)


def _simulator_use(base_url: str, *, actor: Actor) -> None:
    channel_keep(
        new=NewChannel(name=SIMULATOR_CHANNEL, base_url=base_url, credential=SIMULATOR_CREDENTIAL),
        actor=actor,
    )
    marks = {"provider": SIMULATOR_PROVIDER, "priority": SIMULATOR_PRIORITY, "cost_ppm": 0}
    Channel.objects.filter(name=SIMULATOR_CHANNEL).exclude(**marks).update(**marks)
    channel_enable(name=SIMULATOR_CHANNEL, actor=actor)


@durable
def _channel_point(channel: Channel, *, new: NewChannel, actor: Actor) -> None:
    channel.base_url = base_url_check(new.base_url, insecure=channel.insecure)
    channel.cost_ppm = new.cost_ppm
    channel.save(update_fields=["base_url", "cost_ppm"])
    credentials_put(channel, {FIRST_LABEL: new.credential})
    audit_event_record(
        actor=actor,
        action="channel.point",
        subject=channel.name,
        details={"base_url": channel.base_url},
    )


def _differs(channel: Channel, new: NewChannel) -> bool:
    if channel.base_url != base_url_check(new.base_url, insecure=channel.insecure):
        return True
    if channel.provider != SIMULATOR_PROVIDER and channel.cost_ppm != new.cost_ppm:
        return True
    credential = channel.credentials.filter(label=FIRST_LABEL).first()
    if credential is None:
        return True
    try:
        return credential_decrypt(credential.encrypted) != new.credential
    except UnreadableCredential:
        return True
