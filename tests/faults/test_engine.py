"""Faults that need the engine alone, and its connections in our hands."""

import asyncio
from pathlib import Path

import pytest

from billing.engine import EngineUnavailable
from tests.billing.engine.support import Bank, request, running, settings_for, spend

ENGINE_CONNECTIONS = 2


def sessions(bank: Bank) -> int:
    return bank.number(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'tollgate-engine' AND datname = current_database()"
    )


async def test_a_lock_that_lasts_does_not_pile_up_sessions(
    fresh_database_url: str, tmp_path: Path
) -> None:
    bank = Bank(fresh_database_url)
    organization = bank.organization(1_000)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        with bank.connection.transaction():
            bank.connection.execute("SELECT 1 FROM billing_wallet FOR UPDATE")
            for _ in range(8):
                with pytest.raises(EngineUnavailable):
                    await engine.hold_open(request(organization, 100))
            async with asyncio.timeout(10):
                while sessions(bank) > 2 * ENGINE_CONNECTIONS:
                    await asyncio.sleep(0.05)
        assert await spend(engine, organization, 100, 70) == 70
    assert bank.findings() == []
    bank.connection.close()
