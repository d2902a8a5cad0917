"""Which spend limits bound a call: all of them in a worker's memory, by whom they are of.

The calls that the same limits bound share leases, and those leases take from the wallet and from
each of the limits at once (see Note [One lease, many limits] in `limit_rooms`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg

from billing.windows import Per

_VERSION = "SELECT version FROM accounts_configurationversion WHERE topic = 'limits'"
_LIMITS = """
SELECT l.id, l.per, l.cap_nano_usd, l.organization_id, l.project_id, l.api_key_id, o.time_zone,
       coalesce('API key ' || k.prefix || '...', 'project ' || o.slug || '/' || p.slug,
                'organization ' || o.slug)
  FROM billing_spendlimit l
  JOIN accounts_organization o ON o.id = l.organization_id
  LEFT JOIN accounts_project p ON p.id = l.project_id
  LEFT JOIN accounts_apikey k ON k.id = l.api_key_id
 WHERE l.removed_at IS NULL ORDER BY l.id
"""


class LimitTerms(NamedTuple):
    """One limit, as its owner knows it. The cap is not in it: it may change while calls run."""

    id: int
    scope: str
    per: Per


class LimitSet(NamedTuple):
    """Limits that bound the same calls. It is equal to any other of the same limits."""

    organization_id: int
    time_zone: str
    limits: tuple[LimitTerms, ...]

    def has(self, limit_id: int) -> bool:
        return any(limit.id == limit_id for limit in self.limits)


class OrganizationLimits:
    """The limits of one organization, its projects and its keys."""

    def __init__(self, organization_id: int, time_zone: str) -> None:
        self.organization_id = organization_id
        self.time_zone = time_zone
        self._of_all: list[LimitTerms] = []
        self._of_projects: dict[int, list[LimitTerms]] = {}
        self._of_keys: dict[int, list[LimitTerms]] = {}
        self._sets: dict[tuple[int, int], LimitSet | None] = {}

    def add(self, limit: LimitTerms, project_id: int | None, api_key_id: int | None) -> None:
        if api_key_id is not None:
            self._of_keys.setdefault(api_key_id, []).append(limit)
        elif project_id is not None:
            self._of_projects.setdefault(project_id, []).append(limit)
        else:
            self._of_all.append(limit)

    def of(self, project_id: int, api_key_family_id: int) -> LimitSet | None:
        """What bounds the calls of that key; None: nothing does."""
        asked = project_id, api_key_family_id
        try:
            return self._sets[asked]
        except KeyError:
            found = self._sets[asked] = self._find(project_id, api_key_family_id)
            return found

    def _find(self, project_id: int, api_key_family_id: int) -> LimitSet | None:
        limits = (
            *self._of_keys.get(api_key_family_id, ()),
            *self._of_projects.get(project_id, ()),
            *self._of_all,
        )
        return LimitSet(self.organization_id, self.time_zone, limits) if limits else None


class SpendLimitTable(NamedTuple):
    """All spend limits in force. It never changes; a change of any limit is a new table."""

    version: int = -1
    organizations: Mapping[int, OrganizationLimits] = {}
    # What a change of means that leases must give back, or may get more: the cap and the zone.
    bounds: Mapping[int, tuple[int, str]] = {}

    def narrower_than(self, older: "SpendLimitTable") -> set[int]:
        """The limits of which no more is to be spent than is left under the new terms."""
        return {
            limit_id
            for limit_id, (cap, zone) in older.bounds.items()
            if (now := self.bounds.get(limit_id)) is None or now[0] < cap or now[1] != zone
        }

    def wider_than(self, older: "SpendLimitTable") -> set[int]:
        """The limits of which those who were refused may now get more."""
        return {
            limit_id
            for limit_id, (cap, _) in older.bounds.items()
            if (now := self.bounds.get(limit_id)) is None or now[0] > cap
        }


async def spend_limits_load(connection: psycopg.AsyncConnection[Any]) -> SpendLimitTable:
    """Read all spend limits, and before them the version: never newer than what is known."""
    version = await (await connection.execute(_VERSION)).fetchone()
    assert version is not None, "the migrations insert the topic"
    organizations: dict[int, OrganizationLimits] = {}
    bounds: dict[int, tuple[int, str]] = {}
    for row in await (await connection.execute(_LIMITS)).fetchall():
        limit_id, per, cap, organization_id, project_id, api_key_id, time_zone, scope = row
        if organization_id not in organizations:
            organizations[organization_id] = OrganizationLimits(organization_id, time_zone)
        organizations[organization_id].add(LimitTerms(limit_id, scope, per), project_id, api_key_id)
        bounds[limit_id] = cap, time_zone
    return SpendLimitTable(version[0], organizations, bounds)
