"""Clients that do not read what they asked for: cut at the deadline, then as those that left."""

import asyncio
from dataclasses import dataclass, field

import pytest
from pytest_django import Settings

from gateway.http.protocol import HttpProtocol
from relay.upstream import Limits
from tests.adversary.gateway import SCRIPTED, USD, Gateway, Worker, body_of, charge_of, until
from tests.adversary.upstream import (
    DONE,
    FINISH,
    STREAM_HEAD,
    answer,
    chunk,
    end,
    usage_chunk,
    usage_of,
)
from tests.relay.streams.clients import WAYS, Client
from tests.relay.upstream.support import Peer

STREAM = body_of(model=SCRIPTED, stream=True)
# A word a chunk, and fields that make it large.
EVENT = chunk({"content": " word"}, padding="x" * 10_000)
# What both kernels keep for a connection at most, and then some; a stream is much longer.
KERNEL_BYTES = 16 * 2**20
ENOUGH_EVENTS = 2 * KERNEL_BYTES // len(EVENT)
# What the server keeps: a full buffer, and the piece on top of which it was full.
BUFFER_BYTES = 64 * 1024 + Limits().unread_bytes + 256 * 1024


@pytest.fixture(autouse=True)
def short_deadline(settings: Settings) -> None:
    settings.WRITE_SECONDS = 0.4


@dataclass
class Torrent:
    """An upstream that says more than any buffer holds, as fast as it is taken."""

    events: int = ENOUGH_EVENTS
    sent: int = 0
    played_out: bool = False
    broken_off: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD)
        try:
            for _ in range(self.events):
                peer.writer.write(EVENT)
                await peer.writer.drain()
                self.sent += 1
            await peer.send(FINISH, usage_chunk(9, 1000), DONE)
            await end(peer)
            self.played_out = True
        except ConnectionError:
            self.broken_off.set()


def connections(worker: Worker) -> list[HttpProtocol]:
    return list(worker._server.http.connections)


async def stuck(worker: Worker, upstream: Torrent) -> None:
    """Return when the client takes nothing more, and so the upstream is no longer read."""
    await until(lambda: any(one.is_writing_paused for one in connections(worker)), "a full buffer")
    sent = -1
    while sent != upstream.sent:
        sent = upstream.sent
        await asyncio.sleep(0.05)


@pytest.fixture
async def gateway(empty_gateway: Gateway, settings: Settings) -> Gateway:
    """One that reads every stream to its end."""
    settings.CLIENT_LEFT_DRAIN_BYTES = 2**30
    await empty_gateway.worker()
    return empty_gateway


async def test_f35_who_stops_reading_is_cut_and_the_stream_read_on(gateway: Gateway) -> None:
    upstream = Torrent()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    worker = gateway.workers[0]
    async with Client(worker.port) as client:
        await client.ask(customer, STREAM)
        await stuck(worker, upstream)
        # Nothing is gathered for the client: what it does not take stays where it comes from.

        assert upstream.sent * len(EVENT) < KERNEL_BYTES
        [connection] = connections(worker)
        assert connection.transport.get_write_buffer_size() < BUFFER_BYTES
        record = await gateway.record()
        assert upstream.played_out
        await client.see_end()
    assert (record.outcome, record.usage_source) == ("client_left", "upstream")
    assert record.charge_nano_usd == charge_of(9, 1000)
    assert b"[DONE]" not in client.received
    assert connections(worker) == []


async def test_what_has_come_for_a_slow_reader_is_paid_though_it_was_not_sent(
    empty_gateway: Gateway, settings: Settings
) -> None:
    gateway = empty_gateway
    settings.CLIENT_LEFT_POLICY = "cancel"
    worker = await gateway.worker()
    upstream = Torrent()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with Client(worker.port) as client:
        await client.ask(customer, STREAM)
        await upstream.broken_off.wait()
        record = await gateway.record()
        await client.see_end()
    assert (record.outcome, record.usage_source) == ("client_left", "estimated")
    # What filled the buffers on the way to the client, too.
    assert client.received.count(b'"content"') < record.completion_tokens <= upstream.sent
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert upstream.sent * len(EVENT) < KERNEL_BYTES


@pytest.mark.parametrize("way", WAYS)
async def test_who_leaves_without_having_read_is_gone_at_once_or_at_the_deadline(
    gateway: Gateway, way: str
) -> None:
    """Closing says that nothing more is wanted, half a close that the rest might still be read."""
    upstream = Torrent()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    worker = gateway.workers[0]
    async with Client(worker.port) as client:
        await client.ask(customer, STREAM)
        await stuck(worker, upstream)
        WAYS[way](client)
        record = await gateway.record()
        assert (record.outcome, record.usage_source) == ("client_left", "upstream")
        assert record.charge_nano_usd == charge_of(9, 1000)
        await until(lambda: connections(worker) == [], "the connection's end")


async def test_who_goes_on_reading_in_time_gets_everything(
    empty_gateway: Gateway, settings: Settings
) -> None:
    settings.WRITE_SECONDS = 30.0
    gateway = empty_gateway
    await gateway.worker()
    upstream = Torrent()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    worker = gateway.workers[0]
    async with Client(worker.port) as client:
        await client.ask(customer, STREAM)
        await stuck(worker, upstream)
        await client.see_end(b"0\r\n\r\n")
        record = await gateway.record()
    assert client.received.count(b'"content"') == upstream.events
    assert client.received.count(DONE) == 1
    assert (record.outcome, record.usage_source) == ("completed", "upstream")
    assert record.charge_nano_usd == charge_of(9, 1000)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_the_unread_end_of_an_answer_keeps_no_connection(
    gateway: Gateway, connection: str
) -> None:
    """Everything is settled and sent, but bytes that nobody takes must not stay for ever."""

    async def script(peer: Peer) -> None:
        await peer.request()
        padding = "x" * KERNEL_BYTES
        await peer.send(answer({"content": "one two"}, usage=usage_of(9, 2), padding=padding))

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    worker = gateway.workers[0]
    async with Client(worker.port) as client:
        await client.ask(customer, body_of(model=SCRIPTED), connection=connection)
        record = await gateway.record()
        assert (record.outcome, record.usage_source) == ("completed", "upstream")
        assert record.charge_nano_usd == charge_of(9, 2)
        await until(lambda: connections(worker) == [], "the connection's end")
