"""Bugs of streams: clients that leave, upstreams that fail, usage that comes early or never."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from pytest_django import Settings

from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import SCRIPTED, USD, Gateway, body_of, charge_of, until
from tests.adversary.upstream import (
    DONE,
    FINISH,
    STREAM_HEAD,
    answer,
    chunk,
    end,
    events_of,
    play,
    said,
    usage_chunk,
    usage_of,
)
from tests.relay.upstream.support import Peer

WORDS = ["one", " two", " three", " four"]
STREAM = body_of(model=SCRIPTED, stream=True)


def tokens_of(text: str) -> int:
    return Tokenizer(SCRIPTED).count(text)


@dataclass
class Interrupted:
    """A stream that stops after so many of its writes until the test lets it go on."""

    writes: list[bytes]
    stops_after: int
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    played_out: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(*self.writes[: self.stops_after])
        self.stopped.set()
        await self.goes_on.wait()
        await peer.send(*self.writes[self.stops_after :])
        await end(peer)
        self.played_out.set()


WRITES = [STREAM_HEAD, *map(said, WORDS), FINISH, usage_chunk(9, 4), DONE]
# After how many writes the client leaves, and what it has seen by then.
LEAVES = {
    "before the head": (0, b""),
    "before the first word": (1, b"200 OK"),
    "after the first word": (2, b'"one"'),
    "in the middle": (3, b'" two"'),
    "before the last word": (4, b'" three"'),
    "before the usage": (6, b'"stop"'),
    "after the usage": (7, b'"stop"'),
}


async def test_b12_a_client_that_disconnects_is_not_free(gateway: Gateway) -> None:
    """Others record nothing, or refund, or even ask another channel, when the client goes away."""
    streams = [Interrupted(WRITES, stops_after) for stops_after, _ in LEAVES.values()]
    coming = iter(streams)
    upstream = await gateway.scripted(lambda peer: next(coming).play(peer))
    customer = await gateway.customer(USD)
    for stream, (when, (_, sight)) in zip(streams, LEAVES.items(), strict=True):
        async with gateway.visit(customer, STREAM) as visitor:
            await stream.stopped.wait()
            if sight:
                await visitor.see(sight)
            visitor.leave()
            if sight:  # Before it sends anything, the gateway does not look.
                await until(lambda: gateway.workers[0].departures == 1, f"a departure {when}")
        stream.goes_on.set()
        await gateway.idle()
        record = gateway.recorded()[-1]
        assert record.outcome == "client_left" or not sight, when
        assert record.usage_source == "upstream", when
        assert record.charge_nano_usd == charge_of(9, 4), when
        await stream.played_out.wait()
    await gateway.records(len(LEAVES))
    assert gateway.balance(customer) == USD - len(LEAVES) * charge_of(9, 4)
    assert (upstream.accepted, gateway.arrived()) == (len(LEAVES), 0)


async def test_b12_a_client_that_does_not_wait_for_a_whole_answer_is_not_free(
    gateway: Gateway,
) -> None:
    """The same without a stream: what was ordered is made, and paid."""
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await goes_on.wait()
        await peer.send(answer({"content": "one two"}, usage=usage_of(9, 2)))

    upstream = await gateway.scripted(script)
    customer = await gateway.customer(USD)
    async with gateway.visit(customer, body_of(model=SCRIPTED)):
        await asked.wait()
    goes_on.set()
    record = await gateway.record()
    assert (record.usage_source, record.charge_nano_usd) == ("upstream", charge_of(9, 2))
    assert (upstream.accepted, gateway.arrived()) == (1, 0)


async def test_b12_a_client_that_leaves_an_endless_answer_pays_what_came(
    empty_gateway: Gateway, settings: Settings
) -> None:
    """Where upstream's own figure cannot be waited for, what was delivered is counted."""
    gateway = empty_gateway
    settings.CLIENT_LEFT_DRAIN_SECONDS = 0.0
    await gateway.worker()
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, said("one"), said(" two"))
        await peer.left()
        closed.set()

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    async with gateway.visit(customer, STREAM) as visitor:
        await visitor.see(b'" two"')
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    assert record.completion_tokens == tokens_of("one two")
    assert record.prompt_tokens >= tokens_of("Hello")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    await closed.wait()


async def test_b13_an_error_before_any_output_costs_nothing(gateway: Gateway) -> None:
    """Others charge the prompt, or the reservation, of streams that produced nothing."""
    customer = await gateway.customer(USD)
    for knobs in (
        {"fault": "error_event_first"},
        {"fault": "truncated", "after_chunks": 0},
        {"fault": "cut", "after_chunks": 0},
        {"fault": "json_error_200"},
    ):
        reply = await gateway.call(customer, body_of("x" * 2_000, stream=True, simulate=knobs))
        assert b'"error"' in reply.body
    records = await gateway.records(4)
    assert {record.outcome for record in records} == {"upstream_error"}
    assert {record.charge_nano_usd for record in records} == {0}
    assert gateway.balance(customer) == USD


async def test_b13_the_text_of_an_error_is_not_output(gateway: Gateway) -> None:
    """Others run upstream's error message through the tokenizer, and bill it as the answer."""
    customer = await gateway.customer(USD)
    message = "The engine is overloaded, please come back later. " * 30
    knobs = {
        "fault": "error_event_after",
        "text": "one two three",
        "after_chunks": 1,
        "error": {"message": message},
        "chunk_delay_ms": 1,
    }
    await gateway.call(customer, body_of(stream=True, simulate=knobs))
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.completion_tokens == tokens_of("one")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)


