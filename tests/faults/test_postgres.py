"""PostgreSQL dies, stays away, or stands still, while calls go on."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

import psutil

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer, Customers
from tests.faults.http_client import Answer, Connection
from tests.faults.load import Load, Reply, Wish, call
from tests.faults.product import Product, kill, until

CALLERS = 24
CONNECTIONS = 8
# A lease serves for 3.8 s after the last renewal.
SHORT = {"LEASE_TTL_SECONDS": "6", "LEASE_HEARTBEAT_SECONDS": "1"}
# What a call may wait for the database: 2 s; the rest is for a busy machine.
REFUSAL_SECONDS = 2.0
SLACK_SECONDS = 1.5
UNAVAILABLE = "503 service_unavailable"


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
    product.supervisor.send_signal(signal.SIGSTOP)
    kill(product.postgres())
    try:
        yield
    finally:
        product.supervisor.send_signal(signal.SIGCONT)


def error_of(answer: Answer) -> str:
    """Status and code of a refusal."""
    error = json.loads(answer.body)["error"]
    return f"{answer.status} {error['code']}"


async def problems(connection: Connection) -> list[str]:
    answer = await connection.get("/readyz")
    found: list[str] = json.loads(answer.body)["problems"]
    assert (answer.status == 200) == (not found)
    return found


async def served_from_leases(connections: list[Connection], customer: Customer) -> list[Reply]:
    """Calls one after the other, on each worker: all of them succeed."""
    replies = []
    for _ in range(10):
        for connection in connections:
            replies.append(await call(connection, customer, Wish(stream=True)))
            assert replies[-1].is_complete, [(r.code, r.seconds) for r in replies]
    return replies


async def refused_soon(connections: list[Connection], idle: Customer, unseen: Customer) -> None:
    """Who needs a new lease waits a little; whose key is not known here is not told it is bad."""
    calls = [
        call(connections[0], idle, Wish()),
        call(connections[1], unseen, Wish()),
    ]
    for reply in await asyncio.gather(*calls):
        print(f"{error_of(reply.answer)} for {reply.organization} after {reply.seconds:.2f} s.")
        assert error_of(reply.answer) == UNAVAILABLE
        assert reply.answer.headers["retry-after"]
        assert reply.seconds < REFUSAL_SECONDS + SLACK_SECONDS


async def told(connections: list[Connection], *, ready: bool) -> float:
    """Wait until the readiness of all workers is as said."""
    begin = time.monotonic()
    async with asyncio.timeout(60):
        for connection in connections:
            while (await problems(connection) == []) != ready:
                await asyncio.sleep(0.05)
    return time.monotonic() - begin


async def test_postgres_is_killed_under_load(launch: Launch, payers: list[Customer]) -> None:
    product = await launch()
    async with Load(product.port, payers, callers=CALLERS) as load:
        await load.complete(150)
        before = product.postgres()[0].pid
        killed_at = time.monotonic()
        kill(product.postgres())
        await load.complete(300)
        served = [reply for reply in load.since(killed_at) if reply.is_complete]
        assert product.postgres()[0].pid != before
    print(f"{load.codes}; {len(served)} of them after PostgreSQL was killed.")
    # Nobody is told anything but that he should come again, or that he has no money.
    assert set(load.codes) <= {"complete", "429", "503"}
    await check_books(product, load.replies)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, load.replies)


async def warmed_up(groups: list[list[Connection]], payer: Customer, idle: Customer) -> list[Reply]:
    """Each worker gets a lease for the one, and knows the key of the other."""
    replies = []
    for _ in range(3):
        calls = [call(connection, payer, Wish()) for connection in chain(*groups)]
        replies += await asyncio.gather(*calls)
    for first, *_ in groups:
        assert (await first.get("/v1/models", idle.api_key)).status == 200
    return replies


async def test_postgres_stays_away(launch: Launch, customers: Customers) -> None:
    product = await launch(**SHORT)
    standard, idle, unseen = (customers[name] for name in ("standard", "idle", "unseen"))
    async with both(product) as groups:
        connections = [first for first, *_ in groups]
        replies = await warmed_up(groups, standard, idle)
        async with away(product):
            replies += await served_from_leases(connections, standard)
            await refused_soon(connections, idle, unseen)
            seconds = await told(connections, ready=False)
            print(f"After {seconds:.2f} s more: {await problems(connections[0])}")
            for connection in connections:
                reply = await call(connection, standard, Wish())
                assert error_of(reply.answer) == UNAVAILABLE
        print(f"Ready again after {await told(connections, ready=True):.2f} s.")
        for connection in connections:
            replies.append(await call(connection, unseen, Wish()))
            assert replies[-1].is_complete
    await check_books(product, replies)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, replies)


@asynccontextmanager
async def still(product: Product) -> AsyncIterator[None]:
    """PostgreSQL takes connections and answers nothing."""
    processes = product.postgres()
    kill(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(processes, signal.SIGCONT)


async def test_postgres_stands_still(launch: Launch, customers: Customers) -> None:
    product = await launch()
    standard, idle, unseen = (customers[name] for name in ("standard", "idle", "unseen"))
    async with both(product) as groups:
        connections = [first for first, *_ in groups]
        replies = await warmed_up(groups, standard, idle)
        async with still(product):
            replies += await served_from_leases(connections, standard)
            await refused_soon(connections, idle, unseen)
            replies += await served_from_leases(connections, standard)
        for connection in connections:
            replies.append(await call(connection, unseen, Wish()))
            assert replies[-1].is_complete
    await check_books(product, replies)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, replies)
