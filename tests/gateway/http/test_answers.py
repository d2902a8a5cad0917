"""Answers: their framing, their pace, and applications that do not keep to the rules."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from relay.asgi_types import Receive, Scope, Send
from tests.gateway.http.stage import Stage
from tests.gateway.http.wire import departure, piece, read_body, reply, serving, start

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def test_a_whole_answer_leaves_in_one_piece() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await reply(send, b"hello", x_a="1")

    stage = Stage(application)
    stage.feed(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
    await stage.idle()
    assert stage.writes == [b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 5\r\n\r\nhello"]


async def test_an_answer_of_unknown_length_comes_in_chunks() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"A", b"b"))
        for body in (b"one", b"", b"x" * 100_000):
            await piece(send, body)
        await piece(send, b"end", more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        answer = await wire.answer()
        assert answer.body == b"one" + b"x" * 100_000 + b"end"
        assert answer.headers == {"a": "b", "transfer-encoding": "chunked"}


async def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    go_on = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await go_on.wait()
        await piece(send, b"", more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        await wire.see(b"transfer-encoding: chunked\r\n\r\n")
        go_on.set()
        await wire.see(b"\r\n\r\n0\r\n\r\n")


async def test_a_head_does_not_wait_for_an_application_that_waits() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await start(send, (b"content-length", b"5"))
        await departure(receive)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        await wire.see(b"content-length: 5\r\n\r\n")


@pytest.mark.parametrize("framing", [[], [(b"Content-Length", b"100000")]])
async def test_http_1_0_gets_a_length_or_the_connections_end(
    framing: list[tuple[bytes, bytes]],
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, *framing)
        await piece(send, b"x" * 50_000)
        await piece(send, b"x" * 50_000, more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        head, _, body = (await wire.rest()).partition(b"\r\n\r\n")
        assert body == b"x" * 100_000
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", 200, b"5"), ("HEAD", 200, None), ("GET", 304, b"5"), ("GET", 204, None)],
)
async def test_answers_that_have_no_body(method: str, status: int, length: bytes | None) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        lines = [(b"content-length", length)] if length else []
        await start(send, *lines, status=status)
        await piece(send, b"hel")
        await piece(send, b"lo", more=False)

    async with serving(application) as served:
        wire = await served.connect()
        for _ in range(2):
            await wire.send(b"%b / HTTP/1.1\r\nhost: x\r\n\r\n" % method.encode())
            await wire.see(b"\r\n\r\n")
            head, _, body = wire.received.partition(b"\r\n\r\n")
            assert body == b""
            assert b"transfer-encoding" not in head
            assert (b"content-length: 5" in head) == (length is not None)
            wire.received = b""


async def test_a_204_says_no_length() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"", status=204)

    async with serving(application) as served:
        answer = await served.ask(GET)
        assert (answer.status, answer.headers) == (204, {})


async def test_an_unheard_of_status() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"", status=599)

    async with serving(application) as served:
        assert (await served.ask(GET)).status == 599


async def test_the_application_may_close_and_does_not_choose_the_framing() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(
            send,
            (b"Connection", b"Close"),
            (b"Transfer-Encoding", b"chunked"),
            (b"x-same-size", b"kept"),
        )
        await piece(send, b"x", more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        answer = await wire.answer()
        assert answer.body == b"x"
        assert answer.headers == {
            "x-same-size": "kept",
            "transfer-encoding": "chunked",
            "connection": "close",
        }
        assert await wire.rest() == b""


async def _raise(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("on purpose")


async def _say_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def _split_the_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, (b"a", b"b\r\nset-cookie: c"))


async def _begin_with_a_body(scope: Scope, receive: Receive, send: Send) -> None:
    await piece(send, b"x")


async def _say_something_else(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.trailers"})


async def _answer_in_between(scope: Scope, receive: Receive, send: Send) -> None:
    await start(send, status=103)


@pytest.mark.parametrize(
    "application",
    [
        _raise,
        _say_nothing,
        _split_the_answer,
        _begin_with_a_body,
        _say_something_else,
        _answer_in_between,
    ],
)
async def test_an_application_that_fails_before_it_answers(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        answer = await wire.answer()
        assert answer.status == 500
        assert answer.error["type"] == "server_error"
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0"])
@pytest.mark.parametrize("lines", [[], [(b"content-length", b"5")]])
async def test_an_answer_that_breaks_off_is_seen_to_be_broken(
    request_line: bytes, lines: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, *lines)
        await piece(send, b"x")
        await seen.wait()
        raise ValueError("on purpose")

    seen = asyncio.Event()
    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(request_line + b"\r\nhost: x\r\n\r\n")
        await wire.see(b"x\r\n" if b"1.1" in request_line and not lines else b"\r\n\r\nx")
        seen.set()
        if b"1.0" in request_line and not lines:
            # Its end would be the answer's, too: so it has to be no orderly end.
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(wire.socket, 10)
        else:
            received = await wire.rest()
            assert received.endswith(b"x" if lines else b"\r\nx\r\n")
    assert len(caplog.records) == 1


async def test_a_body_that_ends_too_early_breaks_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"content-length", b"5"))
        await piece(send, b"x")
        await piece(send, b"y", more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        assert (await wire.rest()).endswith(b"\r\n\r\nx")
    assert "not as long" in caplog.text


@pytest.mark.parametrize("body", [None, b"xyz"])
async def test_a_head_without_its_body_breaks_the_connection(
    body: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"content-length", b"1"))
        if body is not None:
            await piece(send, body, more=False)

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        assert (await wire.rest()).endswith(b"content-length: 1\r\n\r\n")
    assert len(caplog.records) == 1


async def test_nothing_comes_behind_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await reply(send, b"first")
            with pytest.raises(RuntimeError):
                await piece(send, b"more")
            assert await receive() == {"type": "http.disconnect"}
            raise ValueError("on purpose")
        await reply(send, b"second")

    async with serving(application) as served:
        wire = await served.connect()
        await wire.send(GET)
        assert (await wire.answer()).body == b"first"
        await wire.send(b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
        # What fails behind its answer is nobody else's trouble.
        assert (await wire.answer()).body == b"second"
    assert [record.getMessage() for record in caplog.records] == ["The application has failed."]


async def test_an_application_waits_for_a_slow_reader() -> None:
    sent = 0
    number, size = 300, 100_000

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await start(send, (b"content-length", b"%d" % (number * size)))
        for _ in range(number):
            await piece(send, b"x" * size, more=sent < number - 1)
            sent += 1

    async with serving(application) as served:
        wire = await served.connect(buffer_bytes=4096)
        await wire.send(GET)
        await served.until(lambda: served.server.connections, "the connection")
        [connection] = served.server.connections
        await served.until(lambda: connection.is_writing_paused, "a full buffer")
        assert sent < number
        taken = 0
        while taken < number * size:
            taken += len(await wire.read())
            wire.received = b""
        assert sent == number


@pytest.mark.parametrize("ending", ["", "connection: close\r\n"])
async def test_who_reads_nothing_is_cut(ending: str) -> None:
    ended = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await reply(send, b"x" * 50_000_000)
            await receive()
        finally:
            ended.set()

    async with serving(application, write_seconds=0.2) as served:
        wire = await served.connect(buffer_bytes=4096)
        await wire.send(f"GET / HTTP/1.1\r\nhost: x\r\n{ending}\r\n".encode())
        await ended.wait()
        await served.until(lambda: not served.server.connections, "the end")
        assert len(await wire.rest()) < 50_000_000
