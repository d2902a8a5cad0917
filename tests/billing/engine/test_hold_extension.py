"""A standard hold that follows its call: more is set aside while it runs, and nothing waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from billing.engine import Hold, MoneyEngine
from tests.billing.engine.support import (
    QUICK,
    Bank,
    request,
    running,
    settings_for,
    settle,
    spend,
)

# What is refused once is refused for the whole test, and who waits is not given up.
TIMING = replace(
    QUICK, max_call=30.0, refusal_memory=60.0, recall_wait=20.0, timeout=20.0, grace=21.0
)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    bank.connection.close()


@pytest.fixture
async def engine(bank: Bank, tmp_path: Path) -> AsyncIterator[MoneyEngine]:
    async with running(settings_for(bank.url, tmp_path / "journals", timing=TIMING)) as engine:
        yield engine
    assert bank.findings() == []
    assert bank.open_leases() == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def is_busy(engine: MoneyEngine) -> bool:
    return any(worker.book.busy() for worker in engine._workers)


async def quiet(engine: MoneyEngine) -> None:
    """No operation on a lease is in flight any more."""
    await until(lambda: not is_busy(engine))


async def opened(engine: MoneyEngine, organization: int, amount: int) -> Hold:
    hold = await engine.hold_open(request(organization, amount))
    await quiet(engine)
    return hold


async def test_what_the_lease_has_is_taken_at_once(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(1_000_000, strict=False)
    hold = await opened(engine, organization, 1_000)
    lease = hold.lease
    version, free = lease.version, lease.free
    assert free >= 500
    assert engine.hold_extend(hold, 500) == 500
    assert hold.amount_nano_usd == lease.held == 1_500
    assert lease.free == free - 500
    # No statement was needed.
    assert not is_busy(engine)
    assert lease.version == version
    assert settle(engine, hold, 1_400) == 1_400
    assert lease.held == 0
    assert engine._workers[-1].bound_exceeded == 0


async def test_what_the_lease_lacks_comes_in_the_background(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(1_000_000, strict=False)
    hold = await opened(engine, organization, 1_000)
    free = hold.lease.free
    assert engine.hold_extend(hold, free + 50_000) == free
    assert is_busy(engine)
    await quiet(engine)
    assert engine.hold_extend(hold, 50_000) == 50_000
    assert hold.amount_nano_usd == 1_000 + free + 50_000
    assert settle(engine, hold, hold.amount_nano_usd) == 1_000 + free + 50_000


async def test_an_empty_wallet_is_asked_once_and_nobody_is_recalled(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(1_000, strict=False)
    hold = await opened(engine, organization, 1_000)
    version = hold.lease.version
    assert engine.hold_extend(hold, 500) == 0
    assert is_busy(engine)
    await quiet(engine)
    assert hold.lease.version == version
    assert engine.hold_extend(hold, 500) == 0
    assert not is_busy(engine)
    assert bank.row(
        "SELECT short_at FROM billing_wallet WHERE organization_id = %s", organization
    ) == (None,)
    # The call itself goes on, and is charged in full.
    assert settle(engine, hold, 1_300) == 1_300
    await until(lambda: bank.charged(organization) == 1_300)


async def test_calls_that_wait_to_begin_come_first(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(10_000, strict=False)
    first = await opened(engine, organization, 6_000)
    # What the first one leaves is not enough, so the second waits for its end.
    waiting = asyncio.ensure_future(engine.hold_open(request(organization, 7_000)))
    await until(lambda: bool(engine._workers[-1].book.accounts[organization].waiting))
    assert engine.hold_extend(first, 1_000) == 0
    assert settle(engine, first, 100) == 100
    second = await waiting
    assert second.amount_nano_usd == 7_000
    assert settle(engine, second, 100) == 100


async def test_a_drained_lease_extends_by_what_it_still_has(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(1_000_000, strict=False)
    hold = await opened(engine, organization, 1_000)
    lease, free = hold.lease, hold.lease.free
    engine._workers[-1].book._drain(lease)
    assert engine.hold_extend(hold, free + 1) == free
    # It takes no new money in.
    assert not is_busy(engine)
    assert settle(engine, hold, 1_000) == 1_000
    assert await spend(engine, organization, 100, 10) == 10


async def test_a_strict_hold_is_final(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(1_000_000)
    hold = await opened(engine, organization, 1_000)
    with pytest.raises(AssertionError, match="strict"):
        engine.hold_extend(hold, 1)
    engine.hold_release(hold)


async def test_an_ended_hold_is_not_extended(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(1_000_000, strict=False)
    hold = await opened(engine, organization, 1_000)
    assert settle(engine, hold, 10) == 10
    with pytest.raises(AssertionError, match="ended"):
        engine._workers[-1].hold_extend(hold, 1)
