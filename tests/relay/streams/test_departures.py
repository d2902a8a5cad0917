"""Clients that leave: who pays what, and what becomes of the upstream's stream."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from pytest_django import Settings

from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import SCRIPTED, USD, Gateway, body_of, charge_of, until
from tests.adversary.upstream import DONE, FINISH, STREAM_HEAD, end, said, usage_chunk
from tests.relay.streams.clients import WAYS, Client
from tests.relay.upstream.support import Peer

STREAM = body_of(model=SCRIPTED, stream=True)
CHUNKS = 40


def tokens_of(text: str) -> int:
    return Tokenizer(SCRIPTED).count(text)


def seen_by_simulator(gateway: Gateway, tag: str) -> dict[str, Any]:
    (found,) = gateway._simulator._recorder.report(tag=tag)["data"]
    assert isinstance(found, dict)
    return found


@dataclass
class Stalled:
    """An upstream that stops in the middle of its stream, until the test lets it go on.

    Each connection plays it anew; `closed` tells how many the gateway has closed in the middle.
    """

    words: list[str] = field(default_factory=lambda: ["one", " two"])
    rest: list[bytes] = field(default_factory=lambda: [FINISH, usage_chunk(9, 2), DONE])
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    closed: int = 0

    async def play(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, *map(said, self.words))
        left = asyncio.ensure_future(peer.left())
        going_on = asyncio.ensure_future(self.goes_on.wait())
        await asyncio.wait({left, going_on}, return_when=asyncio.FIRST_COMPLETED)
        going_on.cancel()
        if left.done():
            self.closed += 1
            return
        await peer.send(*self.rest)
        await end(peer)
        await left


@pytest.mark.parametrize("way", WAYS)
async def test_the_stream_is_read_on_for_its_true_usage(gateway: Gateway, way: str) -> None:
    customer = await gateway.customer(USD)
    knobs = {"chunks": CHUNKS, "chunk_delay_ms": 2}
    whole = await gateway.call(customer, body_of(stream=True, simulate=knobs))
    assert whole.is_whole
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, body_of(stream=True, simulate=knobs | {"tag": "left"}))
        await client.see(b'"content":')
        WAYS[way](client)
        complete, left = await gateway.records(2)
    assert complete.outcome == "completed"
    assert (left.outcome, left.usage_source) == ("client_left", "upstream")
    # The tag is no part of the prompt, so both calls are the same.
    assert left.completion_tokens == complete.completion_tokens >= CHUNKS
    assert left.charge_nano_usd == complete.charge_nano_usd
    assert left.charge_nano_usd == charge_of(left.prompt_tokens, left.completion_tokens)
    assert seen_by_simulator(gateway, "left")["outcome"] == "complete"
    assert gateway.arrived() == 2
    assert gateway.balance(customer) == USD - 2 * complete.charge_nano_usd


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_without_a_stream_is_finished_and_charged(gateway: Gateway, way: str) -> None:
    customer = await gateway.customer(USD)
    async with Client(gateway.workers[0].port) as client:
        body = body_of(simulate={"tag": "left", "delay_ms": 100, "text": "one two three"})
        await client.ask(customer, body)
        await until(lambda: gateway.arrived() == 1, "the call")
        WAYS[way](client)
        record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "upstream")
    assert record.completion_tokens == tokens_of("one two three")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert seen_by_simulator(gateway, "left")["outcome"] == "complete"


@pytest.mark.parametrize("way", WAYS)
async def test_by_policy_the_stream_is_cancelled_and_estimated(
    empty_gateway: Gateway, settings: Settings, way: str
) -> None:
    gateway = empty_gateway
    settings.CLIENT_LEFT_POLICY = "cancel"
    await gateway.worker()
    upstream = Stalled()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, STREAM)
        await client.see(b'" two"')
        WAYS[way](client)
        record = await gateway.record()
    await until(lambda: upstream.closed == 1, "the upstream's end")
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    assert record.completion_tokens == tokens_of("one two")
    assert record.prompt_tokens >= tokens_of("Hello")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert gateway.arrived() == 0


async def test_who_cancels_before_any_output_pays_the_prompt(
    empty_gateway: Gateway, settings: Settings
) -> None:
    """Or else who sends long prompts and leaves at once would be the upstream's guest, and ours."""
    gateway = empty_gateway
    settings.CLIENT_LEFT_POLICY = "cancel"
    await gateway.worker()
    upstream = Stalled(words=[])
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, body_of("word " * 500, model=SCRIPTED, stream=True))
        await client.see(b"200 OK")
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    assert record.completion_tokens == 0
    assert record.prompt_tokens >= 500
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, 0)
    await until(lambda: upstream.closed == 1, "the upstream's end")


