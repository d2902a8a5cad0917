"""The counts that the workers of a node share, with real processes."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from relay.errors import RelayError
from relay.limits.limiter import RateLimits
from relay.limits.table import NodeTable, TableHeld
from relay.limits.window import Kind
from tests.relay.limits.support import answers, counter, start

WORKERS = 8

# Calls until its share of ten times the limit was tried; says how often it was let through.
CALLER = """
import sys
from pathlib import Path
from relay.limits.table import NodeTable
from relay.limits.window import Kind
from tests.relay.limits.support import counter
directory, kind, limit, calls = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
table = NodeTable(directory)
wants = [(counter(limit, Kind[kind]), 1), (counter(10 * limit, key=8), 1)]
sys.stdin.readline()
print(sum(table.take(wants)[0] for _ in range(calls)), flush=True)
sys.stdin.readline()
table.close()
"""


@pytest.mark.parametrize("kind", ["CALLS", "SLOTS"])
def test_eight_workers_at_ten_times_the_limit_get_exactly_the_limit(
    tmp_path: Path, kind: str
) -> None:
    limit = 400
    workers = [start(CALLER, tmp_path, kind, limit, 10 * limit // WORKERS) for _ in range(WORKERS)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    passed = []
    for worker in workers:
        assert worker.stdout is not None
        passed.append(int(worker.stdout.readline()))
    # The drift between the workers of a node is none, in either direction.
    assert sum(passed) == limit
    # Nothing was counted for those that were refused.
    table = NodeTable(tmp_path)
    _, (look,) = table.take([(counter(10 * limit, key=8), 0)])
    assert look.used == limit
    for worker in workers:
        worker.communicate("go\n", timeout=30)
        assert not worker.returncode
    # Calls at once are free when they have ended, calls of this minute are not.
    assert table.take([(counter(limit, Kind[kind]), 1)])[0] is (kind == "SLOTS")
    table.close()


def test_the_slots_of_a_killed_worker_come_back(tmp_path: Path) -> None:
    table, slots = NodeTable(tmp_path), counter(5, Kind.SLOTS)
    worker = start(CALLER, tmp_path, "SLOTS", 5, 5)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    assert worker.stdout.readline().strip() == "5"
    assert table.bury() == 0  # It lives.
    assert not table.take([(slots, 1)])[0]
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    assert table.bury() == 1
    assert table.bury() == 0
    assert table.take([(slots, 5)])[0]
    table.close()


def test_a_minute_outlives_the_workers(tmp_path: Path) -> None:
    calls = [(counter(3), 1)]
    for _ in range(3):
        table = NodeTable(tmp_path)
        assert table.take(calls)[0]
        table.close()
    table = NodeTable(tmp_path)
    assert not table.take(calls)[0]
    table.close()


def test_a_file_that_is_none_of_ours_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "counts-1").write_bytes(b"garbage" * 1000)
    table = NodeTable(tmp_path)
    assert table.take([(counter(1), 1)])[0]
    assert not table.take([(counter(1), 1)])[0]
    table.finish([], [(counter(1), -1)], taken_at=time.monotonic())
    assert table.take([(counter(1), 1)])[0]
    table.close()


def test_those_who_wait_for_nothing_end(tmp_path: Path) -> None:
    """Many workers begin and end at once, and each has a number of its own."""
    script = CALLER.replace("sys.stdin.readline()\n", "")
    said = answers([start(script, tmp_path, "SLOTS", 1000, 3) for _ in range(4)])
    assert said == ["3"] * 4
    table = NodeTable(tmp_path)
    assert (table.owner, table.bury()) == (0, 0)
    table.close()


# Takes the lock of the counts and stands still.
HOLDER = """
import fcntl, os, sys
from pathlib import Path
descriptor = os.open(Path(sys.argv[1]) / "counts-1", os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


def test_nobody_waits_for_a_process_that_stands_still_with_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.limits.table.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("relay.limits.table.PAUSE_SECONDS", 0)
    table = NodeTable(tmp_path)
    assert table.take([(counter(10), 3)])[0]
    holder = start(HOLDER, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TableHeld):
        table.take([(counter(10), 1)])
    with pytest.raises(TableHeld):
        NodeTable(tmp_path)
    holder.kill()
    holder.communicate(timeout=30)
    _, (look,) = table.take([(counter(10), 1)])
    assert look.used == 4
    table.close()


async def test_calls_go_on_uncounted_while_somebody_stands_still_with_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.limits.table.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("relay.limits.table.PAUSE_SECONDS", 0)
    monkeypatch.setattr("relay.limits.limiter.BURY_SECONDS", 0.05)
    limits = RateLimits(tmp_path, realm="test")
    limits.start()
    counted = await limits.slot("subject", "subject", limit=1)
    holder = start(HOLDER, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    for _ in range(3):
        (await limits.slot("subject", "subject", limit=1)).release()
    counted.release()
    holder.kill()
    holder.communicate(timeout=30)
    async with asyncio.timeout(30):
        while limits.running("subject"):
            await asyncio.sleep(0.01)
    again = await limits.slot("subject", "subject", limit=1)
    with pytest.raises(RelayError):
        await limits.slot("subject", "subject", limit=1)
    again.release()
    await limits.stop()
