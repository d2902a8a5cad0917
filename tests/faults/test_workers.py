"""A worker dies under load; its sibling replays its journal, and the supervisor replaces it."""

from itertools import chain

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer
from tests.faults.load import Load
from tests.faults.product import kill, until
from tests.faults.scenes import both, incarnations, of_worker


async def test_a_killed_worker_is_replaced_and_its_journal_is_replayed(
    launch: Launch, payers: list[Customer]
) -> None:
    product = await launch()
    async with both(product) as groups, Load([*chain(*groups)], payers) as load:
        await load.complete(100)
        victim, sibling = product.workers()
        (dead,) = incarnations(product, victim)
        kill([victim])
        seconds = await until(
            lambda: [
                worker
                for worker in product.workers()
                if worker not in (victim, sibling) and incarnations(product, worker)
            ],
            "a new worker",
        )
        print(f"A killed worker was replaced within {seconds:.2f} s.")
        await until(lambda: str(dead) not in {path.name for path in product.journals()}, "a replay")
        await load.complete(100)
    records = await check_books(product, load.replies)
    of_dead = of_worker(records, dead)
    lost = [record for record in of_dead if record.outcome == "lost"]
    print(f"{load.codes}; of the dead worker {len(of_dead)} records, {len(lost)} lost.")
    assert lost, "no call was open when the worker died"
    assert len(of_dead) > len(lost)
    assert load.codes["broken"] >= len(lost)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, load.replies)
