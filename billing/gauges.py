"""The money engine in numbers: what is open now, and what an operator should have an eye on.

What stands in tables is exact and current. What only a worker knows, its holds and refusals, is
from its last renewal, a heartbeat ago at most; its row and last report stay when it has ended.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, Q
from django.utils import timezone

from billing.identifiers import uuid7_floor
from billing.models import UsageRecord
from billing.models.usage import ODD

# Nobody waits longer for a number.
PATIENCE_MILLISECONDS = 1000

_WORKERS = """
    SELECT w.id, w.node, w.pid, w.state = 'live' AND w.expires_at > clock_timestamp(),
        extract(epoch FROM clock_timestamp() - w.started_at)::bigint,
        w.shipped_offset, w.report::text,
        l.leases, l.granted, l.spent,
        (SELECT count(*) FROM billing_setasiderecord s
         WHERE s.worker_id = w.id AND s.resolved_at IS NULL)
    FROM billing_worker w
    LEFT JOIN LATERAL (
        SELECT count(*) AS leases, coalesce(sum(granted_nano_usd), 0)::bigint AS granted,
            coalesce(sum(spent_nano_usd), 0)::bigint AS spent
        FROM billing_lease WHERE worker_id = w.id AND state = 'open'
    ) l ON true
    WHERE w.state IN ('live', 'expired') ORDER BY w.node, w.id
"""

_TOTALS = """
    SELECT lease.*, late.*, aside.*, worker.*
    FROM (SELECT count(*), coalesce(sum(granted_nano_usd), 0)::bigint,
              coalesce(sum(spent_nano_usd), 0)::bigint,
              coalesce(extract(epoch FROM clock_timestamp() - min(opened_at)), 0)::bigint
          FROM billing_lease WHERE state = 'open') lease,
        (SELECT count(DISTINCT posting),
              count(DISTINCT posting) FILTER (WHERE created_at >= %(today)s),
              -coalesce(sum(amount_nano_usd) FILTER (WHERE account = 'write_off'), 0)::bigint
          FROM billing_ledgerentry WHERE reason = 'late_settlement') late,
        (SELECT count(*) FILTER (WHERE resolved_at IS NULL), count(*)
          FROM billing_setasiderecord) aside,
        (SELECT coalesce(sum((report->>'refused')::bigint), 0)::bigint,
              coalesce(sum((report->>'calls_settled')::bigint), 0)::bigint
          FROM billing_worker) worker
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGauges:
    """A worker that lives, or whose journal waits to be replayed. Counters: since its start."""

    worker: UUID
    node: str
    pid: int
    alive: bool
    age_seconds: int
    shipped_bytes: int
    leases_open: int
    leases_granted_nano_usd: int
    leases_spent_nano_usd: int
    set_aside: int
    calls_open: int
    holds_open: int
    held_nano_usd: int
    calls_settled: int
    refused: int
    estimated: int
    bound_exceeded: int
    journal_unshipped_bytes: int
    ship_lag_ms: int

    @property
    def leases_unspent_nano_usd(self) -> int:
        return self.leases_granted_nano_usd - self.leases_spent_nano_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of all workers of all nodes. Without another word: now; `today` is the day in UTC."""

    holds_open: int
    held_nano_usd: int
    calls_open: int
    leases_open: int
    leases_granted_nano_usd: int
    leases_spent_nano_usd: int
    leases_oldest_seconds: int
    journal_unshipped_bytes: int
    ship_lag_ms: int
    calls_settled_ever: int
    refused_ever: int
    estimated_today: int
    bound_exceeded_today: int
    lost_today: int
    expired_today: int
    late_settlements_today: int
    late_settlements_ever: int
    written_off_nano_usd_ever: int
    set_aside: int
    set_aside_ever: int

    @property
    def leases_unspent_nano_usd(self) -> int:
        return self.leases_granted_nano_usd - self.leases_spent_nano_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    totals: Totals
    workers: list[WorkerGauges]


def gauges() -> Gauges:
    """Raises django.db.OperationalError where the database does not answer in time."""
    midnight = dt.datetime.combine(timezone.now().astimezone(dt.UTC).date(), dt.time(), dt.UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MILLISECONDS}")
        cursor.execute(_WORKERS)
        workers = [_worker(row) for row in cursor.fetchall()]
        cursor.execute(_TOTALS, {"today": midnight})
        row = cursor.fetchone()
        odd = _odd_since(midnight)
    assert row is not None, "an aggregate without a row"
    return Gauges(totals=_totals(row, odd, workers), workers=workers)


def shipped_offsets(worker_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Where the database stands in each worker's journal, as far as it has heard of it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, shipped_offset FROM billing_worker WHERE id = ANY(%s)", [list(worker_ids)]
        )
        return dict(cursor.fetchall())


def _odd_since(moment: dt.datetime) -> Mapping[str, int]:
    found = UsageRecord.objects.filter(ODD, request_id__gte=uuid7_floor(moment))
    counts: Mapping[str, int] = found.aggregate(
        estimated=Count("pk", filter=Q(usage_source="estimated")),
        bound_exceeded=Count("pk", filter=Q(flags__contains=["bound_exceeded"])),
        lost=Count("pk", filter=Q(outcome="lost")),
        expired=Count("pk", filter=Q(outcome="expired")),
    )
    return counts


def _worker(row: Any) -> WorkerGauges:
    worker, node, pid, alive, age, shipped, report, leases, granted, spent, set_aside = row
    said = json.loads(report)
    return WorkerGauges(
        worker=worker,
        node=node,
        pid=pid or 0,
        alive=alive,
        age_seconds=age,
        shipped_bytes=shipped,
        leases_open=leases,
        leases_granted_nano_usd=granted,
        leases_spent_nano_usd=spent,
        set_aside=set_aside,
        calls_open=said.get("calls_open", 0),
        holds_open=said.get("holds_open", 0),
        held_nano_usd=said.get("held_nano_usd", 0),
        calls_settled=said.get("calls_settled", 0),
        refused=said.get("refused", 0),
        estimated=said.get("estimated", 0),
        bound_exceeded=said.get("bound_exceeded", 0),
        journal_unshipped_bytes=said.get("journal_bytes_unshipped", 0),
        ship_lag_ms=said.get("ship_lag_ms", 0),
    )


def _totals(row: Any, odd: Mapping[str, int], workers: list[WorkerGauges]) -> Totals:
    leases, granted, spent, oldest, late, late_today, written_off, waiting, aside, *ever = row
    refused, settled = ever
    return Totals(
        holds_open=sum(worker.holds_open for worker in workers),
        held_nano_usd=sum(worker.held_nano_usd for worker in workers),
        calls_open=sum(worker.calls_open for worker in workers),
        leases_open=leases,
        leases_granted_nano_usd=granted,
        leases_spent_nano_usd=spent,
        leases_oldest_seconds=oldest,
        journal_unshipped_bytes=sum(worker.journal_unshipped_bytes for worker in workers),
        ship_lag_ms=max((worker.ship_lag_ms for worker in workers), default=0),
        calls_settled_ever=settled,
        refused_ever=refused,
        estimated_today=odd["estimated"],
        bound_exceeded_today=odd["bound_exceeded"],
        lost_today=odd["lost"],
        expired_today=odd["expired"],
        late_settlements_today=late_today,
        late_settlements_ever=late,
        written_off_nano_usd_ever=written_off,
        set_aside=waiting,
        set_aside_ever=aside,
    )
