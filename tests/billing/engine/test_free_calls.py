"""Calls that cost nothing: they need no money, but their records need a lease like all others."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from billing.engine import InsufficientQuota
from tests.billing.engine.support import (
    DONE,
    Bank,
    call_of,
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


def state_of(bank: Bank, lease_id: UUID) -> str:
    (state,) = bank.row("SELECT state FROM billing_lease WHERE id = %s", lease_id)
    return str(state)


async def test_a_free_call_is_served_on_an_empty_wallet(bank: Bank, tmp_path: Path) -> None:
    settings = settings_for(bank.url, tmp_path / "journals")
    organization = bank.organization(0)
    async with running(settings) as engine:
        hold = await engine.hold_open(request(organization, 0))
        assert state_of(bank, hold.lease.id) == "open"
        assert settle(engine, hold, 0) == 0
        with pytest.raises(InsufficientQuota):
            await engine.hold_open(request(organization, 1))
        assert await spend(engine, organization, 0, 0) == 0  # Also just after a refusal.
    assert bank.number("SELECT count(*) FROM billing_usagerecord") == 2
    assert state_of(bank, hold.lease.id) == "closed"
    assert not bank.findings()


async def test_a_free_call_is_served_while_money_is_owed(bank: Bank, tmp_path: Path) -> None:
    settings = settings_for(bank.url, tmp_path / "journals")
    organization = bank.organization(100, strict=False)
    async with running(settings) as engine:
        assert await spend(engine, organization, 100, 700) == 700
    assert bank.balance(organization) == -600
    async with running(settings) as engine:
        assert await spend(engine, organization, 0, 0) == 0
        with pytest.raises(InsufficientQuota):
            await engine.hold_open(request(organization, 1))
    assert bank.balance(organization) == -600
    assert not bank.findings()


async def test_a_stop_waits_for_a_free_call_too(bank: Bank, tmp_path: Path) -> None:
    settings = settings_for(bank.url, tmp_path / "journals")
    organization = bank.organization(0)
    async with running(settings) as engine:
        hold = await engine.hold_open(request(organization, 0))
        engine.call_opened(hold, call_of(organization))
        stopping = asyncio.create_task(engine.stop(10.0))
        while engine.problems() != ["stopping"]:
            await asyncio.sleep(0)
        engine.call_settle(hold, DONE, 0)
        await stopping
        assert bank.number("SELECT count(*) FROM billing_usagerecord WHERE outcome = 'lost'") == 0
        assert bank.number("SELECT count(*) FROM billing_usagerecord") == 1
    assert state_of(bank, hold.lease.id) == "closed"
    assert not bank.findings()
