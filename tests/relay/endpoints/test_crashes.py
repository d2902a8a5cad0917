"""Errors of our own in the middle of an answer: what was delivered is charged, and nothing more."""

import asyncio
from typing import Any

import pytest

from relay.metering.meter import ChatStreamMeter
from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import CHAT, SCRIPTED, USD, Gateway, body_of, charge_of
from tests.adversary.upstream import DONE, FINISH, STREAM_HEAD, end, said, usage_chunk
from tests.relay.endpoints.support import ask, upstream_says
from tests.relay.upstream.support import Peer


def crash_at(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    feed = ChatStreamMeter.feed

    def feed_or_crash(self: Any, chunk: bytes) -> bytes:
        if text in chunk:
            raise ZeroDivisionError
        return feed(self, chunk)

    monkeypatch.setattr(ChatStreamMeter, "feed", feed_or_crash)


async def test_what_was_delivered_before_a_crash_is_charged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await gateway.customer(USD)
    crash_at(monkeypatch, b'" three"')
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, said("one"), said(" two"))
        await goes_on.wait()
        await peer.send(said(" three"), FINISH, usage_chunk(9, 3), DONE)
        await end(peer)

    await gateway.scripted(script)
    async with gateway.visit(customer, body_of(model=SCRIPTED, stream=True)) as visitor:
        await visitor.see(b'" two"')
        goes_on.set()
        seen = await visitor.rest()
    assert not seen.endswith(b"0\r\n\r\n")  # Nobody takes it for a whole answer.
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.completion_tokens == Tokenizer(SCRIPTED).count("one two")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)


async def test_a_crash_before_any_output_costs_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await gateway.customer(USD)
    crash_at(monkeypatch, b'"one"')
    await upstream_says(gateway, STREAM_HEAD, said("one"), FINISH, usage_chunk(9, 1), DONE)
    body = body_of(model=SCRIPTED, stream=True)
    answer = await ask(gateway, customer, CHAT.removeprefix("/v1/"), body)
    assert not answer.is_whole
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd) == ("upstream_error", 0)
