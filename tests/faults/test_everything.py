"""All processes die at once under load, or the supervisor alone; a new start goes on from there."""

import time

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer, Customers
from tests.faults.http_client import Connection
from tests.faults.load import Load, Wish, call, callers
from tests.faults.product import Product, gone, kill, until

CALLERS = 24


def left_by_the_dead(product: Product) -> int:
    """Open leases of workers that do not run any more."""
    with product.bank() as bank:
        return bank.number(
            "SELECT count(*) FROM billing_lease l JOIN billing_worker w ON w.id = l.worker_id"
            " WHERE l.state = 'open' AND w.pid <> ALL(%s)",
            [worker.pid for worker in product.workers()],
        )


async def test_everything_is_killed_at_once(
    launch: Launch, payers: list[Customer], customers: Customers
) -> None:
    product = await launch()
    async with Load(callers(product.port, CALLERS), payers) as load:
        await load.complete(100)
        await product.kill_everything()
        journals = len(product.journals())
        killed_at = time.monotonic()
        seconds = await product.start()
        # Before it said that it is ready, nothing that the dead held may be held any more.
        assert left_by_the_dead(product) == 0
        assert len(product.journals()) == 2
        await load.complete(100)
        assert load.since(killed_at)
    print(f"After the death of everything it was ready within {seconds:.2f} s.")
    assert journals == 2
    # The key of before, and the data of before.
    async with Connection(product.port) as connection:
        reply = await call(connection, customers["standard"], Wish())
    assert reply.is_complete
    records = await check_books(product, [*load.replies, reply])
    lost = [record for record in records if record.outcome == "lost"]
    assert lost, "no call was open when everything died"
    print(f"{load.codes}; {len(records)} records, {len(lost)} lost.")
    answer = product.manage("audit")
    assert answer == {"ok": True, "findings": []}
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, [*load.replies, reply])


async def test_the_supervisor_is_killed_alone(launch: Launch, payers: list[Customer]) -> None:
    """Its children hear of it, end their calls, and give the port and the data to the next one."""
    product = await launch()
    async with Load(callers(product.port, CALLERS), payers) as load:
        await load.complete(100)
        orphans = [worker for worker in product.family() if worker != product.supervisor]
        kill([product.supervisor])
        await product.ended()
        seconds = await product.start()
        await load.complete(100)
    print(f"After the supervisor's death a new one was ready within {seconds:.2f} s.")
    postgres = product.postgres()
    await until(
        lambda: all(gone(orphan) for orphan in orphans if orphan not in postgres), "their end"
    )
    assert not [
        record for record in await check_books(product, load.replies) if record.outcome == "lost"
    ]
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, load.replies)
