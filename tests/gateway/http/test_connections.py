"""Connections: one request after another, who leaves, who is too slow, and the server's end."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from relay.asgi_types import Message, Receive, Scope, Send
from tests.gateway.http.stage import Stage
from tests.gateway.http.wire import (
    Echo,
    Wire,
    departure,
    piece,
    read_body,
    reply,
    serving,
    start,
)

GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"


class Slow:
    """Answers when it is told to; notes who has left."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.left: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await read_body(receive)
        leaving = asyncio.ensure_future(departure(receive))
        releasing = asyncio.ensure_future(self.release.wait())
        await asyncio.wait({leaving, releasing}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            self.left.append(scope["path"])
        leaving.cancel()
        releasing.cancel()
        await reply(send, scope["path"].encode())


# --- One after another ----------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
async def test_requests_in_a_row_are_answered_in_their_order(*, at_once: bool) -> None:
    requests = [POST % (b"/%d" % n, n, b"x" * n) for n in range(50)]
    async with serving(Echo()) as served:
        wire = await served.connect()
        for data in [b"".join(requests)] if at_once else requests:
            await wire.send(data)
        for n in range(50):
            assert (await wire.answer()).body == b"/%d:" % n + b"x" * n


async def test_the_next_request_waits_for_the_answer_but_not_for_its_application() -> None:
    go_on = asyncio.Event()
    running = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        assert running == 1 or scope["path"] == "/2"
        await asyncio.sleep(0)
        await reply(send, scope["path"].encode())
        await go_on.wait()

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET % b"/1" + GET % b"/2")
        assert (await wire.answer()).body == b"/1"
        assert (await wire.answer()).body == b"/2"
        go_on.set()


async def test_a_malformed_request_behind_others_does_not_cost_their_answers() -> None:
    slow = Slow()
    async with serving(slow) as served:
        wire = await served.connect()
        await wire.send(GET % b"/1" + b"nonsense\r\n\r\n" + GET % b"/3")
        await served.until(lambda: slow.paths, "the call")
        slow.release.set()
        assert (await wire.answer()).body == b"/1"
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""
    assert slow.paths == ["/1"]


@pytest.mark.parametrize(
    "ending",
    [b"connection: close\r\n", b"Connection: Keep-Alive, Close\r\n", b"connection: x,close\r\n"],
)
async def test_nothing_is_read_behind_a_request_that_closes(ending: bytes) -> None:
    echo = Echo()
    async with serving(echo) as served:
        wire = await served.connect()
        await wire.send(b"GET /1 HTTP/1.1\r\nhost: x\r\n" + ending + b"\r\n" + GET % b"/2")
        answer = await wire.answer()
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""
    assert [scope["path"] for scope in echo.scopes] == ["/1"]


# --- Who leaves -----------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Wire], None]] = {
    "closes": lambda wire: wire.socket.close(),
    "closes its half": Wire.half_close,
    "resets": Wire.reset,
}
BEHIND = {
    "nothing": b"",
    "a request": GET % b"/2",
    "half a request": b"GET /2 HTT",
    "many requests": (GET % b"/2") * 4_000,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("behind", BEHIND)
async def test_who_leaves_is_seen_to_leave_at_once(way: str, behind: str) -> None:
    """Whatever was sent behind the request that is running."""
    slow = Slow()
    async with serving(slow) as served:
        wire = await served.connect()
        await wire.send(GET % b"/1")
        await served.until(lambda: slow.paths, "the call")
        if BEHIND[behind]:
            await wire.send(BEHIND[behind])
            [connection] = served.server.connections
            await served.until(lambda: connection._buffer, "what is behind")
        WAYS[way](wire)
        await served.until(lambda: slow.left, "the departure")
        await served.until(lambda: not served.server.connections, "the connection's end")
        await served.until(lambda: not served.server.cycles, "the call's end")
    assert slow.paths == ["/1"]


@pytest.mark.parametrize("way", WAYS)
async def test_who_leaves_before_the_end_of_the_body(way: str) -> None:
    received: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1]["type"] != "http.disconnect":
            received.append(await receive())
        await reply(send, b"to nobody")

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello")
        await served.until(lambda: received, "half the body")
        WAYS[way](wire)
        await served.until(lambda: not served.server.cycles, "the call's end")
    assert received == [
        {"type": "http.request", "body": b"hello", "more_body": True},
        {"type": "http.disconnect"},
    ]


async def test_who_leaves_while_the_application_waits_to_send_sets_it_free() -> None:
    ended = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for _ in range(10_000):
            await piece(send, b"x" * 100_000)
        ended.set()

    async with serving(application) as served:
        wire = await served.connect(buffer_bytes=4096)
        await wire.send(GET % b"/")
        await served.until(
            lambda: any(one.is_writing_paused for one in served.server.connections), "a full buffer"
        )
        wire.socket.close()
        await ended.wait()


