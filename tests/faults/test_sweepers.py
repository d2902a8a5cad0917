"""F8: a sweeper dies in the middle of its work, and many of them work at once."""

import asyncio
import sys
from pathlib import Path

from billing.engine.database import Database
from billing.engine.sweeper import DatabaseClock, sweep
from tests.billing.engine.support import QUICK, Bank, running, settings_for
from tests.faults.line import Line
from tests.faults.orphans import closings, orphan, state
from tests.faults.product import ROOT, until

GRANT, HOLD, COST = 1_000, 100, 70
ORPHANS, SWEEPERS = 3, 8
# The sweeper's last statement but one: the worker counts as lost, and its leases are being closed.
CLOSING = (b"'lost', was_lost = true", b"THEN 'closed' ELSE state")


def set_back(bank: Bank) -> None:
    """All workers have not renewed for a day."""
    bank.connection.execute("UPDATE billing_worker SET expires_at = now() - interval '1 day'")


async def killed_while_it_sweeps(bank: Bank, line: Line, journals: Path) -> None:
    journals.mkdir()
    line.hold_at(*CLOSING)
    arguments = (line.url, journals, bank.organization(0), HOLD, COST, 0)
    sweeper = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.spender", *map(str, arguments), cwd=ROOT
    )
    try:
        async with asyncio.timeout(30):
            await line.held.wait()
    finally:
        sweeper.kill()
        await sweeper.communicate()
    await line.cut()


async def test_f8_a_sweeper_is_killed_in_the_middle(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(GRANT)
    worker = await orphan(bank, tmp_path / "gone", organization, hold=HOLD, cost=COST)
    set_back(bank)
    async with Line(bank.url) as line:
        await killed_while_it_sweeps(bank, line, tmp_path / "killed")
    assert state(bank, worker) == "expired"  # Half of it was undone.
    assert bank.open_leases() == 1
    assert bank.findings(retain=1e6) == []
    async with running(settings_for(bank.url, tmp_path / "next")):
        await until(lambda: state(bank, worker) == "lost", "the next sweeper")
    assert closings(bank) == 1
    assert bank.open_leases() == 0
    assert bank.balance(organization) == GRANT - COST
    assert bank.charged(organization) == COST
    assert bank.findings() == []


async def test_f8_many_sweepers_end_each_orphan_once(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(GRANT)
    for number in range(ORPHANS):
        await orphan(bank, tmp_path / str(number), organization, hold=HOLD, cost=COST)
    set_back(bank)
    await until(lambda: server_is_old_enough(bank), "the grace after the server's start")
    databases = [Database(url=bank.url, timeout=30.0) for _ in range(SWEEPERS)]
    swept = 0
    # Whoever does not get the lock at once leaves the round to the one who has it.
    while swept < ORPHANS:
        rounds = [sweep(database, QUICK, DatabaseClock()) for database in databases]
        swept += sum(await asyncio.gather(*rounds))
    assert sum(await asyncio.gather(*(sweep(d, QUICK, DatabaseClock()) for d in databases))) == 0
    for database in databases:
        await database.close()
    assert swept == ORPHANS
    assert closings(bank) == ORPHANS
    assert bank.balance(organization) == GRANT - ORPHANS * COST
    assert bank.findings() == []


def server_is_old_enough(bank: Bank) -> bool:
    query = "SELECT clock_timestamp() - pg_postmaster_start_time() > make_interval(secs => %s)"
    return bank.row(query, QUICK.grace) == (True,)
