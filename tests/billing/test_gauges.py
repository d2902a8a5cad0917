"""The operator's counters: what they count, and that nothing counted vanishes with its worker."""

import datetime as dt
import uuid

from accounts.models import Organization
from billing.gauges import Totals, gauges
from billing.models import SetAsideRecord
from tests.factories import (
    make_grant,
    make_late_settlement,
    make_lease,
    make_organization,
    make_usage_record,
    make_worker,
    now,
)

REPORT = {
    "calls_settled": 40,
    "calls_open": 2,
    "holds_open": 3,
    "held_nano_usd": 150,
    "leases_open": 1,
    "refused": 7,
    "estimated": 5,
    "bound_exceeded": 4,
    "expired": 0,
    "journal_bytes": 9_000,
    "journal_bytes_unshipped": 600,
    "ship_lag_ms": 90,
}


def odd_calls_yesterday_and_today(organization: Organization) -> None:
    midnight = dt.datetime.combine(now().date(), dt.time(), dt.UTC)
    for at in (midnight - dt.timedelta(milliseconds=1), midnight):
        for _ in range(2):
            make_usage_record(organization, at=at, usage_source="estimated")
        make_usage_record(organization, at=at, flags=["trimmed", "bound_exceeded"])
        make_usage_record(organization, at=at, flags=["trimmed"])
        for outcome in ("lost", "expired", "expired", "expired"):
            make_usage_record(organization, at=at, outcome=outcome, charge_nano_usd=0)
        make_late_settlement(organization, at=at)


def test_everything_is_counted(db: None) -> None:
    organization = make_organization()
    grant = make_grant(organization, amount_nano_usd=1_000)
    worker = make_worker(report=REPORT, started_at=now() - dt.timedelta(seconds=100))
    make_lease(grant, granted_nano_usd=300, spent_nano_usd=100, worker=worker)
    other = make_worker(state="expired", report={**REPORT, "ship_lag_ms": 5_000})
    make_worker(state="complete", report={**REPORT, "held_nano_usd": 0})
    make_worker(report={})  # It has not renewed yet.
    for offset, resolved in ((1, None), (2, now())):
        SetAsideRecord.objects.create(
            worker_id=other.pk, journal_offset=offset, payload=b"", reason="", resolved_at=resolved
        )
    odd_calls_yesterday_and_today(organization)
    found = gauges()
    assert 0 <= found.totals.leases_oldest_seconds < 60
    assert found.totals == Totals(
        holds_open=6,
        held_nano_usd=300,
        calls_open=4,
        leases_open=1,
        leases_granted_nano_usd=300,
        leases_spent_nano_usd=100,
        leases_oldest_seconds=found.totals.leases_oldest_seconds,
        journal_unshipped_bytes=1_200,
        ship_lag_ms=5_000,
        calls_settled_ever=120,
        refused_ever=21,
        estimated_today=2,
        bound_exceeded_today=1,
        lost_today=1,
        expired_today=3,
        late_settlements_today=1,
        late_settlements_ever=2,
        written_off_nano_usd_ever=24,
        set_aside=1,
        set_aside_ever=2,
    )
    assert found.totals.leases_unspent_nano_usd == 200
    by_id = {each.worker: each for each in found.workers}
    assert len(by_id) == 3
    mine, dead = by_id[worker.pk], by_id[other.pk]
    assert (mine.alive, mine.leases_unspent_nano_usd, mine.set_aside) == (True, 200, 0)
    assert (mine.refused, mine.estimated, mine.bound_exceeded) == (7, 5, 4)
    assert 100 <= mine.age_seconds < 160
    assert (dead.alive, dead.leases_open, dead.set_aside) == (False, 0, 1)
    assert (dead.journal_unshipped_bytes, dead.ship_lag_ms) == (600, 5_000)


def test_nothing_is_counted_where_nothing_was(db: None) -> None:
    found = gauges()
    assert found.workers == []
    assert not any(getattr(found.totals, name) for name in Totals.__dataclass_fields__)


def test_an_overdue_worker_is_not_alive(db: None) -> None:
    worker = make_worker(id=uuid.uuid4(), expires_at=now() - dt.timedelta(seconds=1))
    (found,) = gauges().workers
    assert (found.worker, found.alive) == (worker.pk, False)
