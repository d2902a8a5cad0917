"""Reading what is there without waiting, and how long a reader has been waiting."""

import asyncio

from relay.upstream import UpstreamEngine
from relay.upstream.response import EngineResponse
from tests.relay.upstream.support import OK, Peer, Serve, call, until

HEAD = OK + b"content-length: 1000000\r\n\r\n"


async def test_what_has_arrived_is_read_without_waiting(
    engine: UpstreamEngine, serve: Serve
) -> None:
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, b"one", b" two")
        await goes_on.wait()
        await peer.send(b" three")
        await peer.left()

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert isinstance(response, EngineResponse)
        await until(lambda: response.unread_bytes == 7)
        assert response.read_now() == b"one two"
        assert response.read_now() == b""
        goes_on.set()
        assert await response.read() == b" three"
        await response.close()
        assert response.read_now() == b""


async def test_what_is_read_at_once_makes_room_for_more(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, b"x" * 1_000_000)

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert isinstance(response, EngineResponse)
        size = 0
        while size < 1_000_000:
            # It fills up to its limit, and stays there until somebody reads.
            await until(lambda: response.unread_bytes > 0)
            size += len(response.read_now())
        assert size == 1_000_000


async def test_silence_lasts_from_the_readers_call_to_the_next_bytes(
    engine: UpstreamEngine, serve: Serve
) -> None:
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        await goes_on.wait()
        await peer.send(b"one")
        await peer.left()

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert response.silent_seconds == 0
        reading = asyncio.ensure_future(response.read())
        await until(lambda: response.silent_seconds > 0.01)
        goes_on.set()
        assert await reading == b"one"
        assert response.silent_seconds == 0
