"""F14, F47: PostgreSQL comes back with other files than it had, under the whole product's load."""

import asyncio
import shutil
from itertools import chain
from pathlib import Path

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer
from tests.faults.load import Load
from tests.faults.product import Product, gone, kill, until
from tests.faults.scenes import away, both, still
from tests.folders import temporary_folder

# Workers that were dead already, which a backup does not know; they have nothing to give back.
RISEN = ("live", "expired", "lost")


def files(product: Product) -> Path:
    return product.directory.postgres / "data"


async def copy(source: Path, target: Path) -> None:
    process = await asyncio.create_subprocess_exec("cp", "-a", source, target)
    assert await process.wait() == 0


async def put_back(product: Product, backup: Path) -> None:
    """PostgreSQL dies, and is started on the files of the backup."""
    processes = product.postgres()
    async with away(product):
        await until(lambda: all(map(gone, processes)), "PostgreSQL's end")
        await asyncio.to_thread(shutil.rmtree, files(product))
        await copy(backup, files(product))


async def replaced(product: Product, journals: list[Path]) -> None:
    """Who wrote these journals has shipped them to their ends, and others serve."""
    await until(lambda: not {*journals} & {*product.journals()}, "the journals' end")
    await until(lambda: len(product.journals()) == 2, "two new journals")


def recorded(product: Product) -> int:
    with product.bank() as bank:
        return bank.number("SELECT count(*) FROM billing_usagerecord")


async def backed_up(product: Product, target: Path) -> None:
    """What a power cut would leave at this instant."""
    async with still(product):
        await copy(files(product), target)


async def test_f14_f47_postgres_returns_as_it_was_some_time_ago(
    launch: Launch, payers: list[Customer]
) -> None:
    """First as an old backup that knows none of the workers; then as a copy of seconds ago."""
    product = await launch()
    with temporary_folder() as folder:
        await backed_up(product, folder / "old")
        journals = product.journals()
        kill(product.workers())
        await replaced(product, journals)
        async with both(product) as groups, Load([*chain(*groups)], payers) as load:
            await load.complete(60)
            journals = product.journals()
            await put_back(product, folder / "old")
            await load.complete(60)
            await replaced(product, journals)
            await load.complete(60)
            journals = product.journals()
            await backed_up(product, folder / "copy")
            before = recorded(product)
            await load.complete(60)
            await until(lambda: recorded(product) >= before + 60, "what will be forgotten")
            await put_back(product, folder / "copy")
            await load.complete(60)
            await replaced(product, journals)
    print(load.codes)
    assert set(load.codes) <= {"complete", "429", "503"}
    await check_books(product, load.replies)
    forgotten = [alarm for alarm in product.alarms() if "has forgotten" in alarm]
    assert forgotten == product.alarms() != []
    await product.stop()
    check_books_afterwards(product, load.replies, states=frozenset({"complete", *RISEN}))
