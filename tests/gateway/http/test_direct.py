"""What the server offers beside ASGI: writing without waiting, and being told of a departure."""

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
