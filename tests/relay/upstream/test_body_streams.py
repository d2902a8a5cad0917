"""Request bodies that are sent while they come."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay.upstream import (
    BodyStream,
    ConnectionBroken,
    Deadlines,
    FirstByteTimeout,
    TotalTimeout,
    UpstreamEngine,
)
from tests.relay.upstream.support import HELLO, Peer, Serve, call, until

PIECE = b"x" * 65_536


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_body_of_known_length(engine: UpstreamEngine, serve: Serve) -> None:
    got: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            got.append(await peer.request())
            await peer.send(HELLO)

    upstream = await serve(script)
    for _ in range(2):  # The connection serves again.
        body = BodyStream(pieces=of(b"one", b"", b"two"), length=6)
        async with await engine.send(
            call(upstream.destination, method=b"POST", body=body)
        ) as answer:
            assert await answer.read_all(100) == b"hello"
    assert [body for _, body in got] == [b"onetwo"] * 2
    assert upstream.accepted == 1


async def test_a_body_of_unknown_length_is_sent_in_chunks(
    engine: UpstreamEngine, serve: Serve
) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.reader.readuntil(b"\r\n\r\n"))
        got.append(await peer.reader.readuntil(b"0\r\n\r\n"))
        await peer.send(HELLO)

    upstream = await serve(script)
    body = BodyStream(pieces=of(b"one", b"", b"four"))
    async with await engine.send(call(upstream.destination, method=b"POST", body=body)) as answer:
        assert await answer.read_all(100) == b"hello"
    assert b"\r\ntransfer-encoding: chunked\r\n" in got[0]
    assert b"content-length" not in got[0]
    assert got[1] == b"3\r\none\r\n4\r\nfour\r\n0\r\n\r\n"


async def test_an_upstream_that_does_not_read_holds_the_source_back(
    engine: UpstreamEngine, serve: Serve
) -> None:
    taken = 0
    may_read = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(400):
            taken += 1
            yield PIECE

    async def script(peer: Peer) -> None:
        await may_read.wait()
        await peer.request()
        await peer.send(HELLO)

    upstream = await serve(script)
    body = BodyStream(pieces=pieces(), length=400 * len(PIECE))
    sending = asyncio.ensure_future(
        engine.send(call(upstream.destination, method=b"POST", body=body))
    )
    before = -1
    while taken != before or not taken:  # Until nothing moves any more.
        before = taken
        await asyncio.sleep(0.1)
    assert taken < 300
    may_read.set()
    async with await sending as answer:
        assert await answer.read_all(100) == b"hello"
    assert taken == 400


async def test_a_refusal_stops_a_body_that_is_still_coming(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.Event().wait()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\none")
        await peer.send(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        assert await peer.left() == b""

    upstream = await serve(script)
    body = BodyStream(pieces=pieces(), length=6)
    async with await engine.send(call(upstream.destination, method=b"POST", body=body)) as answer:
        assert (answer.status, await answer.read_all(10)) == (413, b"no")
    await until(lambda: engine.statistics()[upstream.destination].open == 0)


class SourceBroke(Exception):
    pass


async def test_a_source_that_breaks_breaks_the_call(engine: UpstreamEngine, serve: Serve) -> None:
    ended: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise SourceBroke

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        ended.append(await peer.left())

    upstream = await serve(script)
    body = BodyStream(pieces=pieces(), length=6)
    with pytest.raises(SourceBroke):
        await engine.send(call(upstream.destination, method=b"POST", body=body))
    await until(lambda: bool(ended))
    assert ended[0] in (b"one", b"")
    assert engine.statistics()[upstream.destination].open == 0


@pytest.mark.parametrize("pieces", [(b"one",), (b"one", b"two", b"three")])
async def test_a_body_of_another_length_than_said_is_not_completed(
    engine: UpstreamEngine, serve: Serve, pieces: tuple[bytes, ...]
) -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.left())

    upstream = await serve(script)
    body = BodyStream(pieces=of(*pieces), length=6)
    with pytest.raises(RuntimeError, match="bytes"):
        await engine.send(call(upstream.destination, method=b"POST", body=body))
    await until(lambda: bool(got))
    assert b"three" not in got[0]
    assert engine.statistics()[upstream.destination].open == 0


async def test_an_upstream_that_leaves_is_seen_while_the_source_is_silent(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.Event().wait()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"one")
        peer.reset()

    upstream = await serve(script)
    body = BodyStream(pieces=pieces(), length=6)
    with pytest.raises(ConnectionBroken) as broken:
        await engine.send(call(upstream.destination, method=b"POST", body=body))
    assert broken.value.sent


async def test_deadlines_begin_when_the_body_is_sent(engine: UpstreamEngine, serve: Serve) -> None:
    """The first byte is not due while the client still sends; the whole call is."""
    may_go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await may_go_on.wait()
        yield b"two"

    async def script(peer: Peer) -> None:
        await peer.left()

    upstream = await serve(script)
    deadlines = Deadlines(first_byte_seconds=0.05, total_seconds=20)
    body = BodyStream(pieces=pieces(), length=6)
    request = call(upstream.destination, method=b"POST", body=body, deadlines=deadlines)
    sending = asyncio.ensure_future(engine.send(request))
    await asyncio.wait((sending,), timeout=0.2)
    assert not sending.done()
    may_go_on.set()
    with pytest.raises(FirstByteTimeout):
        await sending
    may_go_on.clear()
    body = BodyStream(pieces=pieces(), length=6)
    deadlines = Deadlines(total_seconds=0.05)
    with pytest.raises(TotalTimeout):
        await engine.send(
            call(upstream.destination, method=b"POST", body=body, deadlines=deadlines)
        )


async def test_a_call_that_is_cancelled_leaves_nothing_behind(
    engine: UpstreamEngine, serve: Serve
) -> None:
    has_ended = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal has_ended
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            has_ended = True

    async def script(peer: Peer) -> None:
        await peer.left()

    upstream = await serve(script)
    body = BodyStream(pieces=pieces(), length=6)
    sending = asyncio.ensure_future(
        engine.send(call(upstream.destination, method=b"POST", body=body))
    )
    await until(lambda: upstream.accepted == 1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert has_ended
    assert engine.statistics()[upstream.destination].open == 0
