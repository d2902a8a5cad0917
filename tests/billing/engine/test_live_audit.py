"""The audit, while the books that it reads are being written."""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from billing.engine import EngineUnavailable, MoneyEngine, Timing
from tests.billing.engine.support import Bank, running, settings_for, spend
from tests.commands import manage

# Ships often, and has patience with a machine that others use as well.
TIMING = Timing(ship=0.02, timeout=10.0, grace=20.0, idle=0.5)
AUDITS = 3
SPENDERS = 6


async def spend_on(engine: MoneyEngine, organization: int, dice: random.Random) -> None:
    """Calls of all sizes: leases grow, shrink, are exceeded and recalled."""
    while True:
        hold = dice.choice([10, 200, 5_000])
        with suppress(EngineUnavailable):
            await spend(engine, organization, hold, dice.randint(0, hold + hold // 5))
        await asyncio.sleep(0.001)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    bank.connection.close()


async def test_the_audit_is_right_while_records_ship(bank: Bank, tmp_path: Path) -> None:
    customers = [bank.organization(10**12, strict=strict) for strict in (True, False)]
    first, second = (settings_for(bank.url, tmp_path / name, timing=TIMING) for name in ("a", "b"))
    async with running(first) as one, running(second) as other:
        calls = [
            asyncio.create_task(
                spend_on(
                    (one, other)[number % 2], customers[number // 2 % 2], random.Random(number)
                )
            )
            for number in range(SPENDERS)
        ]
        try:
            for _ in range(AUDITS):
                before = records(bank)
                done = await asyncio.to_thread(manage, "audit", "--json", DATABASE_URL=bank.url)
                assert json.loads(done.stdout) == {"ok": True, "findings": []}, done.stderr
                assert records(bank) > before, "nothing was shipped meanwhile"
            assert not any(call.done() for call in calls), "a caller has failed"
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    # It does see what is wrong.
    bank.connection.execute("UPDATE billing_wallet SET balance_nano_usd = balance_nano_usd + 1")
    broken = manage("audit", DATABASE_URL=bank.url)
    assert broken.returncode == 1
    assert broken.stdout.count("BROKEN: a wallet's balance is the sum of its entries") == 2


def records(bank: Bank) -> int:
    return bank.number("SELECT count(*) FROM billing_usagerecord")
