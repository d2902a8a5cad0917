"""Standard holds follow the output; strict ones are what they were when the call began."""

import asyncio
from dataclasses import dataclass, field

import pytest
from pytest_django import Settings

from tests.adversary.gateway import (
    OUTPUT_NANO_USD,
    SCRIPTED,
    USD,
    Customer,
    Gateway,
    Worker,
    body_of,
    charge_of,
    until,
)
from tests.adversary.upstream import DONE, FINISH, STREAM_HEAD, end, said, usage_chunk
from tests.relay.streams.clients import Client
from tests.relay.upstream.support import Peer

STEP_TOKENS = 50
# The hold takes a token for two characters.
WORD = "x" * 20
WORD_TOKENS = 10


@dataclass
class Dictation:
    """An upstream that says word after word, each when the test wants it."""

    peers: asyncio.Queue[Peer] = field(default_factory=asyncio.Queue)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD)
        await self.peers.put(peer)
        await self.over.wait()
        await end(peer)


@dataclass
class Call:
    worker: Worker
    client: Client
    peer: Peer
    said: int = 0

    async def say(self, words: int) -> int:
        """Returns what the gateway then holds."""
        for _ in range(words):
            self.said += 1
            await self.peer.send(said(f"{WORD}{self.said:06}"[6:]))
        await self.client.see(f"{self.said:06}".encode())
        await until(lambda: not any(w.book.busy() for w in self.worker.engine._workers), "growth")
        return self.worker.held_nano_usd


@pytest.fixture
async def gateway(empty_gateway: Gateway, settings: Settings) -> Gateway:
    settings.STANDARD_HOLD_OUTPUT_TOKENS = STEP_TOKENS
    await empty_gateway.worker()
    return empty_gateway


async def begin(gateway: Gateway, client: Client, customer: Customer, body: bytes) -> Call:
    upstream = Dictation()
    await gateway.scripted(upstream.play)
    await client.ask(customer, body)
    return Call(gateway.workers[0], client, await upstream.peers.get())


async def finish(call: Call, completion_tokens: int) -> None:
    await call.peer.send(FINISH, usage_chunk(10, completion_tokens), DONE)
    await call.client.see(DONE)


def prompt_of(body: bytes) -> int:
    return charge_of(len(body), 0)


@pytest.mark.parametrize("n", [1, 3])
async def test_the_hold_is_ahead_of_the_output(gateway: Gateway, n: int) -> None:
    customer = await gateway.customer(USD)
    body = body_of(model=SCRIPTED, stream=True, n=n)
    step = n * STEP_TOKENS * OUTPUT_NANO_USD
    words_a_step = n * STEP_TOKENS // WORD_TOKENS
    async with Client(gateway.workers[0].port) as client:
        call = await begin(gateway, client, customer, body)
        assert gateway.workers[0].held_nano_usd == prompt_of(body) + step
        # Up to the step, the first hold covers it.
        assert await call.say(words_a_step) == prompt_of(body) + step
        held = 0
        for _ in range(4 * words_a_step):
            held = await call.say(1)
            assert held >= prompt_of(body) + call.said * WORD_TOKENS * OUTPUT_NANO_USD
            assert held <= prompt_of(body) + call.said * WORD_TOKENS * OUTPUT_NANO_USD + 2 * step
        produced = call.said * WORD_TOKENS
        await finish(call, produced)
    record = await gateway.record()
    assert record.hold_nano_usd == held
    assert record.charge_nano_usd == charge_of(10, produced) < record.hold_nano_usd
    assert record.flags == []


async def test_it_grows_to_what_the_client_allows_and_no_further(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    most = 3 * STEP_TOKENS // 2
    body = body_of(model=SCRIPTED, stream=True, max_tokens=most)
    async with Client(gateway.workers[0].port) as client:
        call = await begin(gateway, client, customer, body)
        whole = prompt_of(body) + most * OUTPUT_NANO_USD
        assert gateway.workers[0].held_nano_usd < whole
        assert await call.say(STEP_TOKENS // WORD_TOKENS + 1) == whole
        assert await call.say(20 * STEP_TOKENS // WORD_TOKENS) == whole
        await finish(call, most)
    assert (await gateway.record()).hold_nano_usd == whole


async def test_a_short_answer_that_is_covered_from_the_start_stays_as_it_is(
    gateway: Gateway,
) -> None:
    customer = await gateway.customer(USD)
    body = body_of(model=SCRIPTED, stream=True, max_tokens=STEP_TOKENS)
    async with Client(gateway.workers[0].port) as client:
        call = await begin(gateway, client, customer, body)
        held = gateway.workers[0].held_nano_usd
        assert await call.say(50) == held
        await finish(call, STEP_TOKENS)
    await gateway.record()


async def test_where_money_is_short_the_call_goes_on_and_is_charged_in_full(
    gateway: Gateway,
) -> None:
    body = body_of(model=SCRIPTED, stream=True)
    first = prompt_of(body) + STEP_TOKENS * OUTPUT_NANO_USD
    # For the first hold and a half step more.
    balance = first + STEP_TOKENS * OUTPUT_NANO_USD // 2
    customer = await gateway.customer(balance)
    async with Client(gateway.workers[0].port) as client:
        call = await begin(gateway, client, customer, body)
        # What the wallet still has comes between two words, and then there is no more.
        while await call.say(15) < balance:
            pass
        assert await call.say(60) == balance
        # Unless somebody pays in.
        gateway.bank.grant(customer.id, USD)
        while await call.say(15) < balance + STEP_TOKENS * OUTPUT_NANO_USD:
            pass
        produced = 2 * call.said * WORD_TOKENS
        await finish(call, produced)
    record = await gateway.record()
    assert record.outcome == "completed"
    assert record.charge_nano_usd == charge_of(10, produced)
    assert record.flags == ["bound_exceeded"]
    assert gateway.balance(customer) == balance + USD - charge_of(10, produced)


async def test_a_strict_hold_stays_as_it_was(gateway: Gateway) -> None:
    customer = await gateway.customer(USD, strict=True)
    body = body_of(model=SCRIPTED, stream=True, max_tokens=700)
    async with Client(gateway.workers[0].port) as client:
        call = await begin(gateway, client, customer, body)
        held = gateway.workers[0].held_nano_usd
        assert held == prompt_of(body) + 700 * OUTPUT_NANO_USD
        assert await call.say(100) == held
        await finish(call, 700)
    record = await gateway.record()
    assert record.hold_nano_usd == held
    assert record.flags == []
