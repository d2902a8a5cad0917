"""A worker is killed at chosen instants of a call, where its upstream or its client holds it."""

import asyncio
from asyncio import StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.faults.books import Record, charge, check_books
from tests.faults.customers import Customers
from tests.faults.http_client import Connection
from tests.faults.journals import opened, settled
from tests.faults.load import PATH, Reply, Wish, call
from tests.faults.product import Product, kill, until
from tests.faults.scenes import both, incarnations, serving
from tests.faults.upstream import (
    FINISH,
    STREAM_HEAD,
    UPSTREAM_PORT,
    USAGE,
    USAGE_EVENT,
    Script,
    ScriptedUpstream,
    completion,
    content,
)

# More than all buffers between a worker and a client that does not read.
HUGE_CHARACTERS = 16 * 1024 * 1024
PLAIN = Wish(prompt_tokens=USAGE["prompt_tokens"], completion_tokens=USAGE["completion_tokens"])


class Scene:
    """A call to the first worker, which waits for the scripted upstream."""

    def __init__(self, product: Product, upstream: ScriptedUpstream) -> None:
        self.product = product
        self.upstream = upstream
        self.victim = product.workers()[0]
        (self.worker,) = incarnations(product, self.victim)

    async def kill(self) -> None:
        """Kill the worker, and wait until its journal was replayed and it was replaced."""
        kill([self.victim])
        name = str(self.worker)
        await until(lambda: name not in {p.name for p in self.product.journals()}, "a replay")
        await serving(self.product)

    async def records(self, *replies: Reply) -> dict[str, Record]:
        """By request id, after the books were checked."""
        found = await check_books(self.product, replies)
        return {record.request_id.hex: record for record in found}


@asynccontextmanager
async def scene(product: Product, script: Script) -> AsyncIterator[tuple[Scene, Connection]]:
    """With a connection to the worker that will be killed."""
    await serving(product)
    async with ScriptedUpstream(UPSTREAM_PORT, script) as upstream, both(product) as groups:
        yield Scene(product, upstream), groups[0][0]


def pieces_then_silence(*pieces: bytes) -> Script:
    async def script(writer: StreamWriter) -> None:
        writer.writelines(pieces)
        await writer.drain()
        await asyncio.Event().wait()

    return script


@pytest.mark.parametrize(
    ("stream", "pieces"),
    [
        pytest.param(False, (), id="f2: no answer yet"),
        pytest.param(True, (STREAM_HEAD, content("Hello")), id="f3: in the middle of a stream"),
        pytest.param(
            True,
            (STREAM_HEAD, content("Hello"), FINISH, USAGE_EVENT),
            id="f4: after the usage and before the end",
        ),
    ],
)
async def test_f2_f3_f4_a_call_that_did_not_end_is_lost_and_free(
    product: Product, customers: Customers, stream: bool, pieces: tuple[bytes, ...]
) -> None:
    async with scene(product, pieces_then_silence(*pieces)) as (scene_, connection):
        before = opened(product)
        task = asyncio.create_task(
            call(connection, customers["strict"], Wish(stream=stream, include_usage=True))
        )
        await until(lambda: scene_.upstream.calls == 1, "the call at the upstream")
        (request_id,) = opened(product) - before
        await scene_.kill()
        reply = await task
        assert not reply.is_complete
        assert not reply.answer.is_whole
        record = (await scene_.records(reply))[request_id.hex]
    assert (record.outcome, record.charge, record.worker) == ("lost", 0, scene_.worker)


async def test_f5_a_call_that_was_settled_is_charged_though_its_last_byte_was_not_sent(
    product: Product, customers: Customers
) -> None:
    """Between the append to the journal and the last byte; and before the record was shipped."""
    gate = asyncio.Event()

    async def script(writer: StreamWriter) -> None:
        await gate.wait()
        writer.write(completion("x" * HUGE_CHARACTERS))
        await writer.drain()

    async with scene(product, script) as (scene_, connection):
        before = settled(product)
        await connection.send(PATH, customers["strict"].api_key, PLAIN.body())
        await until(lambda: scene_.upstream.calls == 1, "the call at the upstream")
        with product.bank() as bank, bank.connection.transaction():
            bank.connection.execute(
                "SELECT 1 FROM billing_worker WHERE id = %s FOR UPDATE", [scene_.worker]
            )
            gate.set()
            await until(lambda: settled(product) - before, "the settlement", seconds=10)
            kill([scene_.victim])
        (request_id,) = settled(product) - before
        await scene_.kill()
        answer = await connection.receive()
        assert answer.status == 200
        assert not answer.is_whole
        record = (await scene_.records())[request_id.hex]
    assert (record.outcome, record.worker) == ("completed", scene_.worker)
    assert record.charge == charge(
        prompt_tokens=PLAIN.prompt_tokens,
        cached_tokens=0,
        completion_tokens=PLAIN.completion_tokens,
    )


def answers_at_once(stream: bool) -> Script:
    async def script(writer: StreamWriter) -> None:
        pieces = (STREAM_HEAD, content("Hello"), FINISH, USAGE_EVENT, b"data: [DONE]\n\n")
        writer.writelines(pieces if stream else (completion("Hello"),))
        await writer.drain()

    return script


@pytest.mark.parametrize("stream", [False, True] * 3)
async def test_a_call_is_recorded_when_its_last_byte_is_seen(
    product: Product, customers: Customers, stream: bool
) -> None:
    wish = replace(PLAIN, stream=stream, include_usage=stream)
    async with scene(product, answers_at_once(stream)) as (scene_, connection):
        reply = await call(connection, customers["strict"], wish)
        kill([scene_.victim])
        assert reply.is_complete
        await scene_.kill()
        await scene_.records(reply)


async def test_f1_a_call_that_waits_for_its_money_leaves_nothing(
    product: Product, customers: Customers
) -> None:
    """Before the lease was granted, so before the call was sent or written down anywhere."""
    customer = customers["idle"]
    async with scene(product, pieces_then_silence()) as (scene_, connection):
        with product.bank() as bank, bank.connection.transaction():
            bank.connection.execute("SELECT 1 FROM billing_wallet FOR UPDATE")
            task = asyncio.create_task(call(connection, customer, PLAIN))
            await until(lambda: waiting(product), "a lease's growth")
            kill([scene_.victim])
        await scene_.kill()
        assert not (await task).is_complete
        assert scene_.upstream.calls == 0
        records = await scene_.records()
    assert customer.organization not in {record.organization for record in records.values()}


def waiting(product: Product) -> int:
    """Transactions of workers that wait for a lock."""
    with product.bank() as bank:
        return bank.number(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'tollgate-engine' AND wait_event_type = 'Lock'"
        )
