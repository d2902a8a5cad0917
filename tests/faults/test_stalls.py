"""A worker stands still for longer than its leases live, and comes back."""

import time
from uuid import UUID

import psutil

from billing.engine.records import Settled
from tests.billing.engine.support import Bank
from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customers
from tests.faults.journals import journal_records
from tests.faults.load import Load
from tests.faults.product import Product, until
from tests.faults.scenes import incarnations, of_worker

# A worker expires 4 s after its last renewal, and counts as lost 3.5 s later.
SHORT = {
    "LEASE_TTL_SECONDS": "4",
    "LEASE_HEARTBEAT_SECONDS": "0.5",
    "MAX_CALL_SECONDS": "1.5",
}
CALLERS = 16
UNSHIPPED = 8


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


def settled_calls(product: Product, worker: UUID, organization_id: int) -> set[UUID]:
    return {
        record.call.request_id
        for record in journal_records(product, worker)
        if isinstance(record, Settled) and record.call.organization_id == organization_id
    }


async def stall_before_shipping(
    product: Product, victim: psutil.Process, organization: str
) -> set[UUID]:
    """Stop the worker when its journal has settled calls that the database has not heard of."""
    (worker,) = incarnations(product, victim)
    with product.bank() as bank:
        organization_id = bank.number(
            "SELECT id FROM accounts_organization WHERE slug = %s", organization
        )
        with bank.connection.transaction():
            bank.connection.execute(
                "SELECT 1 FROM billing_worker WHERE id = %s FOR UPDATE", [worker]
            )
            before = settled_calls(product, worker, organization_id)
            await until(
                lambda: len(settled_calls(product, worker, organization_id) - before) >= UNSHIPPED,
                "calls that are settled and not shipped",
            )
            victim.suspend()
            # Else they would get the lock, and keep it for as long as their client stands still.
            bank.connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'tollgate-engine' AND wait_event_type = 'Lock'"
            )
        return settled_calls(product, worker, organization_id) - before


async def test_a_worker_stalls_until_it_counts_as_lost(
    launch: Launch, customers: Customers
) -> None:
    product = await launch(**SHORT)
    standard, modest = customers["standard"], customers["modest"]
    async with Load(product.port, [standard, modest], callers=CALLERS) as load:
        await load.complete(20)
        victim, _ = product.workers()
        late = await stall_before_shipping(product, victim, modest.organization)
        (worker,) = incarnations(product, victim)
        async with Load(product.port, [modest], callers=CALLERS) as second:
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
    records = {r.request_id: r for r in of_worker(await check_books(product, replies), worker)}
    print(f"{load.codes}, {second.codes}; late: {paid} paid, {written_off} written off.")
    assert paid + written_off >= sum(records[request_id].charge for request_id in late)
    assert written_off > 0
    assert {record.outcome for record in records.values()} <= {"completed", "expired"}
    assert all("declared lost" in alarm for alarm in product.alarms())
    await product.stop()
    check_books_afterwards(product, replies)
