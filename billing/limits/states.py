"""What spend limits have used and have left, and when they start anew. Reads only.

What open leases hold unspent is left: it comes back to whoever needs it.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Q, QuerySet

from accounts.models import ApiKey
from billing.limits.services import LimitScope
from billing.models import SpendLimit
from billing.windows import END, PERS, Window, window_at

_USED = """
    SELECT running.number, coalesce(sum(p.used_nano_usd + coalesce(open.spent, 0)), 0)::bigint
      FROM unnest(%s::int[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
           AS running(number, limit_id, a, b)
      JOIN billing_spendlimitperiod p
        ON p.limit_id = running.limit_id AND (p.period_start = running.a OR p.cut_short
           AND p.period_start < running.b AND p.period_end > running.a)
      LEFT JOIN LATERAL (
           SELECT sum(lease.spent_nano_usd) AS spent FROM billing_lease lease
             JOIN billing_spendlimit l ON l.organization_id = lease.organization_id
            WHERE l.id = p.limit_id AND lease.state = 'open'
              AND p.id = ANY(lease.limit_period_ids)) open ON true
     GROUP BY running.number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    limit: SpendLimit
    window: Window
    used_nano_usd: int

    @property
    def left_nano_usd(self) -> int:
        return max(0, self.limit.cap_nano_usd - self.used_nano_usd)

    @property
    def used_percent(self) -> int:
        """Rounded down; a limit of nothing is used up."""
        cap = self.limit.cap_nano_usd
        return 100 if not cap else self.used_nano_usd * 100 // cap

    @property
    def resets_at(self) -> dt.datetime | None:
        """None: never, a limit in total has one window."""
        return None if self.window.end == END else self.window.end


def limits_in_force() -> QuerySet[SpendLimit]:
    found = SpendLimit.objects.filter(removed_at__isnull=True)
    return found.select_related("organization", "project__organization", "api_key").order_by("id")


def limits_of_scope(scope: LimitScope) -> QuerySet[SpendLimit]:
    """Of the scope itself; of an organization, also those of its projects and keys."""
    of_organization = limits_in_force().filter(organization=scope.organization)
    if scope.api_key is not None:
        return of_organization.filter(api_key=scope.api_key)
    return of_organization.filter(project=scope.project) if scope.project else of_organization


def limits_of_key(key: ApiKey) -> QuerySet[SpendLimit]:
    """All that bound the calls of the key."""
    return limits_in_force().filter(
        Q(api_key=key.family_id or key.pk)
        | Q(project=key.project_id)
        | Q(organization=key.organization_id, project=None, api_key=None)
    )


def limit_states(limits: Iterable[SpendLimit], *, now: dt.datetime) -> list[LimitState]:
    """As they are by what was shipped, in the windows that run at that time."""
    asked = [(limit, _window(limit, now)) for limit in limits]
    if not asked:
        return []
    used = _used(asked)
    return [
        LimitState(limit=limit, window=window, used_nano_usd=used.get(number, 0))
        for number, (limit, window) in enumerate(asked)
    ]


def _window(limit: SpendLimit, now: dt.datetime) -> Window:
    (per,) = (per for per in PERS if per == limit.per)
    return window_at(per, now, ZoneInfo(limit.organization.time_zone))


def _used(asked: Sequence[tuple[SpendLimit, Window]]) -> dict[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            _USED,
            [
                list(range(len(asked))),
                [limit.pk for limit, _ in asked],
                [window.start for _, window in asked],
                [window.end for _, window in asked],
            ],
        )
        return dict(cursor.fetchall())
