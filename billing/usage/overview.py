"""The operator's first page in numbers: today across all organizations, and what needs a look."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import OperationalError, connection, transaction

from accounts.models import Organization
from billing.identifiers import uuid7_floor
from billing.models import AuditRun

# Whoever opens the page waits so long at most, and the database does not work on for nobody.
PATIENCE_MILLISECONDS = 3000
HOURS = 24

_TRAFFIC = """
    WITH call AS (
        SELECT model, organization_id, outcome, prompt_tokens, completion_tokens,
            charge_nano_usd, upstream_cost_nano_usd,
            ('x' || left(encode(uuid_send(request_id), 'hex'), 12))::bit(48)::bigint
                / 3600000 %% 24 AS hour
        FROM billing_usagerecord WHERE request_id >= %s AND request_id < %s
    )
    SELECT grouping(hour, model, organization_id, outcome), hour, model, organization_id, outcome,
        count(*), count(*) FILTER (WHERE outcome NOT IN ('completed', 'client_left')),
        coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
        coalesce(sum(charge_nano_usd), 0), coalesce(sum(upstream_cost_nano_usd), 0)
    FROM call GROUP BY GROUPING SETS ((), (hour), (model), (organization_id), (outcome))
"""
# What grouping() says of each set: a bit for every column that was summed over.
_ALL, _BY_HOUR, _BY_MODEL, _BY_ORGANIZATION, _BY_OUTCOME = 0b1111, 0b0111, 0b1011, 0b1101, 0b1110

_ENGINE = """
    SELECT
        count(*) FILTER (WHERE state = 'live' AND expires_at > clock_timestamp()),
        count(*) FILTER (WHERE state = 'live' AND expires_at <= clock_timestamp()),
        count(*) FILTER (WHERE state = 'expired'),
        (SELECT count(*) FROM billing_lease WHERE state = 'open'),
        (SELECT coalesce(sum(granted_nano_usd - spent_nano_usd), 0) FROM billing_lease
         WHERE state = 'open'),
        (SELECT count(*) FROM billing_setasiderecord WHERE resolved_at IS NULL),
        coalesce(max((report->>'ship_lag_ms')::bigint), 0),
        (SELECT count(DISTINCT posting) FROM billing_ledgerentry
         WHERE reason = 'late_settlement'
            AND created_at >= date_trunc('day', clock_timestamp(), 'UTC'))
    FROM billing_worker WHERE state IN ('live', 'expired')
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls, and what they brought in and cost."""

    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    revenue_nano_usd: int = 0
    cost_nano_usd: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def margin_nano_usd(self) -> int:
        return self.revenue_nano_usd - self.cost_nano_usd


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day's traffic; groups are ordered by revenue, hours by time."""

    total: Traffic = Traffic()
    hours: Sequence[Traffic] = (Traffic(),) * HOURS
    models: Sequence[tuple[str, Traffic]] = ()
    organizations: Sequence[tuple[str, Traffic]] = ()
    outcomes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Engine:
    """The state of the money engine. Overdue and expired workers left journals to replay."""

    workers_live: int
    workers_overdue: int
    workers_expired: int
    leases_open: int
    leases_unspent_nano_usd: int
    records_set_aside: int
    ship_lag_ms: int = 0  # Of the worker that is furthest behind.
    late_settlements_today: int = 0
    audited_at: dt.datetime | None = None  # Never yet.
    audit_findings: int = 0


def day_traffic(day: dt.date) -> Day | None:
    """One pass over the day's records; None if there are too many to count while somebody waits."""
    bounds = [uuid7_floor(day), uuid7_floor(day + dt.timedelta(days=1))]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MILLISECONDS}")
            cursor.execute(_TRAFFIC, bounds)
            rows = cursor.fetchall()
    except OperationalError as error:
        if _is_timeout(error):
            return None
        raise
    return _day(rows)


def engine_state() -> Engine:
    with connection.cursor() as cursor:
        cursor.execute(_ENGINE)
        row = cursor.fetchone()
    assert row is not None
    live, overdue, expired, leases, unspent, set_aside, lag, late = map(int, row)
    state = Engine(live, overdue, expired, leases, unspent, set_aside, lag, late)
    last = AuditRun.objects.order_by("-started_at").first()
    if last is None:
        return state
    return replace(state, audited_at=last.started_at, audit_findings=len(last.findings))


def _is_timeout(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == "57014"  # Query cancelled.


def _day(rows: Sequence[Any]) -> Day:
    sets: dict[int, list[tuple[Any, Traffic]]] = {
        _ALL: [],
        _BY_HOUR: [],
        _BY_MODEL: [],
        _BY_ORGANIZATION: [],
        _BY_OUTCOME: [],
    }
    for which, hour, model, organization, outcome, *numbers in rows:
        name = next((n for n in (hour, model, organization, outcome) if n is not None), None)
        sets[which].append((name, Traffic(*(int(number) for number in numbers))))
    hours = dict(sets[_BY_HOUR])
    return Day(
        total=sets[_ALL][0][1],
        hours=[hours.get(hour, Traffic()) for hour in range(HOURS)],
        models=_by_revenue(sets[_BY_MODEL]),
        organizations=_named(_by_revenue(sets[_BY_ORGANIZATION])),
        outcomes={outcome: traffic.calls for outcome, traffic in sets[_BY_OUTCOME]},
    )


def _by_revenue(groups: Sequence[tuple[Any, Traffic]]) -> list[tuple[Any, Traffic]]:
    return sorted(groups, key=lambda group: (-group[1].revenue_nano_usd, -group[1].calls, group[0]))


def _named(groups: Sequence[tuple[int, Traffic]]) -> list[tuple[str, Traffic]]:
    found = Organization.objects.filter(pk__in=[number for number, _ in groups])
    names = dict(found.values_list("pk", "name"))
    return [(names.get(number, str(number)), traffic) for number, traffic in groups]
