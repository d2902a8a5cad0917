"""SIGTERM under load: calls get their time, what is cut says so, and nothing is left behind."""

import asyncio
import json
from contextlib import AsyncExitStack

from tests.faults.books import charge, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customers
from tests.faults.http_client import Connection
from tests.faults.journals import opened
from tests.faults.load import Load, Reply, Wish, call, callers
from tests.faults.product import Product, gone, kill, until

NUMBER = 49
DRAIN_SECONDS = 3
# Streams that end within the drain, and streams and answers that do not.
SHORT = Wish(stream=True, include_usage=True, completion_tokens=20, chunks=20, chunk_delay_ms=60)
LONG = Wish(stream=True, completion_tokens=90, chunks=90, chunk_delay_ms=300)
SLOW = Wish(delay_ms=30_000)


def last_events(reply: Reply) -> list[bytes]:
    return reply.answer.body.split(b"\n\n")[-3:]


async def calls_until_stop(
    product: Product, customers: Customers, wishes: list[Wish]
) -> list[Reply]:
    """All these calls at once; the product is told to stop when each is with the upstream."""
    customer = customers["strict"]
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection(product.port)) for _ in wishes]
        tasks = [
            asyncio.create_task(call(connection, customer, wish))
            for connection, wish in zip(connections, wishes, strict=True)
        ]
        await until(lambda: len(opened(product)) == len(wishes), "the calls' beginning")
        family = product.family()
        seconds = await product.stop()
        print(f"It stopped within {seconds:.2f} s, of which {DRAIN_SECONDS} s were for the calls.")
        replies = await asyncio.gather(*tasks)
    await until(lambda: all(map(gone, family)), "the end of all processes")
    return replies


async def test_f6_calls_get_their_time(launch: Launch, customers: Customers) -> None:
    product = await launch(DRAIN_SECONDS=str(DRAIN_SECONDS))
    wishes = [SHORT] * NUMBER + [LONG] * NUMBER + [SLOW] * 2
    replies = await calls_until_stop(product, customers, wishes)
    short, long, slow = replies[:NUMBER], replies[NUMBER:-2], replies[-2:]
    assert [reply.code for reply in short] == ["complete"] * NUMBER
    for reply in long:
        assert reply.answer.is_whole
        error, done, end = last_events(reply)
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"]
        assert (done, end) == (b"data: [DONE]", b"")
    assert {reply.answer.status for reply in slow} <= {502, 503}
    records = {record.request_id.hex: record for record in check_books_afterwards(product, replies)}
    for reply in long:
        record = records[reply.request_id]
        assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
        assert 0 < record.charge < charge(prompt_tokens=200, cached_tokens=0, completion_tokens=90)
    assert {records[reply.request_id].charge for reply in slow} == {0}
    assert len(records) == len(wishes)
    assert product.alarms() == []


async def test_f6_a_stop_under_load(launch: Launch, customers: Customers) -> None:
    product = await launch(DRAIN_SECONDS=str(DRAIN_SECONDS))
    async with Load(callers(product.port, 24), [customers["strict"]]) as load:
        await load.complete(100)
        family = product.family()
        await product.stop()
    print(load.codes)
    await until(lambda: all(map(gone, family)), "the end of all processes")
    # A connection that was refused, or closed before its call was read, is "broken": no reply.
    assert set(load.codes) <= {"complete", "503", "broken"}
    assert not [reply for reply in load.replies if reply.code == "broken" and reply.answer.status]
    check_books_afterwards(product, load.replies)
    assert product.alarms() == []


async def test_a_stop_right_after_a_death(launch: Launch, customers: Customers) -> None:
    """Nobody is there any more to replay the journal later, so it is done before the end."""
    product = await launch(DRAIN_SECONDS="0")
    async with Load(callers(product.port, 24), [customers["strict"]]) as load:
        await load.complete(100)
        kill(product.workers()[:1])
        await product.stop()
    check_books_afterwards(product, load.replies)
    assert product.alarms() == []
