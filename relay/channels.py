"""Adding, disabling and enabling channels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import IntegrityError

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable
from billing.money import PPM
from relay.base_urls import base_url_check
from relay.credentials import credential_encrypt
from relay.models import Channel, ChannelModel

MAX_NAME_LENGTH = 60
MAX_MODEL_LENGTH = 200
MAX_CREDENTIAL_LENGTH = 4096
MAX_REASON_LENGTH = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# It goes into a header: a space or a line break would end it, or begin another.
_CREDENTIAL = re.compile(r"[\x21-\x7e]+")


class UnableToAddChannel(Refused):
    """The name, the credential or a model cannot be used."""


class UnknownChannel(Refused):
    """No channel has that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChannel:
    """An upstream to send calls to; no models: all that have a price."""

    name: str
    base_url: str
    credential: str = field(repr=False)
    models: Sequence[str] = ()
    insecure: bool = False
    cost_ppm: int = PPM  # What the operator pays of the official price.


@durable
def channel_add(*, new: NewChannel, actor: Actor) -> Channel:
    """Add a channel, enabled. Raises UnableToAddChannel, InvalidBaseUrl, UnusableCredentialKeys."""
    base_url = base_url_check(new.base_url, insecure=new.insecure)
    models = _check(new)
    try:
        channel = Channel.objects.create(
            name=new.name,
            base_url=base_url,
            credential_encrypted=credential_encrypt(new.credential),
            serves_all_models=not models,
            insecure=new.insecure,
            cost_ppm=new.cost_ppm,
        )
    except IntegrityError as error:
        raise UnableToAddChannel(f"There is a channel {new.name!r} already.") from error
    ChannelModel.objects.bulk_create(
        ChannelModel(channel=channel, model=model, upstream_model=model) for model in models
    )
    audit_event_record(
        actor=actor,
        action="channel.add",
        subject=new.name,
        details={"base_url": base_url, "models": models, "insecure": new.insecure},
    )
    return channel


@durable
def channel_disable(*, name: str, reason: str = "", actor: Actor) -> bool:
    """Send no more calls to the channel; False if it was disabled already."""
    return _enabled_set(name, enabled=False, reason=reason[:MAX_REASON_LENGTH], actor=actor)


@durable
def channel_enable(*, name: str, actor: Actor) -> bool:
    """Send calls to the channel again; False if it was enabled."""
    return _enabled_set(name, enabled=True, reason="", actor=actor)


def _check(new: NewChannel) -> list[str]:
    """Raise UnableToAddChannel, or return the models, each once."""
    if len(new.name) > MAX_NAME_LENGTH or not _NAME.fullmatch(new.name):
        raise UnableToAddChannel(
            f"{new.name!r} names no channel: at most {MAX_NAME_LENGTH} of A-Z a-z 0-9 _ -."
        )
    if len(new.credential) > MAX_CREDENTIAL_LENGTH or not _CREDENTIAL.fullmatch(new.credential):
        raise UnableToAddChannel("The credential is empty, or is no header value.")
    models = sorted({model.strip() for model in new.models})
    if not all(0 < len(model) <= MAX_MODEL_LENGTH for model in models):
        raise UnableToAddChannel("A model id is empty or too long.")
    return models


def _enabled_set(name: str, *, enabled: bool, reason: str, actor: Actor) -> bool:
    channels = Channel.objects.filter(name=name)
    if not channels.exclude(enabled=enabled).update(enabled=enabled, disabled_reason=reason):
        if not channels.exists():
            raise UnknownChannel(f"There is no channel {name!r}.")
        return False
    audit_event_record(
        actor=actor,
        action="channel.enable" if enabled else "channel.disable",
        subject=name,
        details={"reason": reason} if reason else None,
    )
    return True
