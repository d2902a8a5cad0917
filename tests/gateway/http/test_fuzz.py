"""Requests cut anywhere, mutated anyhow, and compared with a parser by somebody else."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import httptools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.refusal import Refusal
from tests.gateway.http.stage import Stage
from tests.gateway.http.wire import Answer, Echo

TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Request:
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    chunks: tuple[int, ...] | None  # Where the body is cut; None: it has a length.

    def render(self) -> bytes:
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target), b"Host: x"]
        lines += [b"%b: %b" % header for header in self.headers]
        if self.chunks is None:
            return b"\r\n".join([*lines, b"Content-Length: %d" % len(self.body), b"", self.body])
        cuts = sorted({min(cut, len(self.body)) for cut in self.chunks} | {0, len(self.body)})
        pieces = [self.body[a:b] for a, b in pairwise(cuts)]
        chunks = b"".join(b"%X;e\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        head = b"\r\n".join([*lines, b"transfer-encoding: chunked", b"", b""])
        return head + chunks + b"0\r\nt: x\r\n\r\n"


texts = st.text(TOKEN, min_size=1, max_size=12).map(str.encode)
names = texts.filter(
    lambda name: (
        name.lower()
        not in {
            b"host",
            b"content-length",
            b"transfer-encoding",
            b"connection",
            b"expect",
            b"upgrade",
        }
    )
)
values = st.binary(max_size=20).map(
    lambda raw: bytes(byte for byte in raw if byte == 9 or 0x20 <= byte != 0x7F).strip(b" \t")
)
targets = st.text(TOKEN.replace("#", "") + "/?=:@", max_size=20).map(lambda t: b"/" + t.encode())
requests = st.builds(
    Request,
    method=st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH"]),
    target=targets,
    headers=st.lists(st.tuples(names, values), max_size=5).map(tuple),
    body=st.binary(max_size=60),
    chunks=st.none() | st.lists(st.integers(0, 60), max_size=4).map(tuple),
)


def play(pieces: list[bytes]) -> tuple[Echo, Stage]:
    """Let these bytes arrive, piece after piece."""
    echo = Echo()

    async def run() -> Stage:
        stage = Stage(echo)
        for data in pieces:
            if data:
                stage.feed(data)
            await stage.idle()
        if not stage.is_closed:
            stage.lose()
        await asyncio.gather(
            *(cycle.task for cycle in stage.server.cycles if cycle.task is not None),
            return_exceptions=True,
        )
        return stage

    stage = asyncio.run(run())
    return echo, stage


def answers(stage: Stage) -> list[Answer]:
    """All of them; there must be nothing else."""
    found, rest = [], stage.sent
    while rest:
        parsed = Answer.parse(rest)
        assert parsed is not None, rest
        found.append(parsed[0])
        rest = parsed[1]
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


@FUZZ
@given(st.lists(requests, min_size=1, max_size=3), st.lists(st.integers(0, 10_000), max_size=12))
def test_wherever_requests_are_cut_they_are_the_same(
    sent: list[Request], places: list[int]
) -> None:
    echo, stage = play(cut(b"".join(request.render() for request in sent), places))
    assert echo.bodies == [request.body for request in sent]
    paths = [request.target.partition(b"?")[0] for request in sent]
    assert [scope["raw_path"] for scope in echo.scopes] == paths
    for scope, request in zip(echo.scopes, sent, strict=True):
        expected = [(name.lower(), value) for name, value in request.headers]
        assert scope["headers"][1:-1] == expected
    assert [answer.body for answer in answers(stage)] == [
        b"%b:%b" % (path, request.body) for path, request in zip(paths, sent, strict=True)
    ]
    assert not stage.is_closed or stage.protocol._cycle is None


def test_requests_may_be_cut_between_any_two_bytes() -> None:
    data = Request(b"POST", b"/a?b", ((b"c", b"d"),), b"hello, world", (3, 7)).render()
    data += Request(b"PUT", b"/e", (), b"x", None).render()
    for place in range(len(data)):
        echo, stage = play([data[:place], data[place:]])
        assert echo.bodies == [b"hello, world", b"x"]
        assert len(answers(stage)) == 2
    echo, _ = play([data[place : place + 1] for place in range(len(data))])
    assert echo.bodies == [b"hello, world", b"x"]


class Oracle:
    """What the parser of Node.js, which used to serve here, makes of these bytes."""

    def __init__(self, data: bytes) -> None:
        self.heads: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
        self.bodies: list[bytes] = []
        self.stopped_inside = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = True
        self._parser = httptools.HttpRequestParser(self)
        with suppress(httptools.HttpParserError):
            self._parser.feed_data(data)
        self.stopped_inside = len(self.bodies) > 0 and not self._in_head

    def on_message_begin(self) -> None:
        self._headers, self._in_head = [], True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.heads.append((self._parser.get_method(), self._headers))
        self.bodies.append(b"")

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        self._in_head = True


FRAGMENTS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\x00",
        b"\t",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"HTTP/1.0",
        b"GET / HTTP/1.1\r\nHost: y\r\n\r\n",
        b"%2f",
        b"\xff",
    ]
)


@FUZZ
@given(
    st.lists(requests, min_size=1, max_size=2),
    st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 3), FRAGMENTS | st.binary(max_size=3)),
        min_size=1,
        max_size=4,
    ),
)
def test_what_was_mutated_is_understood_as_others_do_or_refused(
    sent: list[Request], mutations: list[tuple[int, int, bytes]]
) -> None:
    """Never a request that another server would not have seen: that is how smuggling works."""
    data = b"".join(request.render() for request in sent)
    for where, removed, inserted in mutations:
        place = where % (len(data) + 1)
        data = data[:place] + inserted + data[place + removed :]
    echo, stage = play([data])
    oracle = Oracle(data)
    # We may refuse what it takes, and so see less; we must not see anything else.
    for scope, body, head, its_body in zip(
        echo.scopes, echo.bodies, oracle.heads, oracle.bodies, strict=False
    ):
        assert (scope["method"].encode(), _without_host(scope["headers"])) == (
            head[0],
            _without_host(head[1]),
        )
        assert body.startswith(its_body)
    # It refuses some extensions of chunks that RFC 9112 does not.
    assert len(echo.scopes) <= len(oracle.heads) or oracle.stopped_inside
    for answer in answers(stage)[: len(echo.bodies)]:
        assert answer.status == 200


def _without_host(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An absolute target replaces it."""
    return [header for header in headers if header[0] != b"host"]


@FUZZ
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_noise_is_refused_or_waited_for(noise: list[bytes]) -> None:
    echo, stage = play(noise)
    assert echo.scopes == []
    assert all(400 <= answer.status <= 505 for answer in answers(stage))


def test_a_refusal_says_why() -> None:
    assert str(Refusal(400, "No.", "code")) == "400 code: No."
