"""Issuing and revoking API keys."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from django.conf import settings

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.keys import key_generate
from accounts.models import ApiKey, Project
from accounts.transactions import durable, transaction_required

MAX_NAME_LENGTH = 200
MAX_MODEL_LENGTH = 200
# Who holds a key may call models and see what that cost; managing needs a key issued for it.
DEFAULT_SCOPES = (ApiKey.Scope.RELAY, ApiKey.Scope.USAGE)


class UnableToIssueApiKey(Refused):
    """The terms of the key make no sense."""


class UnknownApiKey(Refused):
    """No key has that prefix."""


class UnableToRotateApiKey(Refused):
    """The key works no more, so there is nothing to replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyTerms:
    """What a new key may do; None means no restriction."""

    project: Project
    name: str = ""
    scopes: Sequence[str] = DEFAULT_SCOPES
    allowed_models: Sequence[str] | None = None
    allowed_networks: Sequence[str] | None = None
    expires_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class IssuedApiKey:
    """The stored row, and the key itself, which is not stored and never to be had again."""

    api_key: ApiKey
    key: str = field(repr=False)


@durable
def api_key_issue(*, terms: ApiKeyTerms, actor: Actor, now: dt.datetime) -> IssuedApiKey:
    """Issue a key on these terms; raises UnableToIssueApiKey."""
    _terms_check(terms, now)
    models = None if terms.allowed_models is None else _names(terms.allowed_models)
    networks = None if terms.allowed_networks is None else _networks(terms.allowed_networks)
    issued = _api_key_add(
        ApiKey(
            organization_id=terms.project.organization_id,
            project=terms.project,
            name=terms.name,
            scopes=list(terms.scopes),
            allowed_models=models,
            allowed_networks=networks,
            expires_at=terms.expires_at,
        ),
        actor=actor,
        now=now,
    )
    audit_event_record(
        actor=actor,
        action="api_key.issue",
        subject=issued.api_key.prefix,
        organization=terms.project.organization,
        details={
            "project": terms.project.slug,
            "scopes": list(terms.scopes),
            "allowed_models": models,
            "allowed_networks": networks,
            "expires_at": terms.expires_at.isoformat() if terms.expires_at else None,
        },
    )
    return issued


@durable
def api_key_rotate(
    *, prefix: str, grace: dt.timedelta, actor: Actor, now: dt.datetime
) -> IssuedApiKey:
    """Issue a key on the terms of another, which works on for the grace period and then stops.

    Raises UnknownApiKey, and UnableToRotateApiKey if the key does not work any more.
    """
    old = _api_key_lock(prefix)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise UnableToRotateApiKey(f"The API key {prefix!r} works no more: issue a new one.")
    if grace < dt.timedelta(0):
        raise UnableToRotateApiKey("A grace period is not negative.")
    issued = _api_key_add(
        ApiKey(
            organization_id=old.organization_id,
            project=old.project,
            name=old.name,
            scopes=old.scopes,
            allowed_models=old.allowed_models,
            allowed_networks=old.allowed_networks,
            expires_at=old.expires_at,
            family_id=old.family_id or old.pk,
        ),
        actor=actor,
        now=now,
    )
    ends_at = now + grace
    if old.expires_at is None or ends_at < old.expires_at:
        old.expires_at = ends_at
        old.save(update_fields=["expires_at"])
    audit_event_record(
        actor=actor,
        action="api_key.rotate",
        subject=prefix,
        organization=old.organization,
        details={"successor": issued.api_key.prefix, "expires_at": old.expires_at.isoformat()},
    )
    return issued


@durable
def api_key_revoke(*, prefix: str, actor: Actor, now: dt.datetime) -> bool:
    """Revoke the key of that prefix for ever; False if it was revoked already."""
    api_key = _api_key_lock(prefix)
    if api_key.revoked_at is not None:
        return False
    api_key.revoked_at = now
    api_key.save(update_fields=["revoked_at"])
    audit_event_record(
        actor=actor,
        action="api_key.revoke",
        subject=prefix,
        organization=api_key.organization,
    )
    return True


@transaction_required
def _api_key_lock(prefix: str) -> ApiKey:
    keys = ApiKey.objects.select_for_update(of=("self",)).select_related("organization", "project")
    api_key = keys.filter(prefix=prefix).first()
    if api_key is None:
        raise UnknownApiKey(f"There is no API key {prefix!r}.")
    return api_key


@transaction_required
def _api_key_add(api_key: ApiKey, *, actor: Actor, now: dt.datetime) -> IssuedApiKey:
    """Give the row a key, and store it."""
    issued = key_generate(brand_prefix=settings.API_KEY_BRAND_PREFIX, pepper=settings.KEY_PEPPER)
    api_key.prefix, api_key.last4, api_key.digest = issued.prefix, issued.last4, issued.digest
    api_key.created_by_id, api_key.created_at = actor.user_id, now
    api_key.save(force_insert=True)
    return IssuedApiKey(api_key=api_key, key=issued.key)


def _terms_check(terms: ApiKeyTerms, now: dt.datetime) -> None:
    if len(terms.name) > MAX_NAME_LENGTH or not terms.name.isprintable():
        raise UnableToIssueApiKey(
            f"A name of a key is at most {MAX_NAME_LENGTH} printable characters long."
        )
    if not terms.scopes or not set(terms.scopes) <= set(ApiKey.Scope.values):
        raise UnableToIssueApiKey(f"Scopes are of {', '.join(ApiKey.Scope.values)}, at least one.")
    if terms.expires_at is not None and terms.expires_at <= now:
        raise UnableToIssueApiKey("A key that has expired already is of no use.")
    if terms.project.archived_at is not None:
        raise UnableToIssueApiKey(f"The project {terms.project.slug!r} is archived.")


def _names(models: Sequence[str]) -> list[str]:
    names = sorted({model.strip() for model in models})
    if not names or not all(0 < len(name) <= MAX_MODEL_LENGTH for name in names):
        raise UnableToIssueApiKey("Allowed models are model ids, at least one.")
    return names


def _networks(networks: Sequence[str]) -> list[str]:
    """The networks in their canonical form; a single address is a network of one."""
    try:
        names = sorted({str(ip_network(network.strip())) for network in networks})
    except ValueError as error:
        raise UnableToIssueApiKey(f"Allowed networks are addresses or CIDR: {error}.") from error
    if not names:
        raise UnableToIssueApiKey("Allowed networks are at least one.")
    return names
