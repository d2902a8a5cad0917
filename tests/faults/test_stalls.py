"""A worker stands still for longer than its leases live, and comes back."""

import asyncio
import time
from itertools import chain
from uuid import UUID

import psutil

from billing.engine.records import Settled
from tests.billing.engine.support import Bank
from tests.faults.books import check_books, check_books_afterwards, records
from tests.faults.conftest import Launch
from tests.faults.customers import Customers
from tests.faults.journals import journal_records
from tests.faults.load import Load, callers
from tests.faults.product import Product, until
from tests.faults.scenes import both, incarnations, of_worker

# A worker expires 4 s after its last renewal, and counts as lost 3.5 s later.
SHORT = {
    "LEASE_TTL_SECONDS": "4",
    "LEASE_HEARTBEAT_SECONDS": "0.5",
    "MAX_CALL_SECONDS": "1.5",
}
CALLERS = 16
UNSHIPPED = 3


def state(bank: Bank, worker: UUID) -> object:
    return bank.row("SELECT state FROM billing_worker WHERE id = %s", worker)[0]


def late_settlements(bank: Bank) -> tuple[int, int]:
    """What the wallets paid of them, and what was written off because they had no more."""
    paid, written_off = bank.row(
        "SELECT coalesce(-sum(amount_nano_usd) FILTER (WHERE account = 'wallet'), 0)::bigint,"
        " coalesce(-sum(amount_nano_usd) FILTER (WHERE account = 'write_off'), 0)::bigint"
        " FROM billing_ledgerentry WHERE reason = 'late_settlement'"
    )
    assert isinstance(paid, int)
    assert isinstance(written_off, int)
    return paid, written_off


def unshipped(product: Product, bank: Bank, worker: UUID, organization: str) -> set[UUID]:
    """The organization's calls that are settled in the worker's journal, and nowhere else."""
    query = "SELECT id FROM accounts_organization WHERE slug = %s"
    organization_id = bank.number(query, organization)
    settled = {
        record.call.request_id
        for record in journal_records(product, worker)
        if isinstance(record, Settled) and record.call.organization_id == organization_id
    }
    return settled - {record.request_id for record in records(bank)}


async def stall_before_shipping(
    product: Product, victim: psutil.Process, organization: str
) -> set[UUID]:
    """Stop the worker at an instant when its journal is ahead of the database."""
    (worker,) = incarnations(product, victim)
    with product.bank() as bank:
        async with asyncio.timeout(30):
            while True:
                victim.suspend()
                await until(lambda: victim.status() == psutil.STATUS_STOPPED, "a halt")
                if len(unshipped(product, bank, worker, organization)) >= UNSHIPPED:
                    break
                victim.resume()
                await asyncio.sleep(0.03)
        # What it may have begun would keep its locks, until the server's patience ends.
        bank.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tollgate-engine' AND state = 'idle in transaction'"
        )
        return unshipped(product, bank, worker, organization)


async def test_a_worker_stalls_until_it_counts_as_lost(
    launch: Launch, customers: Customers
) -> None:
    product = await launch(**SHORT)
    standard, modest = customers["standard"], customers["modest"]
    async with both(product) as groups, Load([*chain(*groups)], [standard, modest]) as load:
        await load.complete(20)
        victim, _ = product.workers()
        late = await stall_before_shipping(product, victim, modest.organization)
        (worker,) = incarnations(product, victim)
        async with Load(callers(product.port, CALLERS), [modest]) as second:
            with product.bank() as bank:
                await until(lambda: state(bank, worker) == "expired", "the worker's expiry")
                assert bank.findings() == []
                await until(lambda: state(bank, worker) == "lost", "its loss")
            lost_at = time.monotonic()
            # Its money went back, and somebody else spends all of it.
            await until(
                lambda: "429" in {reply.code for reply in second.since(lost_at)}, "empty pockets"
            )
        victim.resume()
        await load.complete(50)
        with product.bank() as bank:
            await until(lambda: state(bank, worker) == "complete", "its end")
            paid, written_off = late_settlements(bank)
        assert len(incarnations(product, victim)) == 2
    replies = [*load.replies, *second.replies]
    found = {r.request_id: r for r in of_worker(await check_books(product, replies), worker)}
    print(f"{load.codes}, {second.codes}; late: {paid} paid, {written_off} written off.")
    assert paid + written_off >= sum(found[request_id].charge for request_id in late) > 0
    assert written_off > 0
    assert {record.outcome for record in found.values()} <= {"completed", "expired"}
    assert all("declared lost" in alarm for alarm in product.alarms())
    await product.stop()
    check_books_afterwards(product, replies)
