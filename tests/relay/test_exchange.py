"""Bodies that are taken in pieces, and answers of any kind."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from relay import exchange as module
from relay.asgi_types import DIRECT
from relay.errors import RelayError
from relay.exchange import ClientLeft, Exchange


class Client:
    """Sends these messages, then nothing; keeps what it is sent."""

    def __init__(self, *messages: dict[str, Any], **headers: str) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self._messages = list(messages)
        lines = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
        scope = {"method": "POST", "path": "/", "headers": lines, "client": None}
        self.exchange = Exchange(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def _send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)

    async def take(self, limit_bytes: int) -> list[bytes]:
        return [piece async for piece in self.exchange.body_chunks(limit_bytes)]


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


LEFT = {"type": "http.disconnect"}


async def test_a_body_is_taken_piece_by_piece() -> None:
    client = Client(piece(b"one"), piece(b""), piece(b"two", more=False))
    assert await client.take(6) == [b"one", b"two"]


async def test_a_piece_is_not_asked_for_before_the_last_one_was_taken() -> None:
    client = Client(piece(b"one"), piece(b"two", more=False))
    pieces = client.exchange.body_chunks(100)
    assert await anext(pieces) == b"one"
    assert client._messages == [piece(b"two", more=False)]
    assert await anext(pieces) == b"two"


@pytest.mark.parametrize(
    ("client", "status", "taken"),
    [
        (Client(piece(b"one"), piece(b"two", more=False)), 413, [b"one"]),
        (Client(content_length="6"), 413, []),
        (Client(content_encoding="gzip"), 415, []),
    ],
)
async def test_a_body_that_is_refused(client: Client, status: int, taken: list[bytes]) -> None:
    pieces = client.exchange.body_chunks(5)
    for one in taken:
        assert await anext(pieces) == one
    with pytest.raises(RelayError) as refused:
        await anext(pieces)
    assert refused.value.status == status


async def test_a_body_that_stops_coming_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)
    with pytest.raises(RelayError) as refused:
        await Client(piece(b"one")).take(100)
    assert refused.value.status == 408


async def test_a_slow_taker_is_not_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.2)
    client = Client(piece(b"one"), piece(b"two", more=False))
    taken = []
    async for one in client.exchange.body_chunks(100):
        taken.append(one)
        await asyncio.sleep(0.15)
    assert taken == [b"one", b"two"]


async def test_a_client_that_leaves_within_its_body() -> None:
    with pytest.raises(ClientLeft):
        await Client(piece(b"one"), LEFT).take(100)


async def test_an_answer_of_any_kind() -> None:
    client = Client()
    exchange = client.exchange
    await exchange.respond_start(206, [(b"content-type", b"audio/mpeg")])
    await exchange.stream(b"\xff\xfb")
    await exchange.stream_end(b"\x00")
    start, *bodies = client.sent
    assert start["status"] == exchange.status == 206
    assert start["headers"][0] == (b"content-type", b"audio/mpeg")
    assert (b"x-request-id", exchange.request_id.encode()) in start["headers"]
    assert (b"access-control-allow-origin", b"*") in start["headers"]
    assert [body["body"] for body in bodies] == [b"\xff\xfb", b"\x00"]
    assert [body.get("more_body", False) for body in bodies] == [True, False]


def test_the_first_of_two_headers_is_the_one() -> None:
    scope = {"method": "GET", "path": "/", "headers": [(b"a", b"1"), (b"a", b"2")]}
    client = Client()
    exchange = Exchange(scope, client._receive, client._send)
    assert exchange.header(b"a") == b"1"
    assert exchange.header(b"b") is None


class Directly:
    """What our server offers beside ASGI."""

    def __init__(self) -> None:
        self.disconnected = False
        self.on_disconnect: Callable[[], None] | None = None
        self.written: list[bytes] = []

    def stream_now(self, data: bytes) -> bool:
        self.written.append(data)
        return True


async def test_nothing_goes_past_who_stands_between_an_exchange_and_the_server() -> None:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return LEFT

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    async def between(message: Mapping[str, Any]) -> None:
        await send({**message, "seen": True})

    direct = Directly()
    scope: dict[str, Any] = {"method": "POST", "path": "/", "headers": [], "client": None}
    scope[DIRECT] = direct
    exchange = Exchange(scope, receive, send)
    assert exchange.writer()(b"one")
    exchange._send = between
    assert not exchange.writer()(b"two")
    await exchange.stream_unless_full(b"three")
    assert exchange.has_left()
    exchange._send = send
    assert exchange.writer()(b"four")
    assert not exchange.has_left()
    assert direct.written == [b"one", b"four"]
    assert [(message["body"], message["seen"]) for message in sent] == [(b"three", True)]
