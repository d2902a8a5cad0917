"""An upstream that thinks for long before it says anything: its client hears that it does."""

import asyncio
import json

import pytest

from relay.metering.meter import KEEP_ALIVE
from tests.adversary.gateway import CHAT, SCRIPTED, USD, Gateway, body_of, charge_of
from tests.adversary.upstream import (
    DONE,
    FINISH,
    STREAM_HEAD,
    answer,
    end,
    json_response,
    said,
    usage_chunk,
)
from tests.relay.upstream.support import Peer

STREAM = body_of(model=SCRIPTED, stream=True)
RESPONSE = json.dumps({"model": SCRIPTED, "input": "Hello", "stream": True}).encode()
PAUSE_SECONDS = 0.05
LAST_CHUNK = b"0\r\n\r\n"
REFUSED = json_response(400, {"error": {"message": "Sorry", "type": "x", "code": "y"}})


class Thinker:
    """Says nothing until it is told to, and then this."""

    def __init__(self, *writes: bytes) -> None:
        self.answers = asyncio.Event()
        self._writes = writes

    async def play(self, peer: Peer) -> None:
        await peer.request()
        await self.answers.wait()
        await peer.send(*self._writes)
        await end(peer)


async def whole_answer(
    gateway: Gateway, *writes: bytes, body: bytes = STREAM, path: str = CHAT
) -> tuple[bytes, bytes]:
    """The head and what follows it, where upstream waits until the client has heard of it."""
    await gateway.worker(keep_alive_seconds=PAUSE_SECONDS)
    upstream = Thinker(*writes)
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with gateway.visit(customer, body, path=path) as visitor:
        head = await visitor.see(b"\r\n\r\n")
        for _ in range(3):
            await visitor.see(KEEP_ALIVE)
        upstream.answers.set()
        return head, await visitor.see(LAST_CHUNK)


async def test_the_head_of_a_stream_comes_before_upstreams(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    writes = (STREAM_HEAD, said("one"), FINISH, usage_chunk(9, 2), DONE)
    head, rest = await whole_answer(gateway, *writes)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: text/event-stream" in head
    assert b"x-request-id: req_" in head
    assert b"access-control-allow-origin: *" in head
    for event in (said("one"), FINISH, DONE):
        assert rest.count(event) == 1
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd) == ("completed", charge_of(9, 2))


@pytest.mark.parametrize("refusal", [REFUSED, answer({"content": "No stream at all"})])
async def test_what_fails_then_is_told_inside_of_the_stream(
    empty_gateway: Gateway, refusal: bytes
) -> None:
    gateway = empty_gateway
    _, rest = await whole_answer(gateway, refusal)
    assert b'data: {"error":{"message":' in rest
    assert DONE in rest
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd) == ("upstream_error", 0)


async def test_agents_are_told_in_their_own_event(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    _, rest = await whole_answer(gateway, REFUSED, body=RESPONSE, path="/v1/responses")
    (told,) = [one for one in rest.split(b"\n") if one.startswith(b'data: {"type":"response.fail')]
    failed = json.loads(told.removeprefix(b"data: "))
    assert failed["sequence_number"] == 0
    assert failed["response"]["id"].startswith("resp_")
    assert failed["response"]["error"] == {"code": "y", "message": "Sorry"}
    assert (await gateway.record()).charge_nano_usd == 0


async def test_a_server_that_stops_ends_it(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    worker = await gateway.worker(keep_alive_seconds=PAUSE_SECONDS)
    upstream = Thinker()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with gateway.visit(customer, STREAM) as visitor:
        await visitor.see(KEEP_ALIVE)
        stopping = asyncio.create_task(worker.application.drain(0))
        rest = await visitor.see(LAST_CHUNK)
        await stopping
    assert b'"code":"server_draining"' in rest
    assert DONE in rest
    assert (await gateway.record()).charge_nano_usd == 0


async def test_a_call_without_a_stream_waits(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    await gateway.worker(keep_alive_seconds=PAUSE_SECONDS)
    upstream = Thinker(REFUSED)
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with (
        gateway.visit(customer, body_of(model=SCRIPTED)) as visitor,
        gateway.visit(customer, STREAM) as streaming,
    ):
        await streaming.see(KEEP_ALIVE)
        upstream.answers.set()
        assert (await visitor.see(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    await gateway.records(2)