async def test_b13_a_usage_of_zero_is_a_usage(gateway: Gateway) -> None:
    """Others take 0 for missing, and bill their own estimate instead."""
    customer = await gateway.customer(USD)
    knobs = {"text": "one two three", "prompt_tokens": 0, "completion_tokens": 0}
    for stream in (False, True):
        assert (await gateway.call(customer, body_of(stream=stream, simulate=knobs))).status == 200
    for record in await gateway.records(2):
        assert (record.outcome, record.usage_source) == ("completed", "upstream")
        assert (record.prompt_tokens, record.completion_tokens) == (0, 0)
    assert gateway.balance(customer) == USD


EARLY = chunk({"role": "assistant"}, usage=usage_of(1, 1))


async def test_b14_the_cost_is_that_of_the_last_usage(gateway: Gateway) -> None:
    """Others show the tokens that came at the end, at the cost of the placeholder before them."""
    await play(
        gateway, STREAM, STREAM_HEAD, EARLY, *map(said, WORDS), FINISH, usage_chunk(9, 4), DONE
    )
    record = await gateway.record()
    assert (record.usage_source, record.outcome) == ("upstream", "completed")
    assert (record.prompt_tokens, record.completion_tokens) == (9, 4)
    assert record.units == {"input_tokens": 9, "output_tokens": 4}
    assert record.charge_nano_usd == charge_of(9, 4)


@pytest.mark.parametrize("whole", [False, True])
async def test_b14_a_placeholder_is_no_usage_of_what_came_after_it(
    gateway: Gateway, *, whole: bool
) -> None:
    """A usage that was told before the words cannot have counted them, nor proves an end."""
    ending = [FINISH, DONE] if whole else []
    events = events_of(await play(gateway, STREAM, STREAM_HEAD, EARLY, *map(said, WORDS), *ending))
    assert ("error" in events[-1]) is not whole
    record = await gateway.record()
    assert record.outcome == ("completed" if whole else "interrupted")
    assert record.usage_source == "estimated"
    assert record.completion_tokens == tokens_of("".join(WORDS))
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)


LIMITS = {
    "CLIENT_LEFT_DRAIN_SECONDS": 0.1,
    "CLIENT_LEFT_DRAIN_BYTES": 20_000,
    "CLIENT_LEFT_DRAINS": 0,
    "CLIENT_LEFT_POLICY": "cancel",
}


async def test_b15_an_upstream_is_let_go_when_its_client_is_gone(
    empty_gateway: Gateway, settings: Settings
) -> None:
    """Others read on without any limit for nobody, at the operator's expense."""
    gateway = empty_gateway
    words, let_go = 0, asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal words
        await peer.request()
        await peer.send(STREAM_HEAD)
        words = 0
        try:
            while True:
                await peer.send(said(" word"))
                words += 1
                await asyncio.sleep(0.001)
        except ConnectionError:
            let_go.set()

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    for limit, value in LIMITS.items():
        usual = getattr(settings, limit)
        setattr(settings, limit, value)
        worker = await gateway.worker()
        setattr(settings, limit, usual)
        let_go.clear()
        async with gateway.visit(customer, STREAM, at=worker) as visitor:
            await visitor.see(b"word")
        async with asyncio.timeout(20):
            await let_go.wait()
        await gateway.idle()
        record = gateway.recorded()[-1]
        assert (record.outcome, record.usage_source) == ("client_left", "estimated"), limit
        # What upstream has made for this client is paid, be it that nobody saw it; some of it
        # was still on the way when the connection was closed.
        assert words // 2 <= record.completion_tokens <= words + 1, limit
    await gateway.records(len(LIMITS))


async def test_b15_an_upstream_is_read_to_its_end_when_that_is_near(gateway: Gateway) -> None:
    """Others hang up at once, and have to guess what hidden thoughts have cost."""
    thoughts = usage_chunk(9, 2_000, completion_tokens_details={"reasoning_tokens": 1_996})
    stream = Interrupted([STREAM_HEAD, *map(said, WORDS), FINISH, thoughts, DONE], 2)
    await gateway.scripted(stream.play)
    customer = await gateway.customer(USD)
    async with gateway.visit(customer, STREAM) as visitor:
        await visitor.see(b"one")
    await until(lambda: gateway.workers[0].departures == 1, "the departure")
    stream.goes_on.set()
    record = await gateway.record()
    await stream.played_out.wait()
    assert (record.outcome, record.usage_source) == ("client_left", "upstream")
    assert record.charge_nano_usd == charge_of(9, 2_000)


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "null": {"stream_options": None},
    "no option": {"stream_options": {}},
    "null in it": {"stream_options": {"include_usage": None}},
    "no usage": {"stream_options": {"include_usage": False}},
    "usage": {"stream_options": {"include_usage": True}},
}


async def test_b16_every_stream_is_asked_for_its_usage(gateway: Gateway) -> None:
    """Others ask for the usage only if the client did, and estimate or give away the rest."""
    customer = await gateway.customer(USD)
    for name, options in OPTIONS.items():
        body = body_of(stream=True, simulate={"text": "one two three"}, **options)
        events = events_of(await gateway.call(customer, body))
        asked = name == "usage"
        assert gateway.received()[-1]["stream_options"]["include_usage"] is True, name
        # The client sees what it asked for, and no trace of what we did.
        usages = [one["usage"]["completion_tokens"] for one in events if one.get("usage")]
        assert usages == ([3] if asked else []), name
        assert all(one["choices"] for one in events[:-1]), name
        assert bool(events[-1]["choices"]) is not asked, name
    records = await gateway.records(len(OPTIONS))
    assert {record.usage_source for record in records} == {"upstream"}
    assert len({(record.prompt_tokens, record.charge_nano_usd) for record in records}) == 1
