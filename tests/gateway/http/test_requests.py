"""What an application is given of a request, and which requests it is not given at all."""

from typing import Any

import pytest

from gateway.http import Limits
from relay.asgi_types import Receive, Scope, Send
from tests.gateway.http.stage import Stage
from tests.gateway.http.wire import Echo, reply, serving

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
LIMIT = Limits().head_bytes


async def scope_of(request: bytes, **options: Any) -> dict[str, Any]:
    echo = Echo()
    async with serving(echo, **options) as served:
        answer = await served.ask(request)
    assert answer.status == 200, answer.body
    return echo.scopes[0]


async def test_the_scope_of_a_request() -> None:
    echo = Echo()
    async with serving(echo) as served:
        wire = await served.connect()
        await wire.send(
            b"POST /v1/chat%20x?a=%2F&b HTTP/1.1\r\nHost: Here:80\r\nX-Case: Keep Me  \r\n"
            b"Empty:\r\nContent-Length: 2\r\n\r\nhi"
        )
        await wire.answer()
        client = wire.socket.getsockname()
    assert echo.bodies == [b"hi"]
    assert echo.scopes == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "root_path": "",
            "path": "/v1/chat x",
            "raw_path": b"/v1/chat%20x",
            "query_string": b"a=%2F&b",
            "headers": [
                (b"host", b"Here:80"),
                (b"x-case", b"Keep Me"),
                (b"empty", b""),
                (b"content-length", b"2"),
            ],
            "server": ("127.0.0.1", served.port),
            "client": client,
        }
    ]


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a?", "/a", b"/a", b""),
        (b"/a?b?c", "/a", b"/a", b"b?c"),
        (b"/a#part?x", "/a", b"/a", b""),
        (b"/a?b#part", "/a", b"/a", b"b"),
        (b"//a//b", "//a//b", b"//a//b", b""),
        (b"/a%2Fb%2f", "/a/b/", b"/a%2Fb%2f", b""),
        (b"/%C3%A9", "/é", b"/%C3%A9", b""),
        (b"/%FF", "/\N{REPLACEMENT CHARACTER}", b"/%FF", b""),
        (b"/%zz%", "/%zz%", b"/%zz%", b""),
        (b"/%0d%0a", "/\r\n", b"/%0d%0a", b""),
        (b"/../a", "/../a", b"/../a", b""),
        (b"http://x", "/", b"/", b""),
        (b"http://x/a?b", "/a", b"/a", b"b"),
        (b"HTTPS://x:80?b", "/", b"/", b"b"),
    ],
)
async def test_the_path_of_a_target(
    target: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    scope = await scope_of(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


async def test_the_host_of_an_absolute_target_is_the_one_that_counts() -> None:
    scope = await scope_of(b"GET http://real:1/ HTTP/1.1\r\nHost: other\r\na: b\r\n\r\n")
    assert scope["headers"] == [(b"host", b"real:1"), (b"a", b"b")]


async def test_the_server_itself_can_be_asked_for_its_options() -> None:
    scope = await scope_of(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (scope["method"], scope["path"]) == ("OPTIONS", "*")


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
async def test_an_upgrade_is_no_concern_of_ours(upgrade: bytes) -> None:
    scope = await scope_of(
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: %b\r\n"
        b"content-length: 1\r\n\r\nx" % upgrade
    )
    assert (b"upgrade", upgrade) in scope["headers"]


@pytest.mark.parametrize("empty_lines", [1, 2, 50])
async def test_empty_lines_before_a_request_are_skipped(empty_lines: int) -> None:
    assert (await scope_of(b"\r\n" * empty_lines + GET))["path"] == "/"


async def test_a_header_may_come_twice_unless_it_frames_the_request() -> None:
    scope = await scope_of(b"GET / HTTP/1.1\r\nhost: x\r\na: 1\r\nA: 2\r\n\r\n")
    assert scope["headers"][1:] == [(b"a", b"1"), (b"a", b"2")]


REFUSED = {
    "a length and a coding": (
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
    "twice the same length": (POST + b"content-length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    "a list of lengths": (POST + b"content-length: 1, 1\r\n\r\nx", 400),
    "a signed length": (POST + b"content-length: +1\r\n\r\nx", 400),
    "a negative length": (POST + b"content-length: -1\r\n\r\n", 400),
    "a hexadecimal length": (POST + b"content-length: 0x1\r\n\r\nx", 400),
    "no length": (POST + b"content-length:\r\n\r\n", 400),
    "a length in other digits": (POST + "content-length: ٣\r\n\r\n".encode(), 400),
    "an endless length": (POST + b"content-length: " + b"9" * 40 + b"\r\n\r\n", 400),
    "two codings": (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n", 400),
    "chunked not last": (POST + b"transfer-encoding: chunked, gzip\r\n\r\n", 400),
    "chunked and a character": (POST + b"transfer-encoding: chunked\x0b\r\n\r\n", 400),
    "an unknown coding": (POST + b"transfer-encoding: xchunked\r\n\r\n", 400),
    "identity": (POST + b"transfer-encoding: identity\r\n\r\n", 400),
    "another coding within": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n", 501),
    "a coding in HTTP/1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "a blank before the colon": (POST + b"content-length : 1\r\n\r\nx", 400),
    "a blank before the name": (POST + b" content-length: 1\r\n\r\nx", 400),
    "a folded line": (POST + b"a: b\r\n c\r\n\r\n", 400),
    "a line without a colon": (POST + b"content-length\r\n\r\n", 400),
    "no name": (POST + b": x\r\n\r\n", 400),
    "a name with a null": (POST + b"a\x00b: x\r\n\r\n", 400),
    "a value with a null": (POST + b"a: x\x00\r\n\r\n", 400),
    "a value with a line feed": (POST + b"a: x\nb: y\r\n\r\n", 400),
    "a value with a return": (POST + b"a: x\rb: y\r\n\r\n", 400),
    "lines that end with a line feed": (b"GET / HTTP/1.1\nhost: x\n\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "no version": (b"GET /\r\nhost: x\r\n\r\n", 400),
    "a blank too many": (b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a blank at the end": (b"GET / HTTP/1.1 \r\nhost: x\r\n\r\n", 400),
    "a target with a blank": (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target with a tab": (b"GET /a\tb HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target beyond ASCII": ("GET /é HTTP/1.1\r\nhost: x\r\n\r\n".encode(), 400),
    "a target without a slash": (b"GET a HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a star for a GET": (b"GET * HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "another scheme": (b"GET ftp://x/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a user in the target": (b"GET http://a@x/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a method that is none": (b"GE(T / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "an unknown method": (b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "a lower-case method": (b"get / HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nhost: x\r\n\r\n", 505),
    "a version that is none": (b"GET / HTTP/1.10\r\nhost: x\r\n\r\n", 400),
    "a lower-case version": (b"GET / http/1.1\r\nhost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "too many lines": (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_is_refused(kind: str) -> None:
    request, status = REFUSED[kind]
    echo = Echo()
    async with serving(echo) as served:
        wire = await served.connect()
        # The request behind it must never be seen.
        await wire.send(request + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await wire.answer()
        assert answer.status == status
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["message"]
        assert answer.headers["connection"] == "close"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert await wire.rest() == b""
    assert echo.scopes == []


def head_of(size: int) -> bytes:
    """A request of nothing but a head that is so long."""
    start = b"GET / HTTP/1.1\r\nhost: x\r\nx-filler: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_head_may_have_so_many_bytes_and_not_one_more(pieces: int) -> None:
    for size, status in [(LIMIT, 200), (LIMIT + 1, 431), (4 * LIMIT, 431)]:
        head = head_of(size)
        async with serving(Echo()) as served:
            wire = await served.connect()
            step = -(-size // pieces)
            for at in range(0, size, step):
                await wire.send(head[at : at + step])
            assert (await wire.answer()).status == status


async def test_a_head_without_an_end_is_refused() -> None:
    async with serving(Echo()) as served:
        answer = await served.ask(b"GET / HTTP/1.1\r\nx-filler: " + b"a" * LIMIT)
    assert answer.status == 431
    assert answer.error["code"] == "request_head_too_large"


async def test_a_long_body_is_no_long_head() -> None:
    body = b"x" * (4 * LIMIT)
    echo = Echo()
    async with serving(echo) as served:
        wire = await served.connect()
        for _ in range(2):
            await wire.send(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert (await wire.answer()).body == b"/:" + body
    assert echo.bodies == [body, body]


HEADS = [
    b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\na: b\r\n\r\n123",
    b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 12\r\na: b\r\n\r\n123456789012",
    b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 0\r\na: b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\na: c\r\n\r\n123",
    b"POST /b HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\na: c\r\n\r\n123",
    b"POST /b HTTP/1.1\r\nhost: x\r\na: c\r\nContent-Length: 3\r\n\r\n123",
    b"POST /b HTTP/1.1\r\nhost: x\r\na: c\r\nContent-Length: 3\r\nd: e\r\n\r\n123",
    b"POST http://y/b HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\n123",
    b"POST http://y/b HTTP/1.1\r\nContent-Length: 2\r\nHost: x\r\n\r\n12",
    b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /b HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("first", range(len(HEADS)))
async def test_a_head_is_read_the_same_whatever_came_before(first: int) -> None:
    """Most heads are the one before but for a length, and are not parsed again."""
    for second in HEADS:
        alone, behind = Echo(), Echo()
        stages = [Stage(alone), Stage(behind)]
        stages[1].feed(HEADS[first])
        await stages[1].idle()
        for _ in range(2):
            for stage in stages:
                stage.feed(second)
                await stage.idle()
        assert behind.scopes[1:] == alone.scopes
        assert behind.bodies[1:] == alone.bodies
        assert len(alone.scopes) == 2
        for stage in stages:
            stage.lose()


@pytest.mark.parametrize("length", [b"+3", b"3 3", b"", b"-1", b"0x3", b"9" * 19, b"3\r\n"])
async def test_a_known_head_with_another_length_is_no_less_strict(length: bytes) -> None:
    echo = Echo()
    stage = Stage(echo)
    stage.feed(HEADS[0])
    await stage.idle()
    stage.feed(b"POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: %b\r\na: b\r\n\r\n123" % length)
    await stage.idle()
    assert len(echo.scopes) == 1 or length == b"3\r\n"
    stage.lose()


async def test_what_an_application_does_to_its_scope_stays_there() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], list(scope["headers"])))
        scope["path"] = "/changed"
        scope["headers"].clear()
        await reply(send, b"")

    seen: list[Any] = []
    stage = Stage(application)
    for _ in range(2):
        stage.feed(HEADS[0])
        await stage.idle()
    assert seen[0] == seen[1]
    stage.lose()
