"""A channel's credentials: added and rotated by their labels, taken out of use, never shown."""

from collections.abc import Mapping

from django.db.models import QuerySet
from django.utils import timezone

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable, transaction_required
from relay.channels.encryption import credential_encrypt
from relay.channels.terms import UnusableTerms, credential_check, label_check
from relay.models import Channel, ChannelCredential

MAX_REASON_LENGTH = 200


class UnknownChannel(Refused):
    """No channel has that name."""


class UnknownCredential(Refused):
    """The channel has no credential of that label."""


def channel_find(name: str) -> Channel:
    """The channel, locked until the transaction ends."""
    channel = Channel.objects.select_for_update().filter(name=name).first()
    if channel is None:
        raise UnknownChannel(f"There is no channel {name!r}.")
    return channel


@transaction_required
def credentials_put(channel: Channel, credentials: Mapping[str, str]) -> None:
    """Add each, or let it take the place of the one with its label, which is then in use again.

    The caller records it.
    """
    for label, credential in credentials.items():
        ChannelCredential.objects.update_or_create(
            channel=channel,
            label=label_check(label),
            defaults={
                "encrypted": credential_encrypt(credential_check(credential)),
                "enabled": True,
                "disabled_reason": "",
                "disabled_at": None,
                "refused_at": None,
            },
        )


@durable
def credential_disable(*, channel: str, label: str, reason: str = "", actor: Actor) -> bool:
    """Use it no more; False if it was disabled already. Raises UnknownCredential."""
    changed = _find(channel, label).filter(enabled=True)
    reason = reason[:MAX_REASON_LENGTH]
    if not changed.update(enabled=False, disabled_reason=reason, disabled_at=timezone.now()):
        return False
    _record("disable", channel, label, actor=actor)
    return True


@durable
def credential_enable(*, channel: str, label: str, actor: Actor) -> bool:
    """Use it again, and end the alarm about it; False if there was nothing to change."""
    changed = _find(channel, label).exclude(enabled=True, refused_at__isnull=True)
    if not changed.update(enabled=True, disabled_reason="", disabled_at=None, refused_at=None):
        return False
    _record("enable", channel, label, actor=actor)
    return True


@durable
def credential_remove(*, channel: str, label: str, actor: Actor) -> None:
    """Forget it. A channel's last one can only be rotated. Raises UnusableTerms."""
    credential = _find(channel, label)
    if not ChannelCredential.objects.filter(channel__name=channel).exclude(label=label).exists():
        raise UnusableTerms(f"{label!r} is the only credential of {channel!r}.")
    credential.delete()
    _record("remove", channel, label, actor=actor)


def _find(channel: str, label: str) -> QuerySet[ChannelCredential]:
    found = ChannelCredential.objects.filter(channel_id=channel_find(channel).pk, label=label)
    if not found.exists():
        raise UnknownCredential(f"The channel {channel!r} has no credential {label!r}.")
    return found


def _record(what: str, channel: str, label: str, *, actor: Actor) -> None:
    audit_event_record(
        actor=actor,
        action=f"channel.credential_{what}",
        subject=channel,
        details={"credential": label},
    )
