"""Spend limits among real processes: at ten times the limit, and when one is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from billing.engine import SpendLimitReached
from tests.billing.engine.support import Bank, bounded_by, running, settings_for, spend
from tests.faults.product import ROOT, until

WORKERS = 8
COST = 100
CALLS = 40  # As many as the limit allows.


def start(bank: Bank, journals: Path, *numbers: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.limit_spender", bank.url, str(journals)]
        + [str(number) for number in numbers],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def go(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


async def test_eight_workers_at_ten_times_the_limit_one_of_them_killed(
    bank: Bank, tmp_path: Path
) -> None:
    """Never more than the limit, and in the end all of it: also what the dead one had held."""
    organization = bank.organization(10**9)
    limit = bank.limit(organization, CALLS * COST)
    journals = tmp_path / "journals"
    settings = settings_for(bank.url, journals)
    tries = [0] + [10 * CALLS // WORKERS] * (WORKERS - 1)
    workers = [start(bank, journals, organization, limit.id, COST, each) for each in tries]
    try:
        assert [line(worker) for worker in workers] == ["ready"] * WORKERS
        victim, *others = workers
        go(victim)
        settled_by_victim = int(line(victim))
        for worker in others:
            go(worker)
        victim.kill()
        served = settled_by_victim + sum(int(line(worker)) for worker in others)
        assert served <= CALLS
        for worker in others:
            worker.communicate("go\n", timeout=60)
            assert not worker.returncode
    finally:
        for worker in workers:
            with worker:
                worker.kill()
    async with running(settings) as last:
        limits = bounded_by(organization, limit)
        for _ in range(CALLS - served):
            await spend(last, organization, COST, COST, limits)
        with pytest.raises(SpendLimitReached):
            await spend(last, organization, COST, COST, limits)
    await until(lambda: bank.window(limit) == (0, CALLS * COST, 0), "the last records")
    assert bank.spent_of(limit) == CALLS * COST
    assert bank.findings() == []
