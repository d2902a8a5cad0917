"""Cancelling a call anywhere leaves no socket, no slot and no answer behind."""

import asyncio
import random
import ssl
from collections.abc import Callable

import pytest

from relay.upstream import Destination, PoolStatistics, UpstreamEngine
from tests.relay.upstream.support import OK, Peer, Serve, Upstream, call, fetch, open_sockets, until

NOTHING = PoolStatistics(open=0, idle=0, busy=0, connecting=0, waiting=0)
ROUNDS = 60


async def echo(peer: Peer) -> None:
    """Answer each request with its target, in two parts."""
    while True:
        head, _ = await peer.request()
        target = head.split(b" ")[1]
        await peer.send(OK + b"content-length: %d\r\n\r\n" % len(target), target[:1], target[1:])


async def cancel_after(rounds: int, engine: UpstreamEngine, destination: Destination) -> None:
    """Give a call so many rounds of the loop."""
    body = b"x" * 200_000
    running = asyncio.create_task(
        fetch(engine, destination, method=b"POST", target=b"/cancelled", body=body)
    )
    for _ in range(rounds):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled() or running.result() == b"/cancelled"


def is_settled(engine: UpstreamEngine, destination: Destination) -> bool:
    statistics = engine.statistics()[destination]
    return (statistics.busy, statistics.connecting, statistics.waiting) == (0, 0, 0)


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("is_warm", [False, True])
async def test_after_any_number_of_rounds(
    serve: Serve,
    server_context: ssl.SSLContext,
    ca_file: str,
    is_tls: bool,
    is_warm: bool,
) -> None:
    upstream = await serve(echo, tls=server_context if is_tls else None)
    destination = tls_destination(upstream, ca_file) if is_tls else upstream.destination
    for rounds in range(ROUNDS):
        engine = UpstreamEngine()
        if is_warm:
            assert await fetch(engine, destination, target=b"/warm") == b"/warm"
        await cancel_after(rounds, engine, destination)
        if destination in engine.statistics():
            assert is_settled(engine, destination)
        assert await fetch(engine, destination, target=b"/next") == b"/next"
        assert is_settled(engine, destination)
        await engine.close()
        assert engine.statistics() == {destination: NOTHING}


def tls_destination(upstream: Upstream, ca_file: str) -> Destination:
    return Destination(
        host="127.0.0.1", port=upstream.port, server_name="upstream.test", ca_file=ca_file
    )


async def test_no_socket_stays_open(
    serve: Serve, server_context: ssl.SSLContext, ca_file: str, engine: UpstreamEngine
) -> None:
    upstream = await serve(echo, tls=server_context)
    destination = tls_destination(upstream, ca_file)
    await fetch(engine, destination)
    before = open_sockets()
    calls = [asyncio.create_task(fetch(engine, destination)) for _ in range(40)]
    for rounds, running in enumerate(calls):
        running.cancel()
        for _ in range(rounds):
            await asyncio.sleep(0)
    await asyncio.wait(calls)
    assert is_settled(engine, destination)
    await engine.close()
    await until(lambda: open_sockets() < before)


async def test_while_waiting_for_a_connection(
    make_engine: Callable[..., UpstreamEngine], serve: Serve
) -> None:
    upstream = await serve(echo)
    destination = upstream.destination
    for rounds in range(ROUNDS // 2):
        engine = make_engine(connections_per_destination=1)
        calls = [
            asyncio.create_task(fetch(engine, destination, target=b"/%d" % n)) for n in range(4)
        ]
        await asyncio.sleep(0)
        await cancel_after(rounds, engine, destination)
        assert await asyncio.gather(*calls) == [b"/%d" % n for n in range(4)]
        assert is_settled(engine, destination)
        assert engine.statistics()[destination].open <= 1


async def test_in_the_very_round_in_which_a_connection_is_handed_over(
    make_engine: Callable[..., UpstreamEngine], serve: Serve
) -> None:
    upstream = await serve(echo)
    engine = make_engine(connections_per_destination=1)
    await fetch(engine, upstream.destination)
    pool = engine._pools[upstream.destination.key]
    for gives_slot in (False, True):
        connection = pool.take_idle()
        assert connection is not None
        first, second = [asyncio.create_task(fetch(engine, upstream.destination)) for _ in range(2)]
        await until(lambda: engine.statistics()[upstream.destination].waiting == 2)
        if gives_slot:
            connection.abort()
        else:
            pool.connection_free(connection)
        first.cancel()
        assert await second == b"/"
        assert first.cancelled()
        assert is_settled(engine, upstream.destination)


async def test_a_cancelled_read_can_be_repeated(engine: UpstreamEngine, serve: Serve) -> None:
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 5\r\n\r\n")
        await may_go_on.wait()
        await peer.send(b"hello")
        await peer.left()

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        may_go_on.set()
        assert await response.read_all(5) == b"hello"
    assert engine.statistics()[upstream.destination].idle == 1


async def test_a_storm_of_cancellations_never_mixes_answers(
    make_engine: Callable[..., UpstreamEngine], serve: Serve
) -> None:
    engine = make_engine(connections_per_destination=5)
    upstream = await serve(echo)
    chance = random.Random(20261120)

    async def one(number: int) -> bool:
        target = b"/%d" % number
        running = asyncio.create_task(fetch(engine, upstream.destination, target=target))
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            running.cancel()
        await asyncio.wait([running])
        assert running.cancelled() or running.result() == target
        return running.cancelled()

    cancelled = await asyncio.gather(*[one(number) for number in range(600)])
    assert 50 < sum(cancelled) < 550
    assert is_settled(engine, upstream.destination)
    assert engine.statistics()[upstream.destination].open <= 5
