"""PostgreSQL dies, stays away, or stands still, while calls go on."""

import asyncio
import json
import time

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer, Customers
from tests.faults.http_client import Answer, Connection
from tests.faults.load import Load, Wish, call, callers
from tests.faults.product import kill
from tests.faults.scenes import away, both, served_from_leases, still, warmed_up

CALLERS = 24
# A lease serves for 9.6 s after the last renewal, also where the machine is busy with others.
SHORT = {"LEASE_TTL_SECONDS": "12", "LEASE_HEARTBEAT_SECONDS": "1"}
# What a call may wait for the database: 2 s; the rest is for a busy machine.
REFUSAL_SECONDS = 2.0
SLACK_SECONDS = 1.5
# How often it may be too busy.
ATTEMPTS = 5
UNAVAILABLE = "503 service_unavailable"


def error_of(answer: Answer) -> str:
    """Status and code of a refusal."""
    error = json.loads(answer.body)["error"]
    return f"{answer.status} {error['code']}"


async def problems(connection: Connection) -> list[str]:
    answer = await connection.get("/readyz")
    found: list[str] = json.loads(answer.body)["problems"]
    assert (answer.status == 200) == (not found)
    return found


async def refused_soon(connections: list[Connection], idle: Customer, unseen: Customer) -> None:
    """Who needs a new lease waits a little; whose key is not known here is not told it is bad."""
    for _ in range(ATTEMPTS):
        if await seconds_of_refusals(connections, idle, unseen) < REFUSAL_SECONDS + SLACK_SECONDS:
            return
    raise AssertionError("the refusals always came late")


async def seconds_of_refusals(
    connections: list[Connection], idle: Customer, unseen: Customer
) -> float:
    """How long the later one took."""
    calls = [
        call(connections[0], idle, Wish()),
        call(connections[1], unseen, Wish()),
    ]
    replies = await asyncio.gather(*calls)
    for reply in replies:
        print(f"{error_of(reply.answer)} for {reply.organization} after {reply.seconds:.2f} s.")
        assert error_of(reply.answer) == UNAVAILABLE
        assert reply.answer.headers["retry-after"]
    return max(reply.seconds for reply in replies)


async def told(connections: list[Connection], *, ready: bool) -> float:
    """Wait until the readiness of all workers is as said."""
    begin = time.monotonic()
    async with asyncio.timeout(60):
        for connection in connections:
            while (await problems(connection) == []) != ready:
                await asyncio.sleep(0.05)
    return time.monotonic() - begin


async def test_f11_postgres_is_killed_under_load(launch: Launch, payers: list[Customer]) -> None:
    product = await launch()
    async with Load(callers(product.port, CALLERS), payers) as load:
        await load.complete(100)
        before = product.postgres()[0].pid
        killed_at = time.monotonic()
        kill(product.postgres())
        await load.complete(150)
        served = [reply for reply in load.since(killed_at) if reply.is_complete]
        assert product.postgres()[0].pid != before
    print(f"{load.codes}; {len(served)} of them after PostgreSQL was killed.")
    # Nobody is told anything but that he should come again, or that he has no money.
    assert set(load.codes) <= {"complete", "429", "503"}
    await check_books(product, load.replies)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, load.replies)


async def test_f11_f12_postgres_stays_away(launch: Launch, customers: Customers) -> None:
    """Calls end, and are settled, while it is dead: so no reply waits for it."""
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


async def test_f11_f12_postgres_stands_still(launch: Launch, customers: Customers) -> None:
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
