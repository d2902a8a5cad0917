"""A silent upstream: the client hears that it is still there, between events only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.metering.meter import KEEP_ALIVE
from tests.adversary.gateway import SCRIPTED, USD, Customer, Gateway, body_of, charge_of, until
from tests.adversary.upstream import DONE, FINISH, STREAM_HEAD, end, said, usage_chunk
from tests.relay.streams.clients import WAYS, Client
from tests.relay.upstream.support import Peer

STREAM = body_of(model=SCRIPTED, stream=True)
KEEP_ALIVE_SECONDS = 0.05


class Silence:
    """An upstream that says two words, with a silence before, between and inside."""

    def __init__(self) -> None:
        self.goes_on = [asyncio.Event() for _ in range(3)]

    async def play(self, peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD)
        await self.goes_on[0].wait()
        await peer.send(said("one"))
        await self.goes_on[1].wait()
        two = said(" two")
        await peer.send(two[:20])
        await self.goes_on[2].wait()
        await peer.send(two[20:], FINISH, usage_chunk(9, 2), DONE)
        await end(peer)


@asynccontextmanager
async def asking(gateway: Gateway, customer: Customer) -> AsyncIterator[Client]:
    async with Client(gateway.workers[0].port) as client:
        await client.ask(customer, STREAM)
        await client.see(b"200 OK")
        yield client


async def heard(client: Client, times: int) -> None:
    """Return when so many more comments have come."""
    wanted = client.received.count(KEEP_ALIVE) + times
    while client.received.count(KEEP_ALIVE) < wanted:
        assert await client.read()


async def test_a_silent_stream_is_kept_alive_between_its_events(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    await gateway.worker(keep_alive_seconds=KEEP_ALIVE_SECONDS)
    upstream = Silence()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with asking(gateway, customer) as client:
        for goes_on in upstream.goes_on:
            await heard(client, 3)
            goes_on.set()
        await client.see(DONE)
    # Each event is whole, though upstream fell silent in the middle of one.
    for event in (said("one"), said(" two"), FINISH):
        assert event in client.received
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("completed", "upstream")
    assert record.charge_nano_usd == charge_of(9, 2)


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_in_a_silence_is_noticed(
    empty_gateway: Gateway, way: str
) -> None:
    gateway = empty_gateway
    worker = await gateway.worker(keep_alive_seconds=KEEP_ALIVE_SECONDS)
    upstream = Silence()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with asking(gateway, customer) as client:
        await heard(client, 2)
        WAYS[way](client)
        await until(lambda: worker.departures == 1, "the departure")
    for goes_on in upstream.goes_on:
        goes_on.set()
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("client_left", "upstream")
    assert record.charge_nano_usd == charge_of(9, 2)


async def test_it_can_be_switched_off(empty_gateway: Gateway) -> None:
    gateway = empty_gateway
    await gateway.worker(keep_alive_seconds=0)
    upstream = Silence()
    await gateway.scripted(upstream.play)
    customer = await gateway.customer(USD)
    async with asking(gateway, customer) as client:
        for goes_on in upstream.goes_on:
            goes_on.set()
        await client.see(DONE)
    assert KEEP_ALIVE not in client.received
    record = await gateway.record()
    assert record.charge_nano_usd == charge_of(9, 2)
