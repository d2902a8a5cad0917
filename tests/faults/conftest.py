import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.billing.engine.support import Bank
from tests.faults.books import check_books_afterwards
from tests.faults.customers import MODEL, Customer, Customers, customers_create
from tests.faults.product import Product
from tests.faults.upstream import UPSTREAM_PORT
from tests.folders import temporary_folder
from tests.redis_server import redis_server

__all__ = ["redis_server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A data directory after its first run, and the customers that are in it."""

    data: Path
    customers: Customers


class Launch(Protocol):
    def __call__(self, **environment: str) -> Awaitable[Product]: ...


def run_alone(work: Coroutine[Any, Any, Any]) -> None:
    """On a loop of its own, where the tests' loop is not disturbed."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@contextmanager
def copied(made: Made) -> Iterator[Path]:
    """A copy of the data directory."""
    with temporary_folder() as folder:
        subprocess.run(["cp", "-a", made.data, folder / "var"], check=True)
        yield folder / "var"


@pytest.fixture(scope="session")
def made() -> Iterator[Made]:
    with temporary_folder() as folder:
        product = Product(folder / "var")
        try:
            run_alone(product.start())
            customers = customers_create(product)
            run_alone(product.stop())
        finally:
            run_alone(product.kill_everything())
        yield Made(data=folder / "var", customers=customers)


@pytest.fixture(scope="session")
def product(made: Made) -> Iterator[Product]:
    """One product for many tests, whose calls go to the scripted upstream first."""
    with copied(made) as data:
        product = Product(data, SCRIPTED_KEY="sk-scripted")
        try:
            run_alone(product.start())
            url = f"http://127.0.0.1:{UPSTREAM_PORT}/v1"
            product.manage(
                "channel_add",
                "scripted",
                "--base-url",
                url,
                "--key-env",
                "SCRIPTED_KEY",
                "--models",
                MODEL,
            )
            yield product
            run_alone(product.stop())
            check_books_afterwards(product, [])
            assert product.alarms() == []
        finally:
            run_alone(product.kill_everything())


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    bank.connection.close()


@pytest.fixture
def customers(made: Made) -> Customers:
    return made.customers


@pytest.fixture
def payers(customers: Customers) -> list[Customer]:
    """Those whose calls make up the load."""
    return [customers["standard"], customers["strict"], customers["standard"], customers["poor"]]


@pytest.fixture
async def launch(made: Made) -> AsyncIterator[Launch]:
    """Starts products on copies of the data directory; nothing of them outlives the test."""
    products: list[Product] = []
    with ExitStack() as stack:

        async def start(**environment: str) -> Product:
            products.append(Product(stack.enter_context(copied(made)), **environment))
            await products[-1].start()
            return products[-1]

        try:
            yield start
        finally:
            for product in products:
                await product.kill_everything()
