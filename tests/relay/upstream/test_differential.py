"""The engine and httpx2 must understand the same bytes in the same way."""

import asyncio
import string
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.upstream import UpstreamEngine
from tests.relay.upstream.support import Peer, Upstream, call

Understood = tuple[int, list[tuple[bytes, bytes]], bytes]


@dataclass
class Laboratory:
    """An upstream that answers everything with the same pieces, and two clients for it."""

    runner: asyncio.Runner
    pieces: list[bytes] = field(default_factory=list)
    ends_connection: bool = False

    async def open(self) -> None:
        self.upstream = Upstream(self._script)
        await self.upstream.start()
        self.engine = UpstreamEngine()
        self.client = httpx2.AsyncClient(trust_env=False, verify=False)

    async def close(self) -> None:
        await self.engine.close()
        await self.client.aclose()
        await self.upstream.stop()

    async def _script(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*self.pieces)
            if self.ends_connection:
                return

    async def with_engine(self, method: str) -> Understood:
        request = call(self.upstream.destination, method=method.encode())
        async with await self.engine.send(request) as response:
            return response.status, response.headers, await response.read_all(1 << 20)

    async def with_httpx(self, method: str) -> Understood:
        url = f"http://127.0.0.1:{self.upstream.port}/"
        async with self.client.stream(method, url) as response:
            body = b"".join([piece async for piece in response.aiter_raw()])
            headers = [(name.lower(), value) for name, value in response.headers.raw]
            return response.status_code, headers, body


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        laboratory = Laboratory(runner)
        runner.run(laboratory.open())
        yield laboratory
        runner.run(laboratory.close())


@dataclass(frozen=True)
class Framing:
    """A response cut into pieces, and what it says."""

    method: str
    pieces: list[bytes]
    ends_connection: bool
    said: Understood


NAMES = st.text(string.ascii_letters + string.digits + "-_.!~", min_size=1, max_size=12).map(
    lambda name: f"X-{name}".encode()
)
VALUES = st.text("".join(map(chr, range(0x20, 0x7F))) + "\t\x80\xe9\xff", max_size=30).map(
    lambda value: value.encode("latin-1").strip(b" \t")
)
PADDING = st.sampled_from([b"", b" ", b"\t ", b"   "])
STATUSES = st.sampled_from([200, 201, 204, 302, 304, 400, 401, 404, 418, 429, 500, 503])


@st.composite
def framings(draw: st.DrawFn) -> Framing:
    method = draw(st.sampled_from(["GET", "GET", "GET", "POST", "HEAD"]))
    status = draw(STATUSES)
    body = draw(st.binary(max_size=400))
    headers = draw(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    kind = draw(st.sampled_from(["length", "chunked", "end"]))
    if method == "HEAD" or status in {204, 304}:
        body = b""
    wire = body
    if kind == "length":
        headers.append(
            (draw(st.sampled_from([b"Content-Length", b"CONTENT-LENGTH"])), b"%d" % len(body))
        )
    elif kind == "chunked" and status not in {204, 304}:
        headers.append((b"Transfer-Encoding", draw(st.sampled_from([b"chunked", b"Chunked"]))))
        wire = b"" if method == "HEAD" else draw(chunked(body))
    has_end = kind == "end" and not (method == "HEAD" or status in {204, 304})
    closes = has_end or draw(st.booleans())
    if closes and draw(st.booleans()):
        headers.append((b"Connection", b"close"))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    lines = [
        # The engine refuses a padded coding, and rightly so.
        b"%b:%b%b%b\r\n"
        % (n, draw(PADDING), v, b"" if n == b"Transfer-Encoding" else draw(PADDING))
        for n, v in headers
    ]
    head = b"HTTP/1.1 %d Reason\r\n" % status + b"".join(lines)
    said = (status, [(name.lower(), value) for name, value in headers], body)
    pieces = draw(cut(interim + head + b"\r\n" + wire))
    return Framing(method, pieces, closes, said)


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    size = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;name=value"])
    chunks = [piece for piece in draw(cut(body)) if piece]
    trailer = draw(st.sampled_from([b"", b"X-Trailer: t\r\n"]))
    encoded = [draw(size) % len(chunk) + b"\r\n" + chunk + b"\r\n" for chunk in chunks]
    return b"".join(encoded) + b"0\r\n" + trailer + b"\r\n"


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    ends = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(framing=framings())
def test_both_understand_what_was_said(laboratory: Laboratory, framing: Framing) -> None:
    laboratory.pieces = framing.pieces
    laboratory.ends_connection = framing.ends_connection
    seen = laboratory.runner.run(laboratory.with_engine(framing.method))
    assert seen == framing.said
    # httpx2 spells a coding its own way.
    status, headers, body = seen
    spelled = [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in headers]
    others = laboratory.runner.run(laboratory.with_httpx(framing.method))
    assert others == (status, spelled, body)
