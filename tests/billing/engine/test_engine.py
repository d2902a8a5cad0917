"""The engine against a real database: exact sums, no overdraft, nothing left behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from billing.engine import EngineUnavailable, Hold, InsufficientQuota, MoneyEngine
from billing.engine.records import MAX_RECORD_BYTES, RESERVED_BYTES
from tests.billing.engine.support import (
    QUICK,
    Bank,
    no_file_beyond,
    request,
    running,
    settings_for,
    settle,
    spend,
)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    bank.connection.close()


@pytest.fixture
async def engine(bank: Bank, tmp_path: Path) -> AsyncIterator[MoneyEngine]:
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        yield engine


async def until(condition: object) -> None:
    """Wait for a condition of the world, for at most ten seconds."""
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_call_is_charged_exactly_once(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(1_000_000)
    assert await spend(engine, organization, 1_000, 700) == 700
    await until(lambda: bank.charged(organization) == 700)
    assert bank.balance(organization) == 999_300
    assert bank.findings() == []


async def test_strict_holds_never_charge_more_than_was_held(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(1_000)
    assert await spend(engine, organization, 1_000, 5_000) == 1_000
    await until(lambda: bank.charged(organization) == 1_000)
    assert bank.balance(organization) == 0
    assert bank.findings() == []


async def test_standard_holds_charge_what_it_cost_and_owe_the_rest(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(1_000, strict=False)
    assert await spend(engine, organization, 1_000, 1) == 1  # Now the worker knows the policy.
    assert await spend(engine, organization, 900, 5_000) == 5_000
    await until(lambda: bank.charged(organization) == 5_001)
    assert bank.balance(organization) == -4_001
    assert bank.findings() == []
    with pytest.raises(InsufficientQuota):
        await spend(engine, organization, 10, 10)
    bank.grant(organization, 5_000)
    await until(lambda: bank.balance(organization) == 999)


async def test_an_empty_wallet_refuses_and_new_money_ends_the_refusal(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(50)
    with pytest.raises(InsufficientQuota):
        await spend(engine, organization, 100, 100)
    bank.grant(organization, 50)

    async def served() -> bool:
        try:
            return await spend(engine, organization, 100, 100) == 100
        except InsufficientQuota:
            return False

    async with asyncio.timeout(5):
        while not await served():
            await asyncio.sleep(0.01)


async def test_less_than_wanted_is_held_when_the_wallet_has_no_more(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(600)
    hold = await engine.hold_open(request(organization, 1_000, 500))
    assert hold.amount_nano_usd == 600
    assert settle(engine, hold, 100) == 100
    again = await engine.hold_open(request(organization, 1_000, 500))
    assert again.amount_nano_usd == 500
    engine.hold_release(again)


async def test_a_lone_call_gets_all_that_it_wants(engine: MoneyEngine, bank: Bank) -> None:
    """The quarter that an extension takes at most must not lower the cap of a payable call."""
    organization = bank.organization(1_000)
    hold = await engine.hold_open(request(organization, 900, 10))
    assert hold.amount_nano_usd == 900
    engine.hold_release(hold)


async def test_many_calls_on_money_for_ten(bank: Bank, tmp_path: Path) -> None:
    """Two hundred calls at once on two workers: ten pass, whoever holds the slices."""
    organization = bank.organization(1_000)
    # A busy machine may take long for so many; that is not what this test is about.
    patient = replace(QUICK, ttl=20.0, timeout=5.0, grace=6.0)
    settings = settings_for(bank.url, tmp_path / "journals", timing=patient)
    async with running(settings) as one, running(settings) as two:
        calls = [spend(one if i % 2 else two, organization, 100, 100) for i in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        passed = [r for r in results if r == 100]
        assert {type(r) for r in results if r != 100} == {InsufficientQuota}
        assert len(passed) == 10
        await until(lambda: bank.charged(organization) == 1_000)
        assert bank.findings() == []
    assert bank.balance(organization) == 0
    assert bank.open_leases() == 0
    assert bank.findings() == []


async def test_stopping_returns_everything(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(10_000)
    journals = tmp_path / "journals"
    async with running(settings_for(bank.url, journals)) as engine:
        await spend(engine, organization, 100, 30)
    assert bank.open_leases() == 0
    assert bank.balance(organization) == 9_970
    assert list(journals.iterdir()) == []
    assert bank.row("SELECT state FROM billing_worker") == ("complete",)
    assert bank.findings() == []


async def test_a_stopped_engine_opens_no_holds(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(10_000)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        await spend(engine, organization, 100, 30)
    with pytest.raises(EngineUnavailable):
        await spend(engine, organization, 100, 30)


async def test_idle_leases_go_back(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(10_000)
    settings = settings_for(bank.url, tmp_path / "journals", timing=replace(QUICK, idle=0.1))
    async with running(settings) as engine:
        await spend(engine, organization, 100, 30)
        await until(lambda: bank.open_leases() == 0)
        assert (
            bank.number(
                "SELECT balance_nano_usd FROM billing_wallet WHERE organization_id = %s",
                organization,
            )
            == 9_970
        )
        assert bank.findings() == []


async def test_recalled_money_reaches_the_worker_that_needs_it(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(1_000)
    settings = settings_for(bank.url, tmp_path / "journals")
    async with running(settings) as one, running(settings) as two:
        await spend(one, organization, 900, 0)  # Leaves 900 free in the first one's lease.
        assert await spend(two, organization, 1_000, 1_000) == 1_000
    assert bank.balance(organization) == 0
    assert bank.findings() == []


async def test_eight_workers_hold_slices_and_one_gets_them_all(bank: Bank, tmp_path: Path) -> None:
    """Money for one more call is found, whichever workers hold its parts."""
    organization = bank.organization(8_000)
    settings = settings_for(bank.url, tmp_path / "journals")
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(running(settings)) for _ in range(8)]
        for engine in engines:
            await spend(engine, organization, 100, 0)
        began = time.monotonic()
        assert await spend(engines[0], organization, 8_000, 8_000) == 8_000
        print(f"found in {1000 * (time.monotonic() - began):.0f} ms")
        with pytest.raises(InsufficientQuota):
            await spend(engines[1], organization, 1, 1)
    assert bank.balance(organization) == 0
    assert bank.findings() == []


async def test_a_full_disk_makes_the_worker_unready_and_loses_nothing(
    engine: MoneyEngine, bank: Bank
) -> None:
    organization = bank.organization(1_000_000)
    await spend(engine, organization, 10, 10)
    (worker,) = engine._workers
    room = worker.journal._segment_bytes - worker.journal.end
    holds: list[Hold] = []
    with no_file_beyond(worker.journal._segment_bytes - 1):
        while len(holds) < (room - MAX_RECORD_BYTES) // RESERVED_BYTES:
            holds.append(await engine.hold_open(request(organization, 10)))
        with pytest.raises(EngineUnavailable):
            await engine.hold_open(request(organization, 10))
        assert engine.problems() == ["the journal cannot grow: is the disk full?"]
        for hold in holds:  # Who was admitted is served and recorded.
            settle(engine, hold, 10)
    await until(lambda: engine.problems() == [])
    await until(lambda: bank.charged(organization) == 10 + 10 * len(holds))
    assert bank.findings() == []


async def test_a_read_only_database_delays_and_loses_nothing(
    engine: MoneyEngine, bank: Bank
) -> None:
    """As during a fail-over, or when its disk is full."""
    organization = bank.organization(1_000_000)
    await spend(engine, organization, 100, 10)
    await until(lambda: bank.charged(organization) == 10)
    (database,) = bank.row("SELECT current_database()")
    bank.connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    bank.drop_other_sessions()
    assert await spend(engine, organization, 100, 20) == 20  # From the lease that it has.
    other = bank.organization(1_000)  # This session is an older one.
    with pytest.raises(EngineUnavailable):
        await spend(engine, other, 100, 10)
    bank.connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    bank.drop_other_sessions()
    await until(lambda: bank.charged(organization) == 30)
    assert bank.number("SELECT count(*) FROM billing_setasiderecord") == 0
    assert bank.findings() == []


async def test_a_cancelled_wait_leaks_nothing(engine: MoneyEngine, bank: Bank) -> None:
    organization = bank.organization(10_000)
    for delay in (0, 0.001, 0.002, 0.004, 0.008):
        task = asyncio.ensure_future(engine.hold_open(request(organization, 100)))
        await asyncio.sleep(delay)
        if not task.cancel():
            engine.hold_release(task.result())
    await asyncio.gather(task, return_exceptions=True)
    assert await spend(engine, organization, 10_000, 10_000) == 10_000
