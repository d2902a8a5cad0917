"""Bodies of requests: their framing, their pace, and what becomes of those that nobody wants."""

import asyncio
from contextlib import suppress

import pytest

from gateway.http import Limits
from gateway.http.body import SPARE_BYTES, ChunkedBody
from gateway.http.refusal import Refusal
from relay.asgi_types import Message, Receive, Scope, Send
from tests.gateway.http.wire import Echo, departure, read_body, reply, serving

POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: Chunked\r\n\r\n"
AWAITING = POST + b"expect: 100-Continue\r\n"


async def test_a_body_in_chunks() -> None:
    echo = Echo()
    async with serving(echo) as served:
        wire = await served.connect()
        body = b"5\r\nhello\r\n00A;x=y;z\r\n, world!!!\r\n0\r\ntrailer: x\r\n\r\n"
        await wire.send(CHUNKED + body + CHUNKED + b"0\r\n\r\n")
        assert (await wire.answer()).body == b"/:hello, world!!!"
        assert (await wire.answer()).body == b"/:"


MALFORMED = {
    "no size": b"\r\nx",
    "no number": b"x\r\n",
    "a signed number": b"+5\r\nhello\r\n0\r\n\r\n",
    "a prefixed number": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a number too long": b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n",
    "a blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "a blank behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a line feed alone": b"5\nhello\r\n0\r\n\r\n",
    "a line feed behind the content": b"5\r\nhello\n0\r\n\r\n",
    "more content than it says": b"5\r\nhello!\r\n0\r\n\r\n",
    "a return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a trailer without a colon": b"0\r\ntrailer\r\n\r\n",
    "an endless extension": b"5;" + b"x" * 5000,
    "extensions without end": b"1;%b\r\nx\r\n" % (b"x" * 4000) * 5,
    "trailers without end": b"0\r\n" + (b"a: %b\r\n" % (b"x" * 4000)) * 5,
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_chunks_are_refused(kind: str) -> None:
    events = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(scope["path"])
        await departure(receive)
        events.append("left")

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(CHUNKED + b"3\r\nabc\r\n")
        await served.until(lambda: events, "the call")
        await wire.send(MALFORMED[kind] + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await wire.answer()
        assert answer.status == 400
        assert "chunk" in answer.error["message"]
        assert await wire.rest() == b""
        await served.until(lambda: len(events) > 1, "the call's end")
    assert events == ["/", "left"]


async def test_chunks_that_are_malformed_at_once_call_nobody() -> None:
    echo = Echo()
    async with serving(echo) as served:
        assert (await served.ask(CHUNKED + b"x\r\n")).status == 400
    assert echo.scopes == []


async def test_malformed_chunks_break_an_answer_that_has_begun() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await departure(receive)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(CHUNKED)
        await wire.see(b"begun")
        await wire.send(b"x\r\n")
        assert (await wire.rest()).endswith(b"\r\nbegun\r\n")


def test_extensions_have_their_limit_and_small_chunks_have_none() -> None:
    body = ChunkedBody()
    assert body.feed(b"1\r\nx\r\n" * SPARE_BYTES) == b"x" * SPARE_BYTES
    with pytest.raises(Refusal):
        body.feed(b"1;a\r\nx\r\n" * SPARE_BYTES)


async def test_a_whole_request_is_there_without_a_wait() -> None:
    """One that came in one piece costs its application no turn of the event loop."""
    received: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        coroutine = receive()
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)  # type: ignore[attr-defined]  # It is a coroutine.
        received.append(ended.value.value)
        await reply(send, b"")

    async with serving(application) as served:
        await served.ask(POST + b"content-length: 5\r\n\r\nhello")
    assert received == [{"type": "http.request", "body": b"hello", "more_body": False}]


async def test_a_body_waits_until_it_is_wanted() -> None:
    """Nothing is gathered for an application that does not ask: it stays with the client."""
    wanted = asyncio.Event()
    sizes = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await wanted.wait()
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await reply(send, b"done")

    length = 32 * 2**20
    async with serving(application) as served:
        wire = await served.connect(buffer_bytes=4096)
        sending = asyncio.create_task(
            wire.send(POST + b"content-length: %d\r\n\r\n" % length + b"x" * length)
        )
        await served.until(lambda: served.server.cycles, "the call")
        [connection] = served.server.connections
        await served.until(lambda: connection._is_reading_paused, "a pause")
        assert not sending.done()
        wanted.set()
        await sending
        assert (await wire.answer()).body == b"done"
    assert sum(sizes) == length
    assert max(sizes) < 2**20


async def test_who_waits_for_our_word_gets_it_when_the_body_is_wanted() -> None:
    wanted = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await wanted.wait()
        await reply(send, await read_body(receive))

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(AWAITING + b"content-length: 2\r\n\r\n")
        await served.until(lambda: served.server.cycles, "the call")
        assert wire.received == b""
        wanted.set()
        await wire.see(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.received = b""
        await wire.send(b"hi")
        assert (await wire.answer()).body == b"hi"
        # And the connection serves on.
        await wire.send(AWAITING + b"content-length: 2\r\n\r\nho")
        assert (await wire.answer()).body == b"ho"


async def test_who_waits_for_our_word_may_get_an_answer_instead() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"no", status=401)

    async with serving(application, linger_seconds=0.2) as served:
        wire = await served.connect()
        await wire.send(AWAITING + b"content-length: 2\r\n\r\n")
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await wire.rest() == b""


async def test_http_1_0_knows_no_interim_answers() -> None:
    async with serving(Echo()) as served:
        wire = await served.connect()
        await wire.send(b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        await served.until(lambda: served.server.cycles, "the call")
        await wire.send(b"hi")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 ")


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "POST":
        await reply(send, b"no", status=413)
    else:
        await reply(send, b"yes")


async def test_the_rest_of_a_short_body_is_passed_over() -> None:
    async with serving(refuse) as served:
        wire = await served.connect()
        await wire.send(POST + b"content-length: 100000\r\n\r\n" + b"x" * 50_000)
        answer = await wire.answer()
        assert "connection" not in answer.headers
        await wire.send(b"x" * 50_000 + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await wire.answer()).body == b"yes"


@pytest.mark.parametrize("framing", [b"content-length: 30000000", b"transfer-encoding: chunked"])
async def test_the_rest_of_a_long_body_is_taken_so_that_the_answer_arrives(framing: bytes) -> None:
    """Read so late that whoever closes at once would have reset the connection by then."""
    async with serving(refuse) as served:
        wire = await served.connect()
        await wire.send(POST + framing + b"\r\n\r\n")
        body = b"x" * 30_000_000
        if framing.endswith(b"chunked"):
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        await wire.send(body)
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await wire.rest() == b""


async def test_a_body_without_end_is_not_taken_for_ever() -> None:
    async with serving(refuse, linger_bytes=10_000_000, linger_seconds=60.0) as served:
        wire = await served.connect()
        await wire.send(POST + b"content-length: 100000000000\r\n\r\n")
        assert (await wire.answer()).status == 413
        sent = 0
        with suppress(ConnectionError):
            while sent < 2**30:
                await wire.send(b"x" * 2**20)
                sent += 2**20
        assert 9_000_000 < sent < 2**30


async def test_a_body_that_stops_coming_ends_the_call() -> None:
    received: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1]["type"] != "http.disconnect":
            received.append(await receive())

    async with serving(application, body_seconds=0.1) as served:
        wire = await served.connect()
        await wire.send(POST + b"content-length: 10\r\n\r\nhello")
        assert await wire.rest() == b""
    assert [message.get("body") for message in received] == [b"hello", None]


def test_the_server_waits_for_a_body_longer_than_the_relay_does() -> None:
    """Or its clients would not see the relay's error."""
    from relay.exchange import BODY_SECONDS

    assert Limits().body_seconds > BODY_SECONDS
