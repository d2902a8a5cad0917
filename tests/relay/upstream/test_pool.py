"""Which connection a call gets, and when a connection is not used again."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from relay.upstream import (
    ConnectFailed,
    ConnectionBroken,
    Deadlines,
    PoolStatistics,
    PoolTimeout,
    UpstreamEngine,
)
from tests.relay.upstream.support import HELLO, OK, Peer, Serve, Upstream, call, fetch, until

MakeEngine = Callable[..., UpstreamEngine]

NOTHING = PoolStatistics(open=0, idle=0, busy=0, connecting=0, waiting=0)
IMPATIENT = Deadlines(connect_seconds=0.05)


async def serve_hello(peer: Peer) -> None:
    while True:
        await peer.answer(HELLO)


class Gate:
    """An upstream that answers each request with its target, one answer per opening."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, asyncio.Event]] = []

    async def script(self, peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            target = head.split(b" ")[1]
            opened = asyncio.Event()
            self.waiting.append((target, opened))
            await opened.wait()
            await peer.send(OK + b"content-length: %d\r\n\r\n%b" % (len(target), target))

    def open(self) -> bytes:
        target, opened = self.waiting.pop(0)
        opened.set()
        return target


def statistics(engine: UpstreamEngine, upstream: Upstream) -> PoolStatistics:
    return engine.statistics().get(upstream.destination, NOTHING)


def leave_unnoticed(peer: Peer) -> None:
    """Let the peer's FIN arrive without the event loop getting a chance to see it."""
    with socket.socket(fileno=os.dup(peer.writer.get_extra_info("socket").fileno())) as double:
        double.shutdown(socket.SHUT_RDWR)


async def test_calls_in_turn_share_a_connection(engine: UpstreamEngine, serve: Serve) -> None:
    upstream = await serve(serve_hello)
    for _ in range(5):
        assert await fetch(engine, upstream.destination) == b"hello"
    assert upstream.accepted == 1
    expected = PoolStatistics(open=1, idle=1, busy=0, connecting=0, waiting=0)
    assert statistics(engine, upstream) == expected


async def test_silent_connections_are_probed(engine: UpstreamEngine, serve: Serve) -> None:
    upstream = await serve(serve_hello)
    await fetch(engine, upstream.destination)
    (connection,) = engine._pools[upstream.destination.key]._connections
    ours = connection._transport.get_extra_info("socket")
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_calls_at_once_have_connections_of_their_own(
    engine: UpstreamEngine, serve: Serve
) -> None:
    gate = Gate()
    upstream = await serve(gate.script)
    calls = [asyncio.create_task(fetch(engine, upstream.destination)) for _ in range(3)]
    await until(lambda: len(gate.waiting) == 3)
    assert (statistics(engine, upstream).busy, upstream.accepted) == (3, 3)
    for _ in range(3):
        gate.open()
    assert await asyncio.gather(*calls) == [b"/"] * 3
    assert statistics(engine, upstream).idle == 3


async def test_destinations_do_not_share(engine: UpstreamEngine, serve: Serve) -> None:
    one, other = await serve(serve_hello), await serve(serve_hello)
    for upstream in (one, other, one, other):
        await fetch(engine, upstream.destination)
    assert (one.accepted, other.accepted) == (1, 1)


@pytest.mark.parametrize(
    "response",
    [
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"keep-alive: timeout=1\r\ncontent-length: 5\r\n\r\nhello",
        HELLO + HELLO,
        HELLO + b"x",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 500 x\r\n\r\n",
    ],
)
async def test_a_connection_that_ends_or_says_too_much_is_not_used_again(
    engine: UpstreamEngine, serve: Serve, response: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(response)
        assert await peer.left() == b""

    upstream = await serve(script)
    for count in (1, 2):
        assert await fetch(engine, upstream.destination) == b"hello"
        assert (statistics(engine, upstream).open, upstream.accepted) == (0, count)


async def test_bytes_on_an_idle_connection_close_it(engine: UpstreamEngine, serve: Serve) -> None:
    may_speak = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(HELLO)
        await may_speak.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await peer.left()

    upstream = await serve(script)
    await fetch(engine, upstream.destination)
    may_speak.set()
    await until(lambda: statistics(engine, upstream).open == 0)


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_dead_connection_is_noticed_before_it_is_used(
    engine: UpstreamEngine, serve: Serve, speaks: bool
) -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await serve_hello(peer)

    upstream = await serve(script)
    await fetch(engine, upstream.destination)
    if speaks:
        os.write(peers[0].writer.get_extra_info("socket").fileno(), b"HTTP/1.1 200 Forged\r\n")
    else:
        leave_unnoticed(peers[0])
    # Not a single round of the loop between: only the kernel knows.
    assert await fetch(engine, upstream.destination, method=b"POST", body=b"once") == b"hello"
    assert upstream.accepted == 2


async def test_a_peer_that_leaves_is_forgotten(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(HELLO)

    upstream = await serve(script)
    await fetch(engine, upstream.destination)
    await until(lambda: statistics(engine, upstream).open == 0)


async def test_an_unused_connection_is_closed_in_time(
    make_engine: MakeEngine, serve: Serve
) -> None:
    engine = make_engine(keep_alive_seconds=0.03)
    upstream = await serve(serve_hello)
    await fetch(engine, upstream.destination)
    await until(lambda: statistics(engine, upstream).open == 0)


async def test_connections_are_bounded_and_calls_served_in_order(
    make_engine: MakeEngine, serve: Serve
) -> None:
    engine = make_engine(connections_per_destination=2)
    gate = Gate()
    upstream = await serve(gate.script)
    targets = [b"/%d" % n for n in range(8)]
    calls = []
    for target in targets:
        calls.append(asyncio.create_task(fetch(engine, upstream.destination, target=target)))
        await asyncio.sleep(0)
    await until(lambda: len(gate.waiting) == 2)
    expected = PoolStatistics(open=2, idle=0, busy=2, connecting=0, waiting=6)
    assert statistics(engine, upstream) == expected
    served = [gate.open()]
    while len(served) < len(targets):
        await until(lambda: len(gate.waiting) == min(2, len(targets) - len(served)))
        served.append(gate.open())
    assert await asyncio.gather(*calls) == targets
    assert served[2:] == targets[2:]
    assert upstream.accepted == 2


async def test_a_slot_passes_to_the_first_in_line_when_a_connection_breaks(
    make_engine: MakeEngine, serve: Serve
) -> None:
    engine = make_engine(connections_per_destination=1)
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        head, _ = await peer.request()
        if b"GET /break" in head:
            await peer.left()
        else:
            await peer.send(HELLO)

    upstream = await serve(script)
    breaking = asyncio.create_task(fetch(engine, upstream.destination, target=b"/break"))
    await until(lambda: len(peers) == 1)
    waiting = asyncio.create_task(fetch(engine, upstream.destination))
    await until(lambda: statistics(engine, upstream).waiting == 1)
    peers[0].reset()
    with pytest.raises(ConnectionBroken):
        await breaking
    assert await waiting == b"hello"


async def test_who_is_handed_a_dying_connection_does_not_lose_the_place(
    make_engine: MakeEngine, serve: Serve
) -> None:
    engine = make_engine(connections_per_destination=1)
    gate = Gate()
    upstream = await serve(gate.script)
    warm = asyncio.create_task(fetch(engine, upstream.destination))
    await until(lambda: len(gate.waiting) == 1)
    gate.open()
    await warm
    pool = engine._pools[upstream.destination.key]
    connection = pool.take_idle()
    assert connection is not None
    targets = [b"/1", b"/2", b"/3"]
    calls = [
        asyncio.create_task(fetch(engine, upstream.destination, target=target))
        for target in targets
    ]
    await until(lambda: statistics(engine, upstream).waiting == 3)
    pool.connection_free(connection)
    connection.abort()
    served = []
    for _ in targets:
        await until(lambda: len(gate.waiting) == 1)
        served.append(gate.open())
    # The slot went to the second at once; the first comes before the third.
    assert served == [b"/2", b"/1", b"/3"]
    assert await asyncio.gather(*calls) == targets
    assert statistics(engine, upstream).open == 1


async def test_waiting_is_bounded_in_time(make_engine: MakeEngine, serve: Serve) -> None:
    engine = make_engine(connections_per_destination=1)
    gate = Gate()
    upstream = await serve(gate.script)
    first = asyncio.create_task(fetch(engine, upstream.destination))
    await until(lambda: len(gate.waiting) == 1)
    with pytest.raises(PoolTimeout) as failure:
        await fetch(engine, upstream.destination, deadlines=IMPATIENT)
    assert failure.value.sent is False
    assert statistics(engine, upstream).waiting == 0
    gate.open()
    assert await first == b"/"


async def test_waiting_is_bounded_in_number(make_engine: MakeEngine, serve: Serve) -> None:
    engine = make_engine(connections_per_destination=1, waiting_per_destination=1)
    gate = Gate()
    upstream = await serve(gate.script)
    calls = [asyncio.create_task(fetch(engine, upstream.destination)) for _ in range(2)]
    await until(lambda: statistics(engine, upstream).waiting == 1)
    with pytest.raises(PoolTimeout) as failure:
        await fetch(engine, upstream.destination)
    assert failure.value.sent is False
    for _ in range(2):
        await until(lambda: len(gate.waiting) == 1)
        gate.open()
    assert await asyncio.gather(*calls) == [b"/"] * 2


async def test_closing_breaks_what_runs_and_refuses_what_comes(
    make_engine: MakeEngine, serve: Serve
) -> None:
    engine = make_engine(connections_per_destination=1)
    gate = Gate()
    upstream = await serve(gate.script)
    running = asyncio.create_task(fetch(engine, upstream.destination))
    await until(lambda: len(gate.waiting) == 1)
    waiting = asyncio.create_task(fetch(engine, upstream.destination))
    await until(lambda: statistics(engine, upstream).waiting == 1)
    await engine.close()
    await engine.close()
    with pytest.raises(ConnectionBroken) as broken:
        await running
    assert broken.value.sent is True
    for refused in (waiting, engine.send(call(upstream.destination))):
        with pytest.raises(ConnectFailed) as failure:
            await refused
        assert failure.value.sent is False
    assert statistics(engine, upstream) == NOTHING


async def test_a_connection_opened_while_closing_is_not_kept(
    engine: UpstreamEngine, serve: Serve
) -> None:
    upstream = await serve(serve_hello)
    opening = asyncio.create_task(engine.send(call(upstream.destination)))
    await asyncio.sleep(0)
    assert statistics(engine, upstream).connecting == 1
    await engine.close()
    with pytest.raises(ConnectFailed):
        await opening
    assert statistics(engine, upstream).connecting == 0
