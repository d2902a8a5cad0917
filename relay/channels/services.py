"""Adding, changing, disabling and enabling channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable
from billing.money import PPM
from relay.channels import terms as terms_of
from relay.channels.base_urls import base_url_check
from relay.channels.credentials import UnknownChannel, channel_find, credentials_put
from relay.channels.encryption import text_encrypt
from relay.channels.terms import UnusableTerms
from relay.models import Channel, ChannelModel

__all__ = [
    "ChannelTerms",
    "NewChannel",
    "UnknownChannel",
    "UnusableTerms",
    "channel_add",
    "channel_disable",
    "channel_enable",
    "channel_set",
]

MAX_REASON_LENGTH = 200
FIRST_LABEL = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTerms:
    """What may be said of a channel, at its start and later; None: nothing."""

    base_url: str | None = None
    insecure: bool | None = None
    models: Sequence[str] | None = None  # Empty: all that have a price.
    model_map: Mapping[str, str] | None = None  # Public name -> upstream's.
    priority: int | None = None
    weight: int | None = None
    concurrency: int | None = None  # 0: no limit.
    cost_ppm: int | None = None  # What the operator pays of the official price.
    balance: str | None = None  # How its money is asked for; empty: not at all.
    balance_low_nano: int | None = None  # When that is an alarm; 0: never.
    kind: str | None = None
    api_version: str | None = None
    http2: bool | None = None
    proxy: str | None = field(default=None, repr=False)  # Empty: none.
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)  # Empty: none.
    connect_seconds: float | None = None  # 0: as the installation has it.
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChannel:
    """An upstream to send calls to; no models: all that have a price."""

    name: str
    base_url: str
    credential: str = field(default="", repr=False)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)  # By their labels.
    models: Sequence[str] = ()
    insecure: bool = False
    cost_ppm: int = PPM  # What the operator pays of the official price.
    terms: ChannelTerms = ChannelTerms()


@durable
def channel_add(*, new: NewChannel, actor: Actor) -> Channel:
    """Add a channel, enabled. Raises UnusableTerms, InvalidBaseUrl, UnusableCredentialKeys."""
    channel = Channel(
        name=terms_of.name_check(new.name),
        base_url=base_url_check(new.base_url, insecure=new.insecure),
        insecure=new.insecure,
        cost_ppm=new.cost_ppm,
    )
    models = terms_of.model_map_check(new.models, new.terms.model_map or {})
    channel.serves_all_models = not new.models
    _fields_set(channel, new.terms)
    credentials = dict(new.credentials)
    if new.credential or not credentials:
        credentials = {FIRST_LABEL: new.credential, **credentials}
    for label, credential in credentials.items():
        terms_of.credential_check(credential)
        terms_of.label_check(label)
    try:
        with transaction.atomic():
            channel.save(force_insert=True)
    except IntegrityError as error:
        raise UnusableTerms(f"There is a channel {new.name!r} already.") from error
    credentials_put(channel, credentials)
    _models_set(channel, models)
    audit_event_record(
        actor=actor,
        action="channel.add",
        subject=new.name,
        details={
            "base_url": channel.base_url,
            "models": sorted(models),
            "insecure": new.insecure,
            "credentials": sorted(credentials),
            **_shown(new.terms),
        },
    )
    return channel


@durable
def channel_set(
    *, name: str, terms: ChannelTerms, credentials: Mapping[str, str] | None = None, actor: Actor
) -> Channel:
    """Change what is said, and add or rotate the credentials, by their labels.

    Raises UnknownChannel, UnusableTerms, InvalidBaseUrl, UnusableCredentialKeys.
    """
    channel = channel_find(name)
    if terms.insecure is not None or terms.base_url is not None:
        channel.insecure = channel.insecure if terms.insecure is None else terms.insecure
        channel.base_url = base_url_check(
            terms.base_url or channel.base_url, insecure=channel.insecure
        )
    if terms.cost_ppm is not None:
        channel.cost_ppm = terms.cost_ppm
    _fields_set(channel, terms)
    if terms.models is not None or terms.model_map is not None:
        listed: Sequence[str] = terms.models or ()
        if terms.models is None and not channel.serves_all_models:
            listed = list(channel.models.values_list("model", flat=True))
        channel.serves_all_models = not listed
        _models_set(channel, terms_of.model_map_check(listed, terms.model_map or {}))
    channel.save()
    credentials_put(channel, credentials or {})
    details = _shown(terms)
    if credentials:
        details["credentials"] = sorted(credentials)
    audit_event_record(actor=actor, action="channel.set", subject=name, details=details)
    return channel


@durable
def channel_disable(*, name: str, reason: str = "", actor: Actor) -> bool:
    """Send no more calls to the channel; False if it was disabled already."""
    return _enabled_set(name, enabled=False, reason=reason[:MAX_REASON_LENGTH], actor=actor)


@durable
def channel_enable(*, name: str, actor: Actor) -> bool:
    """Send calls to the channel again; False if it was enabled."""
    return _enabled_set(name, enabled=True, reason="", actor=actor)


def _fields_set(channel: Channel, terms: ChannelTerms) -> None:
    """Everything that is a column of the channel and is checked by itself."""
    if terms.kind is not None:
        if terms.kind not in Channel.Kind.values:
            raise UnusableTerms(f"A channel's kind is one of {', '.join(Channel.Kind.values)}.")
        channel.kind = terms.kind
    version = channel.api_version if terms.api_version is None else terms.api_version
    channel.api_version = terms_of.api_version_check(version, kind=channel.kind)
    for what, least, most in (
        ("priority", -terms_of.MAX_PRIORITY, terms_of.MAX_PRIORITY),
        ("weight", 1, terms_of.MAX_WEIGHT),
        ("concurrency", 0, terms_of.MAX_CONCURRENCY),
    ):
        number = getattr(terms, what)
        if number is not None:
            number = terms_of.whole_check(what, number, least=least, most=most)
            setattr(channel, what, number)
    for what in ("connect_seconds", "first_byte_seconds", "idle_seconds"):
        seconds = getattr(terms, what)
        if seconds is not None:
            setattr(channel, what, terms_of.seconds_check(what, seconds))
    if terms.balance is not None:
        channel.balance = terms_of.balance_check(terms.balance)
    if terms.balance_low_nano is not None:
        channel.balance_low_nano = terms.balance_low_nano or None
    _way_set(channel, terms)


def _way_set(channel: Channel, terms: ChannelTerms) -> None:
    """How its upstream is reached, and with which headers."""
    if terms.http2 is not None:
        channel.http2 = terms.http2
    _secrets_set(channel, terms)


def _secrets_set(channel: Channel, terms: ChannelTerms) -> None:
    """What is kept encrypted, and never shown again."""
    if terms.proxy is not None:
        channel.proxy = terms_of.proxy_check(terms.proxy)
        channel.proxy_encrypted = text_encrypt(terms.proxy) if terms.proxy else None
    if terms.admin_key is not None:
        key = terms_of.credential_check(terms.admin_key) if terms.admin_key else ""
        channel.admin_key_encrypted = text_encrypt(key) if key else None
    if terms.headers is not None:
        headers = terms_of.headers_check(terms.headers)
        channel.header_names = sorted(headers)
        lines = "\n".join(f"{name}={value}" for name, value in headers.items())
        channel.headers_encrypted = text_encrypt(lines) if headers else None


def _models_set(channel: Channel, models: Mapping[str, str]) -> None:
    if channel.models.exists():
        channel.models.all().delete()
    ChannelModel.objects.bulk_create(
        ChannelModel(channel=channel, model=model, upstream_model=upstream)
        for model, upstream in models.items()
    )


def _shown(terms: ChannelTerms) -> dict[str, Any]:
    """What was said, without anything that may be secret."""
    said = {
        name: getattr(terms, name)
        for name in ChannelTerms.__slots__
        if getattr(terms, name) is not None
    }
    if terms.proxy is not None:
        said["proxy"] = terms_of.proxy_check(terms.proxy)
    if terms.admin_key is not None:
        said["admin_key"] = "set" if terms.admin_key else "removed"
    if terms.headers is not None:
        said["headers"] = sorted(terms.headers)
    if terms.model_map is not None:
        said["model_map"] = [f"{name}={upstream}" for name, upstream in terms.model_map.items()]
    return said


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
