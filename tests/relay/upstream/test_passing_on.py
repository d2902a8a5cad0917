"""Handing an answer over as it arrives, without waking its reader for each piece."""

import asyncio

import pytest

from relay.upstream import UpstreamEngine, UpstreamError
from relay.upstream.response import EngineResponse
from tests.relay.upstream.support import OK, Peer, Serve, call, until

CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


async def test_each_piece_is_taken_in_its_order_until_the_end(
    engine: UpstreamEngine, serve: Serve
) -> None:
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"3\r\none\r\n")
        await until(lambda: taken == [b"one"])
        await peer.send(b"3\r\ntwo\r\n")
        await until(lambda: taken == [b"one", b"two"])
        await peer.send(b"5\r\nthree\r\n0\r\n\r\n")

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert await response.pass_on(take)
        assert response.has_ended
    assert taken == [b"one", b"two", b"three"]


async def test_what_comes_behind_a_refusal_is_kept(engine: UpstreamEngine, serve: Serve) -> None:
    refused = asyncio.Event()
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        refused.set()
        return len(taken) > 1

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"3\r\none\r\n")
        await refused.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert isinstance(response, EngineResponse)
        assert not await response.pass_on(take)
        await until(lambda: response.unread_bytes == 3)
        assert taken == [b"one"]
        assert await response.pass_on(take)
    assert taken == [b"one", b"two"]


async def test_a_failure_of_the_taker_is_its_readers(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await reading.wait()
        await peer.send(b"3\r\none\r\n")
        await peer.left()

    def take(_: bytes) -> bool:
        raise ZeroDivisionError

    reading = asyncio.Event()
    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        reading.set()
        with pytest.raises(ZeroDivisionError):
            await response.pass_on(take)


async def test_a_break_comes_behind_what_came_before_it(
    engine: UpstreamEngine, serve: Serve
) -> None:
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"3\r\none\r\n")
        await until(lambda: taken == [b"one"])

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        with pytest.raises(UpstreamError):
            await response.pass_on(take)
    assert taken == [b"one"]


async def test_who_was_cancelled_takes_nothing_more(engine: UpstreamEngine, serve: Serve) -> None:
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, b"3\r\none\r\n")
        await peer.left()

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert isinstance(response, EngineResponse)
        reading = asyncio.create_task(response.pass_on(take))
        await until(lambda: taken == [b"one"])
        reading.cancel()
        response.feed(b"two")  # It arrives before the cancelled one runs.
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert taken == [b"one"]
        assert response.read_now() == b"two"
