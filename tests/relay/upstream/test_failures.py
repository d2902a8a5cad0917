"""What comes back when the upstream, or the way to it, fails."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from relay.upstream import (
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    Deadlines,
    Destination,
    FirstByteTimeout,
    IdleTimeout,
    ProtocolBroken,
    TotalTimeout,
    UpstreamEngine,
    UpstreamError,
    UpstreamResponse,
)
from tests.relay.upstream.support import HELLO, OK, Peer, Serve, call, fetch

SHORT = 0.05
LONG = 30.0


def deadlines(**seconds: float) -> Deadlines:
    rest = dict.fromkeys(("connect_seconds", "first_byte_seconds", "idle_seconds"), LONG)
    return Deadlines(**{**rest, "total_seconds": LONG, **seconds})


async def drain(response: UpstreamResponse, *, into: list[bytes]) -> None:
    while piece := await response.read():
        into.append(piece)


async def reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def hang_up(peer: Peer) -> None:
    await peer.request()


async def half_close(peer: Peer) -> None:
    await peer.request()
    peer.writer.write_eof()
    await peer.left()


def answer(*pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)

    return script


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (reset, ConnectionBroken),
        (hang_up, ConnectionBroken),
        (half_close, ConnectionBroken),
        (answer(b"HTTP/1.1 200 O"), ConnectionBroken),
        (answer(OK + b"content-length: 5\r\n"), ConnectionBroken),
        (answer(b"HTTP/1.1 100 Continue\r\n\r\n"), ConnectionBroken),
        (answer(b"SSH-2.0-OpenSSH_9.2\r\n"), ProtocolBroken),
        (answer(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), ProtocolBroken),
        (answer(b"HTTP/1.1 103 Early\r\n\r\n" * 100), ProtocolBroken),
        (answer(OK, b"a: " + b"x" * 120_000), ProtocolBroken),
        (answer(OK + b"a: b\r\n" * 1001 + b"\r\n"), ProtocolBroken),
        (answer(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n"), ProtocolBroken),
    ],
)
async def test_without_a_head_the_call_fails_as_sent(
    engine: UpstreamEngine,
    serve: Serve,
    script: Callable[[Peer], Awaitable[None]],
    error: type[UpstreamError],
) -> None:
    upstream = await serve(script)
    with pytest.raises(error) as failure:
        await engine.send(call(upstream.destination))
    assert failure.value.sent is True
    assert engine.statistics()[upstream.destination].open == 0
    # The engine is not to send it again: it may have been carried out.
    assert upstream.accepted == 1


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([OK + b"content-length: 6\r\n\r\n", b"hello"], ConnectionBroken),
        ([OK + b"transfer-encoding: chunked\r\n\r\n5\r\n", b"hello"], ConnectionBroken),
        ([OK + b"transfer-encoding: chunked\r\n\r\n5\r\n", b"hello\r\n0\r\n"], ConnectionBroken),
        ([OK + b"transfer-encoding: chunked\r\n\r\n5\r\n", b"hello\r\nz"], ProtocolBroken),
    ],
)
async def test_a_cut_or_garbled_body_is_read_up_to_the_failure(
    engine: UpstreamEngine, serve: Serve, pieces: list[bytes], error: type[UpstreamError]
) -> None:
    upstream = await serve(answer(*pieces))
    response = await engine.send(call(upstream.destination))
    assert response.status == 200
    body: list[bytes] = []
    with pytest.raises(error) as failure:
        await drain(response, into=body)
    assert (b"".join(body), failure.value.sent) == (b"hello", True)
    with pytest.raises(error):
        await response.read_all(1000)
    assert engine.statistics()[upstream.destination].open == 0


async def test_a_reset_does_not_end_a_body_without_a_length(
    engine: UpstreamEngine, serve: Serve
) -> None:
    may_reset = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"\r\nhello")
        await may_reset.wait()
        peer.reset()

    upstream = await serve(script)
    response = await engine.send(call(upstream.destination))
    assert await response.read() == b"hello"
    may_reset.set()
    with pytest.raises(ConnectionBroken):
        await response.read()


async def test_a_reset_while_uploading_fails_as_sent(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.reset()

    upstream = await serve(script)
    with pytest.raises(ConnectionBroken) as failure:
        await fetch(engine, upstream.destination, method=b"POST", body=b"x" * 10_000_000)
    assert failure.value.sent is True


async def test_nobody_listening_fails_as_not_sent(engine: UpstreamEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nobody = Destination(host="127.0.0.1", port=port, tls=False)
    with pytest.raises(ConnectFailed) as failure:
        await engine.send(call(nobody))
    assert failure.value.sent is False
    assert engine.statistics()[nobody].connecting == 0


async def test_a_name_that_does_not_resolve_fails_as_not_sent(engine: UpstreamEngine) -> None:
    nowhere = Destination(host="x" * 70 + ".invalid", port=80, tls=False)
    with pytest.raises(ConnectFailed) as failure:
        await engine.send(call(nowhere))
    assert failure.value.sent is False


async def test_a_missing_file_of_authorities_fails_as_not_sent(engine: UpstreamEngine) -> None:
    lost = Destination(host="127.0.0.1", port=1, ca_file="/nonexistent/authorities.pem")
    with pytest.raises(ConnectFailed) as failure:
        await engine.send(call(lost))
    assert failure.value.sent is False
    assert engine.statistics()[lost].connecting == 0


async def test_a_host_that_drops_packets_times_out_as_not_sent(engine: UpstreamEngine) -> None:
    with socket.socket() as server, socket.socket() as filler, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        # With the queue of connections full, the kernel ignores further attempts.
        for client in (filler, second):
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        silent = Destination(host="127.0.0.1", port=server.getsockname()[1], tls=False)
        with pytest.raises(ConnectTimeout) as failure:
            await engine.send(call(silent, deadlines=deadlines(connect_seconds=SHORT)))
        assert failure.value.sent is False
        with pytest.raises(ConnectTimeout):
            await engine.send(call(silent, deadlines=deadlines(total_seconds=SHORT)))
        assert engine.statistics()[silent].connecting == 0


async def test_silence_after_the_request_times_out_as_sent(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        assert await peer.left() == b""

    upstream = await serve(script)
    for limit, error in [
        ({"first_byte_seconds": SHORT}, FirstByteTimeout),
        ({"total_seconds": SHORT}, TotalTimeout),
    ]:
        with pytest.raises(error) as failure:
            await engine.send(call(upstream.destination, deadlines=deadlines(**limit)))
        assert failure.value.sent is True
    assert engine.statistics()[upstream.destination].open == 0


async def trickle(peer: Peer, piece: bytes) -> None:
    """Send the piece again and again until the other end leaves."""
    while not peer.reader.at_eof():
        await peer.send(piece)
        await asyncio.sleep(SHORT / 10)


@pytest.mark.parametrize("piece", [b"a: b\r\n", b"x"])
async def test_a_trickled_head_does_not_stretch_its_deadline(
    engine: UpstreamEngine, serve: Serve, piece: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK)
        await trickle(peer, piece)

    upstream = await serve(script)
    with pytest.raises(FirstByteTimeout):
        await engine.send(
            call(upstream.destination, deadlines=deadlines(first_byte_seconds=2 * SHORT))
        )


async def test_silence_within_a_body_times_out(engine: UpstreamEngine, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 10\r\n\r\nhello")
        await peer.left()

    upstream = await serve(script)
    response = await engine.send(
        call(upstream.destination, deadlines=deadlines(idle_seconds=SHORT))
    )
    assert await response.read() == b"hello"
    with pytest.raises(IdleTimeout) as failure:
        await response.read()
    assert failure.value.sent is True
    assert engine.statistics()[upstream.destination].open == 0


async def test_a_trickled_body_is_not_idle_but_ends_in_total(
    engine: UpstreamEngine, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(OK + b"content-length: 100000\r\n\r\n")
        await trickle(peer, b"x")

    upstream = await serve(script)
    limits = deadlines(idle_seconds=4 * SHORT, total_seconds=10 * SHORT)
    response = await engine.send(call(upstream.destination, deadlines=limits))
    body: list[bytes] = []
    with pytest.raises(TotalTimeout):
        await drain(response, into=body)
    assert len(body) > 1


async def test_deadlines_of_one_call_do_not_outlive_it(
    engine: UpstreamEngine, serve: Serve
) -> None:
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(HELLO)
        await peer.request()
        await may_answer.wait()
        await peer.send(HELLO)

    upstream = await serve(script)
    limits = dict.fromkeys(("first_byte_seconds", "idle_seconds", "total_seconds"), 4 * SHORT)
    short = deadlines(**limits)
    assert await fetch(engine, upstream.destination, deadlines=short) == b"hello"
    # All of the first call's deadlines pass, first without and then during another call.
    await asyncio.sleep(5 * SHORT)
    assert engine.statistics()[upstream.destination].idle == 1
    second = asyncio.create_task(fetch(engine, upstream.destination, deadlines=deadlines()))
    asyncio.get_running_loop().call_later(5 * SHORT, may_answer.set)
    assert await second == b"hello"
    assert upstream.accepted == 1