async def test_an_upstream_that_fails_before_any_output_costs_nothing(gateway: Gateway) -> None:
    """It is not the departure that made it fail, and nothing was delivered to anybody."""
    upstream = Stalled(words=[], rest=[])
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, STREAM)
        await client.see(b"200 OK")
    await until(lambda: gateway.workers[0].departures == 1, "the departure")
    upstream.goes_on.set()
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "none")
    assert record.charge_nano_usd == 0


async def test_reading_on_ends_with_the_time(empty_gateway: Gateway, settings: Settings) -> None:
    gateway = empty_gateway
    settings.CLIENT_LEFT_DRAIN_SECONDS = 0.05
    await gateway.worker()
    upstream = Stalled()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, STREAM)
        await client.see(b'" two"')
    record = await gateway.record()
    await until(lambda: upstream.closed == 1, "the upstream's end")
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    assert record.completion_tokens == tokens_of("one two")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)


async def test_reading_on_ends_with_the_bytes(empty_gateway: Gateway, settings: Settings) -> None:
    gateway = empty_gateway
    settings.CLIENT_LEFT_DRAIN_BYTES = 2_000
    await gateway.worker()
    goes_on, closed = asyncio.Event(), asyncio.Event()

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, said("one"))
        await goes_on.wait()
        try:
            while True:
                await peer.send(said(" two"))
        finally:
            closed.set()

    await gateway.scripted(endless)
    customer = await gateway.customer(USD)
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, STREAM)
        await client.see(b'"one"')
    await until(lambda: gateway.workers[0].departures == 1, "the departure")
    goes_on.set()
    record = await gateway.record()
    await closed.wait()
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    # All that came is paid: at least the limit, and what had arrived on top of it.
    assert record.completion_tokens > 2_000 // len(said(" two"))
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)


async def test_only_so_many_are_read_on_at_once(empty_gateway: Gateway, settings: Settings) -> None:
    gateway = empty_gateway
    settings.CLIENT_LEFT_DRAINS = 1
    worker = await gateway.worker()
    upstream = Stalled()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)

    async def leave() -> None:
        async with Client(worker.port) as client:
            await client.ask(customer, STREAM)
            await client.see(b'" two"')

    await leave()
    await until(lambda: worker.departures == 1, "the first departure")
    await leave()
    cancelled = await gateway.record()
    assert (cancelled.outcome, cancelled.usage_source) == ("client_left", "estimated")
    await until(lambda: upstream.closed == 1, "the second upstream's end")
    assert worker.departures == 1
    upstream.goes_on.set()
    first, _ = await gateway.records(2)
    assert (first.outcome, first.usage_source) == ("client_left", "upstream")
    assert first.charge_nano_usd == charge_of(9, 2)
    # The place is free again.
    upstream.goes_on.clear()
    await leave()
    await until(lambda: worker.departures == 1, "the third departure")
    upstream.goes_on.set()
    third = (await gateway.records(3))[-1]
    assert third.charge_nano_usd == charge_of(9, 2)
    assert upstream.closed == 1


async def test_a_stop_does_not_wait_for_those_who_left(gateway: Gateway) -> None:
    upstream = Stalled()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    worker = gateway.workers[0]
    async with Client(worker.port) as client:
        await client.ask(customer, STREAM)
        await client.see(b'" two"')
    await until(lambda: worker.departures == 1, "the departure")
    await gateway.stop(worker)
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, tokens_of("one two"))


async def test_a_request_that_waits_behind_a_stream_hides_no_departure(gateway: Gateway) -> None:
    """The server tells the latest request that its client has left, and that is the wrong one."""
    customer = await gateway.customer(USD)
    knobs = {"chunks": CHUNKS, "chunk_delay_ms": 10, "tag": "left"}
    body = body_of(stream=True, simulate=knobs)
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, body)
        await client.see(b'"content":')
        await client.ask(customer, body)
        await client.see(b'"content":')
        client.reset()
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "upstream")
    assert record.completion_tokens >= CHUNKS
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert gateway.arrived() == 1
