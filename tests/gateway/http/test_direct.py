"""What the server offers beside ASGI: writing without waiting, and being told of a departure."""

import asyncio

import pytest

from relay.asgi_types import DIRECT, Direct, Receive, Scope, Send
from tests.gateway.http.stage import Stage
from tests.gateway.http.wire import read_body

POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}


class Held:
    """Begins a chunked answer and keeps what it was given."""

    def __init__(self, *, begins: bool = True) -> None:
        self.begins = begins
        self.direct: Direct
        self.told = 0

    def tell(self) -> None:
        self.told += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.direct = scope[DIRECT]
        self.direct.on_disconnect = self.tell
        await read_body(receive)
        if self.begins:
            await send(START)
        await receive()


async def begun(application: Held) -> Stage:
    stage = Stage(application)
    stage.feed(POST)
    await stage.idle()
    stage.writes.clear()
    return stage


async def test_a_piece_is_written_as_a_chunk() -> None:
    held = Held()
    stage = await begun(held)
    assert held.direct.stream_now(b"one")
    assert stage.writes == [b"3\r\none\r\n"]
    # An empty chunk would end the body.
    assert not held.direct.stream_now(b"")
    assert stage.writes == [b"3\r\none\r\n"]


async def test_nothing_is_written_while_the_client_does_not_read() -> None:
    held = Held()
    stage = await begun(held)
    stage.protocol.is_writing_paused = True
    assert not held.direct.stream_now(b"one")
    assert not stage.writes
    stage.protocol.is_writing_paused = False
    assert held.direct.stream_now(b"one")


async def test_nothing_is_written_in_front_of_the_head() -> None:
    held = Held(begins=False)
    stage = await begun(held)
    assert not held.direct.stream_now(b"one")
    assert not stage.writes


async def test_who_leaves_is_told_of_once_and_gets_nothing_more() -> None:
    held = Held()
    stage = await begun(held)
    stage.protocol.eof_received()
    stage.lose()
    assert held.told == 1
    assert held.direct.disconnected
    assert not held.direct.stream_now(b"one")
    await stage.idle()


@pytest.mark.parametrize("framing", ["length", "complete"])
async def test_only_bodies_in_chunks_that_go_on_are_written_to(framing: str) -> None:
    written = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        if framing == "length":
            await send({**START, "headers": [(b"content-length", b"3")]})
            written.append(scope[DIRECT].stream_now(b"one"))
            await send({**END, "body": b"two"})
        else:
            await send(START)
            await send(END)
            written.append(scope[DIRECT].stream_now(b"one"))

    stage = Stage(application)
    stage.feed(POST)
    await stage.idle()
    assert written == [False]
    assert b"one" not in stage.sent


class Answers:
    """Takes the body and answers without waiting, as far as it can."""

    def __init__(self, *headers: tuple[bytes, bytes], body: bytes = b"yes") -> None:
        self.headers = headers
        self.body = body
        self.taken: list[bytes | None] = []
        self.answered: list[bool] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct: Direct = scope[DIRECT]
        self.taken += (direct.body_now(), direct.body_now())
        if self.taken[-2] is None:
            self.taken.append(await read_body(receive))
        for _ in range(2):
            self.answered.append(direct.answer_now(201, self.headers, self.body))
        if not any(self.answered):
            await send({**START, "headers": self.headers})
            await send({**END, "body": self.body})


async def served(application: Answers, *requests: bytes) -> Stage:
    stage = Stage(application)
    for request in requests:
        stage.feed(request)
        await stage.idle()
    return stage


def post(body: bytes, *lines: bytes, method: bytes = b"POST") -> bytes:
    head = (method + b" / HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *lines)
    return b"\r\n".join((*head, b"", body))


async def test_a_whole_body_is_taken_and_a_whole_answer_sent_once_and_at_once() -> None:
    application = Answers((b"content-type", b"text/plain"), (b"x-a", b"1"))
    stage = await served(application, post(b"one"), post(b""))
    lines = (b"HTTP/1.1 201 Created", b"content-type: text/plain", b"x-a: 1", b"content-length: 3")
    assert stage.writes == [b"\r\n".join((*lines, b"", b"yes"))] * 2
    assert application.taken == [b"one", None, b"", None]
    assert application.answered == [True, False] * 2


async def test_a_body_that_is_still_coming_is_not_taken() -> None:
    request = post(b"one")
    application = Answers()
    stage = await served(application, request[:-1], request[-1:])
    assert application.taken == [None, None, b"one"]
    assert stage.sent.endswith(b"\r\n\r\nyes")


async def test_a_client_that_asks_for_it_is_closed_behind_a_whole_answer() -> None:
    stage = await served(Answers(), post(b"", b"connection: close"))
    assert b"\r\nconnection: close\r\n\r\nyes" in stage.sent
    await asyncio.sleep(0)
    assert stage.is_closed


@pytest.mark.parametrize(
    ("application", "method"),
    [
        (Answers(body=b"x" * 100_000), b"POST"),
        (Answers((b"Content-Length", b"3")), b"POST"),
        (Answers((b"connection", b"close")), b"POST"),
        (Answers(), b"HEAD"),
    ],
)
async def test_any_other_answer_is_left_to_messages(application: Answers, method: bytes) -> None:
    stage = await served(application, post(b"", method=method))
    assert not any(application.answered)
    assert stage.sent.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\n", b"a\r"])
async def test_no_header_of_a_whole_answer_begins_another_one(value: bytes) -> None:
    stage = await served(Answers((b"x-a", value)), post(b""))
    assert stage.sent.startswith(b"HTTP/1.1 500 ")
    assert b"b: c" not in stage.sent