async def test_two_that_wait_for_the_departure_both_see_it() -> None:
    seen = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal seen
        await read_body(receive)
        given_up = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        watchers = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        given_up.cancel()
        for watcher in watchers:
            assert await watcher == {"type": "http.disconnect"}
            seen += 1

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET % b"/")
        await served.until(lambda: served.server.cycles, "the call")
        wire.socket.close()
        await served.until(lambda: seen == 2, "both")


# --- Who is too slow ------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", GET % b"/"])
async def test_an_idle_connection_is_closed_in_time(begin: bytes) -> None:
    async with serving(Echo(), keep_alive_seconds=0.1) as served:
        wire = await served.connect()
        if begin:
            await wire.send(begin)
            await wire.answer()
        assert await wire.rest() == b""


async def test_a_running_call_is_not_idle() -> None:
    slow = Slow()
    async with serving(slow, keep_alive_seconds=0.05, head_seconds=0.05) as served:
        wire = await served.connect()
        await wire.send(GET % b"/1" + b"GET /2")
        await asyncio.sleep(0.2)
        assert wire.received == b""
        slow.release.set()
        assert (await wire.answer()).body == b"/1"
        # What has come of the next one has its time from now.
        assert (await wire.answer()).status == 408


@pytest.mark.parametrize("pace_seconds", [0.0, 0.02])
async def test_a_head_has_to_end_in_time(pace_seconds: float) -> None:
    """However many bytes of it still come."""
    async with serving(Echo(), head_seconds=0.2) as served:
        wire = await served.connect()
        await wire.send(b"GET / HTTP/1.1\r\nhost: x\r\n")
        reading = asyncio.ensure_future(wire.answer())
        while pace_seconds and not reading.done():
            await wire.send(b"a: b\r\n")
            await asyncio.sleep(pace_seconds)
        answer = await reading
        assert answer.status == 408
        assert answer.error["code"] == "request_timeout"
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_empty_lines_are_no_head_that_has_begun() -> None:
    async with serving(Echo(), head_seconds=0.05, keep_alive_seconds=0.3) as served:
        wire = await served.connect()
        await wire.send(b"\r\n\r\n")
        assert await wire.rest() == b""


async def test_a_refused_client_that_does_not_leave_is_closed_on() -> None:
    async with serving(Echo(), linger_seconds=0.1) as served:
        wire = await served.connect()
        await wire.send(b"nonsense\r\n\r\n")
        assert (await wire.answer()).status == 400
        await served.until(lambda: not served.server.connections, "the end")


async def test_the_rest_of_a_body_has_to_come_in_time() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"no", status=401)

    async with serving(application, linger_seconds=0.1) as served:
        wire = await served.connect()
        await wire.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello")
        assert "connection" not in (await wire.answer()).headers
        assert await wire.rest() == b""


# --- The server's end -----------------------------------------------------------------------------


async def test_a_stop_closes_who_is_idle_and_answers_who_waits() -> None:
    slow = Slow()
    async with serving(slow) as served:
        wires = [await served.connect() for _ in range(3)]
        await wires[0].send(b"GET /half")
        await wires[1].send(GET % b"/1" + GET % b"/2")
        await served.until(lambda: slow.paths, "the call")
        await served.until(lambda: len(served.server.connections) == 3, "all connections")
        closing = asyncio.create_task(served.server.close(60.0))
        assert await wires[0].rest() == b""
        assert await wires[2].rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await served.connect()
        assert not closing.done()
        slow.release.set()
        answer = await wires[1].answer()
        assert (answer.body, answer.headers["connection"]) == (b"/1", "close")
        assert await wires[1].rest() == b""
        await closing
    assert slow.paths == ["/1"]


async def test_a_stop_ends_a_stream_that_has_begun_behind_its_answer() -> None:
    go_on = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await go_on.wait()
        await piece(send, b"end", more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET % b"/")
        await wire.see(b"chunked\r\n\r\n")
        closing = asyncio.create_task(served.server.close(60.0))
        await asyncio.sleep(0)
        go_on.set()
        assert (await wire.rest()).endswith(b"3\r\nend\r\n0\r\n\r\n")
        await closing


async def test_a_stop_cuts_what_does_not_end() -> None:
    cancelled = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET % b"/")
        await served.until(lambda: served.server.cycles, "the call")
        await served.server.close(0.05)
        assert cancelled.is_set()
        assert await wire.rest() == b""
        assert not served.server.connections
        assert not served.server.cycles


async def test_a_connection_made_while_it_stops_is_closed() -> None:
    stage = Stage(Echo())
    stage.server.shut_down()
    late = stage.server.connection()
    late.connection_made(cast("asyncio.Transport", stage))
    assert stage.is_closed
