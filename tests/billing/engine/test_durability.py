"""What a reply waits for, as the operator chose it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from billing.engine import Durability, JournalFailed, MoneyEngine
from tests.billing.engine.support import (
    DONE,
    Bank,
    call_of,
    request,
    running,
    settings_for,
    settle,
)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    bank.connection.close()


async def settled_and_kept(engine: MoneyEngine, organization: int) -> None:
    hold = await engine.hold_open(request(organization, 100))
    engine.call_opened(hold, call_of(organization))
    engine.call_settle(hold, DONE, 10)
    await engine.kept(hold)


async def test_a_kept_record_is_in_the_database(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(10_000)
    settings = replace(settings_for(bank.url, tmp_path / "j"), durability=Durability.DATABASE)
    async with running(settings) as engine:
        for charged in (10, 20, 30):
            await settled_and_kept(engine, organization)
            assert bank.charged(organization) == charged


async def test_many_replies_share_one_sync(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    syncs = 0
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    organization = bank.organization(1_000_000)
    settings = replace(settings_for(bank.url, tmp_path / "j"), durability=Durability.SYNCED)
    async with running(settings) as engine:
        holds = [await engine.hold_open(request(organization, 100)) for _ in range(200)]
        before = syncs
        for hold in holds:
            settle(engine, hold, 10)
        await asyncio.gather(*(engine.kept(hold) for hold in holds))
        # One may have been under way; the next is for all of them.
        assert before < syncs <= before + 2


async def test_a_record_that_cannot_be_synced_cuts_the_reply(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    organization = bank.organization(10_000)
    settings = replace(settings_for(bank.url, tmp_path / "j"), durability=Durability.SYNCED)
    async with running(settings) as engine:
        await settled_and_kept(engine, organization)

        def failing(descriptor: int) -> None:
            raise OSError("the disk is gone")

        monkeypatch.setattr(os, "fdatasync", failing)
        with pytest.raises(JournalFailed):
            await settled_and_kept(engine, organization)
        monkeypatch.undo()
    assert bank.charged(organization) == 20
    assert bank.findings() == []


async def test_by_default_nobody_waits(bank: Bank, tmp_path: Path) -> None:
    organization = bank.organization(10_000)
    async with running(settings_for(bank.url, tmp_path / "j")) as engine:
        hold = await engine.hold_open(request(organization, 100))
        engine.call_opened(hold, call_of(organization))
        engine.call_settle(hold, DONE, 10)
        assert hold.kept is None
