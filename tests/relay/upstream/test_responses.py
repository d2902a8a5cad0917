"""What comes back through a real socket when the upstream keeps to the protocol."""

import asyncio
import gzip

import pytest

from relay.upstream import BodyTooLarge, ConnectionBroken, UpstreamEngine
from tests.relay.upstream.support import HELLO, OK, Peer, Serve, call, fetch

CHUNKED_HELLO = OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


async def test_a_response_is_returned_raw(engine: UpstreamEngine, serve: Serve) -> None:
    packed = gzip.compress(b"hello")
    head = OK + b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Encoding: gzip\r\n"

    async def script(peer: Peer) -> None:
        for _ in range(2):
            seen = await peer.answer(head + b"content-length: %d\r\n\r\n%b" % (len(packed), packed))
            assert b"\r\naccept-encoding: identity\r\n" in seen
            assert b"cookie" not in seen

    upstream = await serve(script)
    for _ in range(2):
        async with await engine.send(call(upstream.destination)) as response:
            assert response.status == 200
            assert response.headers == [
                (b"set-cookie", b"a=1"),
                (b"set-cookie", b"b=2"),
                (b"content-encoding", b"gzip"),
                (b"content-length", b"%d" % len(packed)),
            ]
            assert await response.read_all(1000) == packed


@pytest.mark.parametrize("response", [HELLO, CHUNKED_HELLO, OK + b"\r\nhello"])
async def test_a_trickled_response_is_the_same(
    engine: UpstreamEngine, serve: Serve, response: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*[response[i : i + 1] for i in range(len(response))])

    upstream = await serve(script)
    assert await fetch(engine, upstream.destination) == b"hello"


async def test_the_head_is_returned_before_the_body_and_each_read_gives_what_is_there(
    engine: UpstreamEngine, serve: Serve
) -> None:
    steps: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"transfer-encoding: chunked\r\n\r\n")
        while step := await steps.get():
            await peer.send(step)

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        for step, expected in [
            (b"1\r\na\r\n", b"a"),
            (b"1\r\nb\r\n2\r\ncd\r\n3\r\nef", b"bcdef"),
            (b"g\r\n0\r\n\r\n", b"g"),
        ]:
            steps.put_nowait(step)
            assert await response.read() == expected
        assert [await response.read(), await response.read()] == [b"", b""]
        assert await response.read_all(10) == b""
    steps.put_nowait(b"")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_body_ends_at_once(
    engine: UpstreamEngine, serve: Serve, status: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 " + status + b"\r\ncontent-length: 5\r\n\r\n")
        await peer.answer(HELLO)

    upstream = await serve(script)
    assert await fetch(engine, upstream.destination) == b""
    assert await fetch(engine, upstream.destination) == b"hello"
    assert upstream.accepted == 1


async def test_the_answer_to_head_has_no_body(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        head, _ = await peer.request()
        await peer.send(OK + b"content-length: 5\r\n\r\n" if head.startswith(b"HEAD") else HELLO)

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination, method=b"HEAD")) as response:
        assert response.headers == [(b"content-length", b"5")]
        assert await response.read() == b""
    assert await fetch(engine, upstream.destination) == b"hello"


async def test_interim_responses_are_skipped(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\na: b\r\n\r\n", HELLO
        )

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert (response.status, response.headers) == (200, [(b"content-length", b"5")])
        assert await response.read_all(5) == b"hello"


async def test_redirects_and_proxies_are_not_followed(
    engine: UpstreamEngine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    found = b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.answer(found)
        assert await peer.left() == b""

    upstream = await serve(script)
    async with await engine.send(call(upstream.destination)) as response:
        assert response.status == 302
        assert (b"location", b"/other") in response.headers
    await engine.close()


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_a_body_of_any_size_arrives_intact(
    engine: UpstreamEngine, serve: Serve, size: int
) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    received: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            _, seen = await peer.request()
            received.append(seen)
            await peer.send(HELLO)

    upstream = await serve(script)
    for _ in range(2):
        answer = await fetch(engine, upstream.destination, method=b"POST", body=body)
        assert answer == b"hello"
    assert received == [body, body]
    assert upstream.accepted == 1


async def test_an_early_refusal_ends_the_upload_and_the_connection(
    engine: UpstreamEngine, serve: Serve
) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(refusal)
        await peer.left()

    upstream = await serve(script)
    body = b"x" * 20_000_000
    async with await engine.send(call(upstream.destination, method=b"POST", body=body)) as response:
        assert response.status == 413
        assert await response.read_all(10) == b"no"
    assert engine.statistics()[upstream.destination].open == 0


async def test_an_early_complete_answer_ends_the_upload_and_the_connection(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(HELLO)
        await peer.left()

    upstream = await serve(script)
    body = b"x" * 20_000_000
    assert await fetch(engine, upstream.destination, method=b"POST", body=body) == b"hello"
    assert engine.statistics()[upstream.destination].open == 0


async def test_an_early_acceptance_does_not_end_the_upload(
    engine: UpstreamEngine, serve: Serve
) -> None:
    body = b"x" * 5_000_000

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(OK + b"content-length: 5\r\n\r\n")
        assert await peer.reader.readexactly(len(body)) == body
        await peer.send(b"hello")
        await peer.answer(HELLO)

    upstream = await serve(script)
    assert await fetch(engine, upstream.destination, method=b"POST", body=body) == b"hello"
    assert await fetch(engine, upstream.destination) == b"hello"
    assert upstream.accepted == 1


async def test_a_body_beyond_the_limit_is_refused_and_its_connection_closed(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 1000\r\n\r\n" + b"x" * 600)
        assert await peer.left() == b""

    upstream = await serve(script)
    response = await engine.send(call(upstream.destination))
    with pytest.raises(BodyTooLarge) as refusal:
        await response.read_all(599)
    assert refusal.value.sent is True
    assert engine.statistics()[upstream.destination].open == 0


async def test_a_complete_body_beyond_the_limit_is_refused_too(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(HELLO)
        await peer.answer(HELLO)

    upstream = await serve(script)
    with pytest.raises(BodyTooLarge):
        await (await engine.send(call(upstream.destination))).read_all(4)
    assert await fetch(engine, upstream.destination) == b"hello"


async def test_closing_twice_or_after_the_end_is_harmless(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(HELLO)
        await peer.answer(OK + b"content-length: 5\r\n\r\nhel")
        await peer.left()

    upstream = await serve(script)
    whole = await engine.send(call(upstream.destination))
    assert await whole.read_all(5) == b"hello"
    await whole.close()
    await whole.close()
    assert await whole.read() == b""
    assert engine.statistics()[upstream.destination].idle == 1
    partial = await engine.send(call(upstream.destination))
    await partial.close()
    await partial.close()
    with pytest.raises(ConnectionBroken):
        await partial.read()
    assert engine.statistics()[upstream.destination].open == 0


async def test_closing_wakes_a_reader(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 5\r\n\r\n")
        await peer.left()

    upstream = await serve(script)
    response = await engine.send(call(upstream.destination))
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    await response.close()
    with pytest.raises(ConnectionBroken):
        await reading
