"""Rate limits: how they are set, and all of them at once for the workers' memory."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg
from msgspec import Struct

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable
from billing.limits.services import LimitScope, UnableToLimit
from billing.models import MAX_RATE_LIMIT, RateLimit
from billing.prices.periods import writers_take_turns
from billing.prices.services import price_require

RATES: Final = ("calls_per_minute", "tokens_per_minute", "concurrency")

_VERSION = "SELECT version FROM accounts_configurationversion WHERE topic = 'limits'"
_LIMITS = """
SELECT l.organization_id, l.project_id, l.api_key_id, l.model,
       coalesce(k.prefix || '...', o.slug || '/' || p.slug, o.slug, l.model),
       l.calls_per_minute, l.tokens_per_minute, l.concurrency
  FROM billing_ratelimit l
  LEFT JOIN accounts_organization o ON o.id = l.organization_id
  LEFT JOIN accounts_project p ON p.id = l.project_id
  LEFT JOIN accounts_apikey k ON k.id = l.api_key_id
"""

# What a rate of a change means: a number, None to remove the limit; one that is missing stays.
Rates = Mapping[str, int | None]


@durable
def rate_limit_set(*, scope: LimitScope | str, rates: Rates, actor: Actor) -> RateLimit | None:
    """Bound the calls of the scope, which is a model if it is a name; the others stay as they are.

    Returns None once nothing is bounded any more. Raises UnableToLimit, UnknownModel.
    """
    if not rates or not rates.keys() <= set(RATES):
        raise UnableToLimit(f"A rate limit is one of {', '.join(RATES)}.")
    if any(rate is not None and not 1 <= rate <= MAX_RATE_LIMIT for rate in rates.values()):
        raise UnableToLimit(f"A rate limit is a whole number from 1 to {MAX_RATE_LIMIT}.")
    columns: dict[str, Any]
    if isinstance(scope, str):
        price_require(scope)
        columns = {"organization": None, "project": None, "api_key": None, "model": scope}
    else:
        columns = {
            "organization": scope.organization,
            "project": scope.project,
            "api_key": scope.api_key,
            "model": "",
        }
    writers_take_turns(RateLimit)
    limit = RateLimit.objects.filter(**_same(columns)).first() or RateLimit(**columns)
    before = {name: getattr(limit, name) for name in RATES}
    after = before | dict(rates)
    if after != before:
        _write(limit, after)
        audit_event_record(
            actor=actor,
            action="rate_limit.set" if any(after.values()) else "rate_limit.remove",
            subject=str(limit),
            organization=columns["organization"],
            details={**after, **{f"before_{name}": value for name, value in before.items()}},
        )
    return limit if any(after.values()) else None


def _same(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{name}__isnull" if value is None else name: True if value is None else value
        for name, value in columns.items()
    }


def _write(limit: RateLimit, rates: Rates) -> None:
    for name, rate in rates.items():
        setattr(limit, name, rate)
    if any(rates.values()):
        limit.save()
    elif limit.pk is not None:
        RateLimit.objects.filter(pk=limit.pk).delete()


# --- For the workers -----------------------------------------------------------------------------


class ScopeRates(Struct, frozen=True):
    """What one scope may do; None: as much as it likes."""

    subject: str
    """Names the scope for ever, whatever its numbers are: what is counted is counted under it."""
    name: str
    """As its owner knows it: key sk-abc..., organization acme."""
    calls_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class RateTable(NamedTuple):
    """All rate limits. It never changes; a change of any limit is a new table."""

    version: int = -1
    keys: Mapping[int, ScopeRates] = {}
    projects: Mapping[int, ScopeRates] = {}
    organizations: Mapping[int, ScopeRates] = {}
    models: Mapping[str, ScopeRates] = {}

    def __bool__(self) -> bool:
        return bool(self.keys or self.projects or self.organizations or self.models)


async def rates_load(connection: psycopg.AsyncConnection[Any]) -> RateTable:
    """Read all rate limits, and before them the version: never newer than what is known."""
    version = await (await connection.execute(_VERSION)).fetchone()
    assert version is not None, "the migrations insert the topic"
    table = RateTable(version[0], {}, {}, {}, {})
    for row in await (await connection.execute(_LIMITS)).fetchall():
        organization, project, api_key, model, name, *rates = row
        scopes: Any
        if api_key is not None:
            kind, scopes, at = "key", table.keys, api_key
        elif project is not None:
            kind, scopes, at = "project", table.projects, project
        elif organization is not None:
            kind, scopes, at = "organization", table.organizations, organization
        else:
            kind, scopes, at = "model", table.models, model
        scopes[at] = ScopeRates(f"{kind}:{at}", f"{kind} {name}", *rates)
    return table
