"""The counters of `manage.py status`: the money engine's, and how far this node's journals wait."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error
from django.utils import timezone

from billing.engine.backlog import backlog
from billing.engine.journal import first_offset
from billing.gauges import Gauges, Totals, WorkerGauges, gauges, shipped_offsets
from billing.money import format_usd
from relay.reconciliation import drifting


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """A journal of this node. Without the database, all that is in its files may wait."""

    worker: UUID
    unshipped_bytes: int
    lag_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Either the gauges, or the reason why there are none."""

    gauges: Gauges | None
    problem: str
    journals: Sequence[JournalState]
    upstream_drifts: int = 0  # Comparisons with upstream's books that are an alarm.


def counters(*, database_runs: bool) -> Counters:
    folders = _journals(settings.DATA_DIR / "journals")
    if not database_runs:
        return _without("The database does not run.", folders)
    try:
        found, offsets = gauges(), shipped_offsets(folders)
        drifts = drifting(now=timezone.now())
    except Error as error:
        return _without(f"The database does not answer: {error}".strip(), folders)
    journals = _states(folders, offsets)
    return Counters(
        gauges=_corrected(found, journals),
        problem="",
        journals=journals,
        upstream_drifts=drifts,
    )


def as_json(found: Counters) -> dict[str, Any]:
    """Integers and texts: amounts in nano-USD, times in seconds or milliseconds."""
    answer: dict[str, Any] = {
        "engine": None,
        "engine_problem": found.problem or None,
        "engine_workers": [],
        "upstream_drifts": None,
        "journals": [{**asdict(j), "worker": str(j.worker)} for j in found.journals],
    }
    if found.gauges is not None:
        totals = found.gauges.totals
        unspent = {"leases_unspent_nano_usd": totals.leases_unspent_nano_usd}
        answer["engine"] = {**asdict(totals), **unspent}
        answer["upstream_drifts"] = found.upstream_drifts
        answer["engine_workers"] = [
            {
                **asdict(worker),
                "worker": str(worker.worker),
                "leases_unspent_nano_usd": worker.leases_unspent_nano_usd,
            }
            for worker in found.gauges.workers
        ]
    return answer


def sentences(found: Counters) -> list[str]:
    journals = found.journals
    if found.gauges is None:
        waiting = sum(journal.unshipped_bytes for journal in journals)
        left = f"{len(journals)} of this node, with at most {waiting:,} bytes to ship"
        return [f"Money       {found.problem}", f"Journals    {left if journals else 'none wait'}"]
    drifts = f"Upstream    {found.upstream_drifts:,} drifts from its books in the last days"
    return [*_totals(found.gauges.totals), drifts, "", *_table(found.gauges.workers)]


def _totals(now: Totals) -> list[str]:
    held, unspent = format_usd(now.held_nano_usd), format_usd(now.leases_unspent_nano_usd)
    granted, spent = format_usd(now.leases_granted_nano_usd), format_usd(now.leases_spent_nano_usd)
    lines = {
        "Holds": f"{now.holds_open:,} open for {now.calls_open:,} calls: {held} USD",
        "Leases": f"{now.leases_open:,} open: {granted} USD granted, {spent} spent",
        "": f"{unspent} USD unspent; the oldest is open for {now.leases_oldest_seconds:,} s",
        "Journals": f"{now.journal_unshipped_bytes:,} bytes to ship,"
        f" {_seconds(now.ship_lag_ms)} behind",
        "Refused": f"{now.refused_ever:,} calls for want of money, ever",
        "Estimated": f"{now.estimated_today:,} calls today",
        "Beyond": f"{now.bound_exceeded_today:,} calls today cost more than was held for them",
        "Uncharged": f"{now.lost_today:,} lost and {now.expired_today:,} too late today",
        "Late": f"{now.late_settlements_today:,} settlements today,"
        f" {now.late_settlements_ever:,} ever:"
        f" {format_usd(now.written_off_nano_usd_ever)} USD written off",
        "Set aside": f"{now.set_aside:,} records wait, of {now.set_aside_ever:,} ever",
    }
    return [f"{name:12}{text}" for name, text in lines.items()]


def _journals(folder: Path) -> dict[UUID, Path]:
    """Those that have their name: the others are being made, or removed."""
    found: dict[UUID, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(ValueError):
            found[UUID(path.name)] = path
    return found


def _states(folders: dict[UUID, Path], offsets: dict[UUID, int]) -> list[JournalState]:
    """A journal that has just been finished, or that the database never heard of, has no state."""
    states = []
    for worker in folders.keys() & offsets.keys():
        with suppress(FileNotFoundError):
            states.append(_state(worker, folders[worker], offsets[worker]))
    return sorted(states, key=lambda state: state.worker)


def _state(worker: UUID, folder: Path, shipped: int) -> JournalState:
    waiting = backlog(folder, shipped=shipped)
    lag = 0.0 if waiting.since is None else max(0.0, time.time() - waiting.since)
    return JournalState(
        worker=worker, unshipped_bytes=waiting.unshipped_bytes, lag_ms=int(1000 * lag)
    )


def _without(problem: str, folders: dict[UUID, Path]) -> Counters:
    offsets = {worker: first_offset(path) for worker, path in folders.items()}
    return Counters(gauges=None, problem=problem, journals=_states(folders, offsets))


def _corrected(found: Gauges, journals: Sequence[JournalState]) -> Gauges:
    """What lies here is known better than from the last renewal, also where its worker is dead."""
    known = {journal.worker: journal for journal in journals}
    workers = [
        replace(
            worker,
            journal_unshipped_bytes=known[worker.worker].unshipped_bytes,
            ship_lag_ms=known[worker.worker].lag_ms,
        )
        if worker.worker in known
        else worker
        for worker in found.workers
    ]
    totals = replace(
        found.totals,
        journal_unshipped_bytes=sum(worker.journal_unshipped_bytes for worker in workers),
        ship_lag_ms=max((worker.ship_lag_ms for worker in workers), default=0),
    )
    return Gauges(totals=totals, workers=workers)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000:,}.{milliseconds % 1000 // 100} s"


def _table(workers: Sequence[WorkerGauges]) -> list[str]:
    """One line for each worker; the counters count since its start."""
    rows = [
        (
            "Worker", "State", "Calls", "Held USD", "Unspent USD", "To ship", "Behind",
            "Settled", "Refused", "Estimated", "Beyond", "Set aside",
        ),
        *(
            (
                f"{w.node} {w.pid}", "alive" if w.alive else "dead", f"{w.calls_open:,}",
                format_usd(w.held_nano_usd), format_usd(w.leases_unspent_nano_usd),
                f"{w.journal_unshipped_bytes:,}", _seconds(w.ship_lag_ms), f"{w.calls_settled:,}",
                f"{w.refused:,}", f"{w.estimated:,}", f"{w.bound_exceeded:,}", f"{w.set_aside:,}",
            )
            for w in workers
        ),
    ]  # fmt: skip
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)  # noqa: PLR2004  Texts, then numbers.
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
