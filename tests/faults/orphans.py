"""Workers whose node is gone: nobody will replay their journals, only time frees their money."""

from pathlib import Path
from uuid import UUID

from tests.billing.engine.faulty import Faults, FaultyEngine
from tests.billing.engine.support import Bank, settings_for, spend
from tests.faults.product import until


async def orphan(bank: Bank, folder: Path, organization: int, *, hold: int, cost: int) -> UUID:
    """The worker of a node that vanished after one call, which was recorded. Its lease is open."""
    engine = FaultyEngine(settings_for(bank.url, folder), Faults())
    await engine.start()
    before = bank.charged(organization)
    assert await spend(engine, organization, hold, cost) == cost
    await until(lambda: bank.charged(organization) == before + cost, "the record")
    (worker,) = engine.serving()
    await engine.die()
    return worker


def state(bank: Bank, worker: UUID) -> object:
    return bank.row("SELECT state FROM billing_worker WHERE id = %s", worker)[0]


def closings(bank: Bank) -> int:
    """How often money of a lease went back because the lease ended."""
    return bank.number(
        "SELECT count(DISTINCT posting) FROM billing_ledgerentry WHERE reason = 'lease_close'"
    )
