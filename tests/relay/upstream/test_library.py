"""The second engine: proxies and HTTP/2, by the same rules as the first."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from relay.upstream import (
    BodyStream,
    BodyTooLarge,
    ConnectFailed,
    ConnectionBroken,
    Deadlines,
    Destination,
    FirstByteTimeout,
    IdleTimeout,
    TotalTimeout,
    UpstreamError,
    UpstreamRequest,
)
from relay.upstream.library import LibraryEngine
from tests.relay.upstream.certificates import Authority
from tests.relay.upstream.proxies import FORBIDDEN, PASSWORD, USER, Seen, http_proxy, socks_proxy
from tests.relay.upstream.support import HELLO, OK, Peer, Serve, call, until

AUTHORIZATION = (b"authorization", b"Bearer sk-secret")


@pytest.fixture
async def library() -> AsyncIterator[LibraryEngine]:
    engine = LibraryEngine()
    yield engine
    await engine.close()


async def hello(peer: Peer) -> None:
    while True:
        await peer.answer(HELLO)


async def body_of(engine: LibraryEngine, request: UpstreamRequest) -> bytes:
    async with await engine.send(request) as response:
        return await response.read_all(1 << 20)


def through(scheme: str, port: int, destination: Destination, **fields: Any) -> UpstreamRequest:
    proxy = f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{port}"
    return call(destination, proxy=proxy, headers=(AUTHORIZATION,), **fields)


async def test_a_call_goes_through_an_http_proxy_by_tls(
    library: LibraryEngine, serve: Serve, authority: Authority, ca_file: str
) -> None:
    seen: Seen = []
    upstream = await serve(hello, tls=authority.server_context("localhost"))
    proxy = await serve(http_proxy(seen))
    destination = Destination(host="localhost", port=upstream.port, ca_file=ca_file)
    request = through("http", proxy.port, destination)
    assert await body_of(library, request) == b"hello"
    assert await body_of(library, request) == b"hello"
    assert seen == [("localhost", upstream.port)]
    assert (proxy.accepted, upstream.accepted) == (1, 1), "the tunnel is kept"


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_call_goes_through_socks(library: LibraryEngine, serve: Serve, scheme: str) -> None:
    seen: Seen = []
    upstream, proxy = await serve(hello), await serve(socks_proxy(seen))
    request = through(scheme, proxy.port, upstream.destination)
    assert await body_of(library, request) == b"hello"
    assert seen == [("127.0.0.1", upstream.port)]


async def test_bodies_are_streamed_both_ways(library: LibraryEngine, serve: Serve) -> None:
    seen: Seen = []
    got: list[bytes] = []
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        got.append(await peer.reader.readexactly(3))
        more.set()
        got.append(await peer.reader.readexactly(3))
        await peer.send(OK + b"content-type: text/event-stream\r\ncontent-length: 6\r\n\r\none")
        await more.wait()
        await peer.send(b"two")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        await more.wait()
        more.clear()
        yield b"def"

    upstream, proxy = await serve(script), await serve(socks_proxy(seen))
    body = BodyStream(pieces=pieces(), length=6)
    request = through("socks5", proxy.port, upstream.destination, method=b"POST", body=body)
    async with await library.send(request) as response:
        assert (response.status, response.header(b"content-type")) == (200, b"text/event-stream")
        assert await response.read() == b"one"
        more.set()
        assert await response.read() == b"two"
        assert await response.read() == b""
        assert response.has_ended
    assert got == [b"abc", b"def"]


async def test_a_proxy_that_refuses_has_sent_nothing(library: LibraryEngine, serve: Serve) -> None:
    upstream = await serve(hello)
    seen: Seen = []
    refusing = await serve(http_proxy(seen, answer=FORBIDDEN))
    tls = Destination(host="127.0.0.1", port=upstream.port)
    stranger = call(tls, proxy=f"http://me:wrong@127.0.0.1:{refusing.port}")
    nobody = call(upstream.destination, proxy="socks5://127.0.0.1:1")
    for request in (through("http", refusing.port, tls), stranger, nobody):
        with pytest.raises(ConnectFailed) as failed:
            await library.send(request)
        assert not failed.value.sent
    assert upstream.accepted == 0


async def silent(peer: Peer) -> None:
    await peer.left()


async def begun(peer: Peer) -> None:
    await peer.answer(OK + b"content-length: 9\r\n\r\nhello")
    await peer.left()


async def broken(peer: Peer) -> None:
    await peer.answer(OK + b"content-length: 9\r\n\r\nhello")


async def cut(peer: Peer) -> None:
    await peer.request()
    peer.reset()


@pytest.mark.parametrize(
    ("script", "deadlines", "kind"),
    [
        (silent, {"connect_seconds": 0.05, "first_byte_seconds": 0.1}, FirstByteTimeout),
        (silent, {"total_seconds": 0.1}, TotalTimeout),
        (begun, {"idle_seconds": 0.1}, IdleTimeout),
        (begun, {"total_seconds": 0.2}, TotalTimeout),
        (broken, {}, ConnectionBroken),
        (cut, {}, ConnectionBroken),
    ],
    ids=["first byte", "total before", "idle", "total after", "half", "cut"],
)
async def test_what_was_sent_and_failed_says_so(
    library: LibraryEngine,
    serve: Serve,
    script: Any,
    deadlines: dict[str, float],
    kind: type[UpstreamError],
) -> None:
    upstream = await serve(script)
    request = call(upstream.destination, deadlines=Deadlines(**deadlines))
    with pytest.raises(kind) as failed:
        await body_of(library, request)
    assert failed.value.sent


async def test_who_closes_early_leaves_no_connection(library: LibraryEngine, serve: Serve) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 100\r\n\r\nhello")
        await peer.left()
        gone.set()

    upstream = await serve(script)
    response = await library.send(call(upstream.destination))
    await response.close()
    await response.close()
    with pytest.raises(ConnectionBroken):
        await response.read()
    await gone.wait()
    response = await library.send(call(upstream.destination))
    with pytest.raises(BodyTooLarge):
        await response.read_all(3)
    await until(lambda: upstream.accepted == 2)


async def test_a_closed_engine_sends_nothing() -> None:
    engine = LibraryEngine()
    await engine.close()
    with pytest.raises(ConnectFailed):
        await engine.send(call(Destination(host="127.0.0.1", port=1, tls=False)))


# --- HTTP/2 ---------------------------------------------------------------------------------------


async def speak_http2(peer: Peer) -> None:
    """Answer each request with its path, when two have come."""
    config = h2.config.H2Configuration(client_side=False)
    protocol = h2.connection.H2Connection(config)
    protocol.initiate_connection()
    await peer.send(protocol.data_to_send())
    waiting: dict[int, bytes] = {}
    while data := await peer.reader.read(65536):
        for event in protocol.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = dict(event.headers)
                assert headers[b"authorization"] == AUTHORIZATION[1]
                waiting[event.stream_id] = headers[b":path"]
        if len(waiting) == 2:
            for stream, path in waiting.items():
                protocol.send_headers(stream, [(":status", "200")])
                protocol.send_data(stream, path, end_stream=True)
            waiting.clear()
        await peer.send(protocol.data_to_send())


async def test_calls_share_one_connection_of_http2(
    library: LibraryEngine, serve: Serve, authority: Authority, ca_file: str
) -> None:
    tls: ssl.SSLContext = authority.server_context("localhost")
    tls.set_alpn_protocols(["h2"])
    upstream = await serve(speak_http2, tls=tls)
    destination = Destination(host="localhost", port=upstream.port, ca_file=ca_file)

    def to(target: bytes) -> UpstreamRequest:
        return call(destination, target=target, http2=True, headers=(AUTHORIZATION,))

    bodies = await asyncio.gather(*(body_of(library, to(path)) for path in (b"/a?b=c", b"/d")))
    assert bodies == [b"/a?b=c", b"/d"]
    assert upstream.accepted == 1
