"""Neither a slow reader nor a slow upstream makes us hold much."""

import asyncio
import ssl

import pytest

from relay.upstream import Deadlines, Destination, IdleTimeout, TotalTimeout, UpstreamEngine
from relay.upstream.connection import PIECE_BYTES, Connection
from relay.upstream.response import EngineResponse
from tests.relay.upstream.support import OK, Peer, Serve, Upstream, call, until

BLOCK = b"x" * 65_536
BLOCKS = 160

# Reading is paused after a delivery, and event loops deliver up to half a megabyte at once.
UNREAD_BYTES_MAX = 64 * 1024 + 512 * 1024


async def send_blocks(peer: Peer) -> None:
    await peer.answer(OK + b"content-length: %d\r\n\r\n" % (BLOCKS * len(BLOCK)))
    for _ in range(BLOCKS):
        await peer.send(BLOCK)
    await peer.answer(OK + b"content-length: 0\r\n\r\n")


async def stalled(
    engine: UpstreamEngine, destination: Destination, **fields: object
) -> EngineResponse:
    """Return a response of many blocks, once we have stopped receiving it."""
    response = await engine.send(call(destination, **fields))
    assert isinstance(response, EngineResponse)
    assert isinstance(response._source, Connection)
    connection = response._source
    await until(lambda: connection._is_reading_paused)
    return response


async def read_on(engine: UpstreamEngine, destination: Destination) -> None:
    response = await stalled(engine, destination)
    for _ in range(20):
        await asyncio.sleep(0)
        assert len(BLOCK) <= response.unread_bytes <= UNREAD_BYTES_MAX
    seen = 0
    while piece := await response.read():
        seen += len(piece)
        assert len(piece) <= UNREAD_BYTES_MAX
    assert seen == BLOCKS * len(BLOCK)
    empty = await engine.send(call(destination))
    assert await empty.read() == b""
    assert engine.statistics()[destination].idle == 1


async def test_what_nobody_reads_is_not_received(engine: UpstreamEngine, serve: Serve) -> None:
    upstream = await serve(send_blocks)
    await read_on(engine, upstream.destination)
    assert upstream.accepted == 1


async def test_the_same_under_tls(
    engine: UpstreamEngine, serve: Serve, server_context: ssl.SSLContext, ca_file: str
) -> None:
    upstream = await serve(send_blocks, tls=server_context)
    await read_on(engine, named(upstream, ca_file))
    assert upstream.accepted == 1


def named(upstream: Upstream, ca_file: str) -> Destination:
    return Destination(
        host="127.0.0.1", port=upstream.port, server_name="upstream.test", ca_file=ca_file
    )


async def test_a_slow_reader_is_not_an_idle_upstream(engine: UpstreamEngine, serve: Serve) -> None:
    upstream = await serve(send_blocks)
    limits = Deadlines(idle_seconds=0.2, total_seconds=0.6)
    response = await engine.send(call(upstream.destination, deadlines=limits))
    # Only the total deadline ends this, long after the upstream could last send anything.
    await until(lambda: engine.statistics()[upstream.destination].open == 0)
    assert 0 < len(await response.read()) <= UNREAD_BYTES_MAX
    with pytest.raises(TotalTimeout):
        await response.read()


async def test_an_upstream_is_idle_again_once_the_reader_has_caught_up(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 1000000\r\n\r\n" + 4 * BLOCK)
        await peer.left()

    upstream = await serve(script)
    limits = Deadlines(idle_seconds=0.2, total_seconds=30.0)
    response = await stalled(engine, upstream.destination, deadlines=limits)
    seen = 0
    while seen < 4 * len(BLOCK):
        seen += len(await response.read())
    with pytest.raises(IdleTimeout):
        await response.read()


async def test_closing_a_stalled_response_frees_its_connection(
    engine: UpstreamEngine, serve: Serve
) -> None:
    upstream = await serve(send_blocks)
    response = await stalled(engine, upstream.destination)
    await response.close()
    assert engine.statistics()[upstream.destination].open == 0


async def test_a_body_is_not_buffered_for_an_upstream_that_does_not_read(
    engine: UpstreamEngine, serve: Serve
) -> None:
    may_read = asyncio.Event()
    body = BLOCK * BLOCKS

    async def script(peer: Peer) -> None:
        await may_read.wait()
        _, seen = await peer.request()
        assert seen == body
        await peer.send(OK + b"content-length: 0\r\n\r\n")

    upstream = await serve(script)
    sending = asyncio.create_task(
        engine.send(call(upstream.destination, method=b"POST", body=body))
    )
    await until(lambda: engine.statistics().get(upstream.destination) is not None)
    pool = engine._pools[upstream.destination.key]
    await until(lambda: any(one._is_writing_paused for one in pool._connections))
    (connection,) = pool._connections
    for _ in range(20):
        await asyncio.sleep(0)
        assert connection._transport.get_write_buffer_size() <= 2 * PIECE_BYTES
    may_read.set()
    assert (await sending).status == 200
    assert engine.statistics()[upstream.destination].idle == 1
