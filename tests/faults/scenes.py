"""Situations that several faults need: connections to each worker, PostgreSQL away or silent."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from uuid import UUID

import psutil
import psycopg

from tests.faults.books import Record
from tests.faults.customers import Customer
from tests.faults.http_client import Connection
from tests.faults.load import Reply, Wish, call
from tests.faults.product import Product, kill, until

CONNECTIONS = 8


@asynccontextmanager
async def both(product: Product) -> AsyncIterator[list[list[Connection]]]:
    """Connections to each worker: which one accepts is chance, so the other stands still."""
    one, other = product.workers()
    groups = [await _connections_past(other, product), await _connections_past(one, product)]
    yield groups
    for connection in chain(*groups):
        await connection.close()


async def _connections_past(halted: psutil.Process, product: Product) -> list[Connection]:
    connections = [Connection(product.port) for _ in range(CONNECTIONS)]
    halted.suspend()
    await until(lambda: halted.status() == psutil.STATUS_STOPPED, "a halt")
    for connection in connections:
        assert (await connection.get("/healthz")).status == 200
    halted.resume()
    return connections


@asynccontextmanager
async def away(product: Product) -> AsyncIterator[None]:
    """PostgreSQL is killed, and nobody is there to start it again."""
    supervisor = product.supervisor
    kill([supervisor], signal.SIGSTOP)
    kill(product.postgres())
    try:
        yield
    finally:
        kill([supervisor], signal.SIGCONT)


@asynccontextmanager
async def still(product: Product) -> AsyncIterator[None]:
    """PostgreSQL takes connections and answers nothing."""
    processes = product.postgres()
    kill(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(processes, signal.SIGCONT)


async def warmed_up(groups: list[list[Connection]], payer: Customer, idle: Customer) -> list[Reply]:
    """Each worker gets a lease for the one, and knows the key of the other."""
    replies = []
    for _ in range(3):
        calls = [call(connection, payer, Wish()) for connection in chain(*groups)]
        replies += await asyncio.gather(*calls)
    for first, *_ in groups:
        assert (await first.get("/v1/models", idle.api_key)).status == 200
    return replies


async def served_from_leases(connections: list[Connection], customer: Customer) -> list[Reply]:
    """Calls one after the other, on each worker: all of them succeed."""
    replies = []
    for _ in range(10):
        for connection in connections:
            replies.append(await call(connection, customer, Wish(stream=True)))
            assert replies[-1].is_complete, [(r.code, r.seconds) for r in replies]
    return replies


def incarnations(product: Product, process: psutil.Process) -> list[UUID]:
    """The workers, in the engine's sense, that this process has been."""
    with product.bank() as bank:
        rows = bank.connection.execute(
            "SELECT id FROM billing_worker WHERE pid = %s ORDER BY id", [process.pid]
        ).fetchall()
    return [row[0] for row in rows]


def answers(product: Product) -> bool:
    """Whether PostgreSQL runs and takes connections."""
    try:
        with product.bank():
            return True
    except psycopg.OperationalError:
        return False


async def serving(product: Product) -> None:
    await until(
        lambda: [bool(incarnations(product, w)) for w in product.workers()] == [True, True],
        "two workers that serve",
    )


def of_worker(records: list[Record], worker: UUID) -> list[Record]:
    return [record for record in records if record.worker == worker]
