"""TLS towards upstreams, with authorities of the tests' own."""

import asyncio
import ssl

import pytest

from relay.upstream import (
    ConnectionBroken,
    ConnectTimeout,
    Deadlines,
    Destination,
    TlsFailed,
    UpstreamEngine,
    UpstreamError,
)
from tests.relay.upstream.certificates import Authority
from tests.relay.upstream.support import HELLO, OK, Peer, Serve, Upstream, call, fetch


def destination(upstream: Upstream, ca_file: str | None, name: str | None) -> Destination:
    return Destination(host="127.0.0.1", port=upstream.port, server_name=name, ca_file=ca_file)


async def serve_hello(peer: Peer) -> None:
    while True:
        await peer.answer(HELLO)


async def test_a_proven_name_is_served_and_indicated(
    engine: UpstreamEngine, serve: Serve, server_context: ssl.SSLContext, ca_file: str
) -> None:
    indicated: list[str | None] = []
    server_context.sni_callback = lambda _socket, name, _context: indicated.append(name)
    protocols: list[str | None] = []

    async def script(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await serve_hello(peer)

    upstream = await serve(script, tls=server_context)
    for _ in range(2):
        assert await fetch(engine, destination(upstream, ca_file, "upstream.test")) == b"hello"
    assert (indicated, protocols, upstream.accepted) == (["upstream.test"], ["http/1.1"], 1)


@pytest.mark.parametrize(
    ("name", "is_trusted", "is_expired"),
    [
        ("other.test", True, False),
        (None, True, False),
        ("upstream.test", False, False),
        ("upstream.test", True, True),
    ],
)
async def test_an_unproven_name_is_refused_before_anything_is_sent(  # noqa: PLR0917  Fixtures.
    engine: UpstreamEngine,
    serve: Serve,
    authority: Authority,
    ca_file: str,
    name: str | None,
    is_trusted: bool,
    is_expired: bool,
) -> None:
    context = authority.server_context("upstream.test", is_expired=is_expired)
    upstream = await serve(serve_hello, tls=context)
    target = destination(upstream, ca_file if is_trusted else None, name)
    with pytest.raises(TlsFailed) as failure:
        await fetch(engine, target)
    assert failure.value.sent is False
    assert engine.statistics()[target].connecting == 0


async def test_an_address_is_proven_by_the_certificate(
    engine: UpstreamEngine, serve: Serve, authority: Authority, ca_file: str
) -> None:
    upstream = await serve(serve_hello, tls=authority.server_context("127.0.0.1"))
    assert await fetch(engine, destination(upstream, ca_file, None)) == b"hello"


async def test_a_server_without_tls_is_refused(
    engine: UpstreamEngine, serve: Serve, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Speak plainly\r\n\r\n")
        await peer.left()

    upstream = await serve(script)
    with pytest.raises(UpstreamError) as failure:
        await fetch(engine, destination(upstream, ca_file, "upstream.test"))
    assert (type(failure.value), failure.value.sent) == (TlsFailed, False)


async def test_a_handshake_that_does_not_end_times_out(
    engine: UpstreamEngine, serve: Serve, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.left()

    upstream = await serve(script)
    target = destination(upstream, ca_file, "upstream.test")
    with pytest.raises(ConnectTimeout) as failure:
        await fetch(engine, target, deadlines=Deadlines(connect_seconds=0.05))
    assert failure.value.sent is False
    assert engine.statistics()[target].connecting == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_resumed(
    engine: UpstreamEngine,
    serve: Serve,
    server_context: ssl.SSLContext,
    ca_file: str,
    version: ssl.TLSVersion,
) -> None:
    server_context.maximum_version = version
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        resumed.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await serve_hello(peer)

    upstream = await serve(script, tls=server_context)
    target = destination(upstream, ca_file, "upstream.test")
    first = await engine.send(call(target))
    await fetch(engine, target)
    both = await asyncio.gather(*[engine.send(call(target)) for _ in range(2)])
    for response in (first, *both):
        assert await response.read_all(5) == b"hello"
    assert resumed == [False, True]


async def test_large_bodies_pass_both_ways(
    engine: UpstreamEngine, serve: Serve, server_context: ssl.SSLContext, ca_file: str
) -> None:
    body = bytes(range(251)) * 8000

    async def script(peer: Peer) -> None:
        _, seen = await peer.request()
        await peer.send(OK + b"content-length: %d\r\n\r\n" % len(seen), seen)
        await peer.answer(HELLO)

    upstream = await serve(script, tls=server_context)
    target = destination(upstream, ca_file, "upstream.test")
    assert await fetch(engine, target, method=b"POST", body=body) == body
    assert await fetch(engine, target) == b"hello"
    assert upstream.accepted == 1


async def test_a_cut_line_does_not_end_a_body_without_a_length(
    engine: UpstreamEngine, serve: Serve, server_context: ssl.SSLContext, ca_file: str
) -> None:
    may_cut = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"\r\nhello")
        await may_cut.wait()
        peer.writer.transport.abort()  # FIN without the farewell of TLS.

    upstream = await serve(script, tls=server_context)
    response = await engine.send(call(destination(upstream, ca_file, "upstream.test")))
    assert await response.read() == b"hello"
    may_cut.set()
    with pytest.raises(ConnectionBroken):
        await response.read()


async def test_a_farewell_ends_a_body_without_a_length(
    engine: UpstreamEngine, serve: Serve, server_context: ssl.SSLContext, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"\r\nhello")
        peer.writer.close()
        await peer.writer.wait_closed()

    upstream = await serve(script, tls=server_context)
    assert await fetch(engine, destination(upstream, ca_file, "upstream.test")) == b"hello"
