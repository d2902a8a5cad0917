"""How far the database is behind a journal: what its files say, and what its worker reports."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from billing.engine.backlog import Backlog, backlog, end_offset
from billing.engine.journal import Journal, segments
from billing.engine.records import HEADER, Opened, Settled, frame
from tests.billing.engine.support import (
    DONE,
    Bank,
    call_of,
    request,
    running,
    settings_for,
    spend,
)

SMALL = 8 * 1024
OPENED_AT, SETTLED_AT = 1_000.5, 2_000.5


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.create(root=tmp_path, worker_id=uuid4(), segment_bytes=SMALL)
    yield journal
    journal.close()


def opened() -> bytes:
    call = msgspec.structs.replace(call_of(1), opened_at=OPENED_AT)
    return frame(Opened(call=call, lease_id=uuid4(), hold_nano_usd=5))


def settled() -> bytes:
    return frame(
        Settled(
            call=call_of(1),
            lease_id=uuid4(),
            hold_nano_usd=5,
            charge_nano_usd=4,
            outcome=DONE,
            settled_at=SETTLED_AT,
        )
    )


def test_the_oldest_record_that_waits_tells_since_when(journal: Journal) -> None:
    assert backlog(journal.directory, shipped=0) == Backlog(0, None)
    middle = journal.append(opened())
    end = journal.append(settled())
    assert backlog(journal.directory, shipped=0) == Backlog(end, OPENED_AT)
    assert backlog(journal.directory, shipped=middle) == Backlog(end - middle, SETTLED_AT)
    assert backlog(journal.directory, shipped=end) == Backlog(0, None)


def test_segments_that_were_shipped_and_deleted_are_not_missed(journal: Journal) -> None:
    ends = [journal.append(settled()) for _ in range(120)]
    assert len(segments(journal.directory)) > 2
    journal.delete_behind(ends[100])
    assert backlog(journal.directory, shipped=ends[100]) == Backlog(
        ends[-1] - ends[100], SETTLED_AT
    )


@pytest.mark.parametrize(
    "tail",
    [settled()[:40], HEADER.pack(2**31, 0), os.urandom(3)],
    ids=["half a record", "a length beyond all", "noise"],
)
def test_a_torn_tail_does_not_wait(journal: Journal, tail: bytes) -> None:
    end = journal.append(settled())
    # Cut, as after a kill: nothing was preallocated behind it.
    (_, path), *_ = segments(journal.directory)
    os.truncate(path, end)
    with path.open("ab") as file:
        file.write(tail)
    assert end_offset(journal.directory) == end


def test_nothing_waits_in_a_journal_without_segments(tmp_path: Path) -> None:
    assert backlog(tmp_path, shipped=7) == Backlog(0, None)


async def test_a_worker_reports_how_far_it_is_behind(
    fresh_database_url: str, tmp_path: Path
) -> None:
    bank = Bank(fresh_database_url)
    organization = bank.organization(10_000)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        (worker,) = engine._workers
        hold = await engine.hold_open(request(organization, 100))
        with bank.connection.transaction():  # Whoever ships waits for this.
            bank.connection.execute("SELECT 1 FROM billing_worker FOR UPDATE")
            an_hour_ago = msgspec.structs.replace(
                call_of(organization), opened_at=time.time() - 3_600
            )
            engine.call_opened(hold, an_hour_ago)
            engine.call_settle(hold, DONE, 70)
            behind = worker.report()
            assert behind["journal_bytes_unshipped"] == behind["journal_bytes"] > 0
            assert behind["ship_lag_ms"] >= 3_600_000
        assert await spend(engine, organization, 100, 10) == 10
    row = bank.row("SELECT state, report FROM billing_worker")
    assert row[0] == "complete"
    report = row[1]
    assert isinstance(report, dict)
    # The last word of a worker that stopped, not what it said a heartbeat before.
    assert report["calls_settled"] == 2
    assert (report["journal_bytes_unshipped"], report["ship_lag_ms"]) == (0, 0)
    bank.connection.close()
