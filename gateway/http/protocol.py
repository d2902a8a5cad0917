"""One connection: its bytes in, its answers out, one request after another.

Note [Requests behind the running one]
A client may send more requests before it has got its answers. They stay bytes until their turn
comes, and while there are few of them the connection is read on: so a client that leaves is seen
to leave. From `Limits.unread_bytes` on they stay in the kernel, which is then asked now and then.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from gateway.http.body import ChunkedBody, CountedBody, RequestBody
from gateway.http.cycle import Cycle
from gateway.http.deadline import Deadline
from gateway.http.head import Head, without_empty_lines
from gateway.http.peer import address, has_left, reset
from gateway.http.refusal import Refusal, malformed, too_large, too_slow
from gateway.http.reply import refuse
from gateway.http.wakeup import Wakeup
from gateway.write_deadline import WriteDeadline
from relay.asgi_types import DIRECT, Scope

if TYPE_CHECKING:
    from gateway.http.server import HttpServer

ASGI = {"version": "3.0", "spec_version": "2.3"}
HEAD_END = b"\r\n\r\n"
CR = 13
ASK_KERNEL_SECONDS = 1.0
# Each connection keeps its latest head, to know it again; but no unusual one.
REMEMBERED_BYTES = 2048
# What a request can begin with: a letter of its method, or the empty lines of old clients.
FIRST_BYTES = frozenset(b"\r\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class HttpProtocol(asyncio.Protocol):
    """`_cycle` is the request that is being answered, `_body` what still comes of its body."""

    __slots__ = (
        "_address",
        "_body",
        "_buffer",
        "_client",
        "_cycle",
        "_deadline",
        "_drained",
        "_head",
        "_in_head",
        "_is_reading_paused",
        "_is_stopping",
        "_limits",
        "_linger_bytes",
        "_loop",
        "_server",
        "_template",
        "_trusts_peer",
        "_write_deadline",
        "is_writing_paused",
        "transport",
        "write",
    )

    def __init__(self, server: "HttpServer", *, loop: asyncio.AbstractEventLoop) -> None:
        self.is_writing_paused = False
        self._drained: Wakeup | None = None
        self.transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        self._server = server
        self._limits = server.limits
        self._loop = loop
        self._deadline = Deadline(loop=loop, callback=self._deadline_passed)
        self._write_deadline: WriteDeadline | None = None
        self._buffer = b""
        self._in_head = False
        self._head: Head | None = None  # The latest, and what was made of it.
        self._template: Scope = {}
        self._body: RequestBody | None = None
        self._cycle: Cycle | None = None
        self._linger_bytes: int | None = None
        self._is_reading_paused = False
        self._is_stopping = False

    # --- For the transport -----------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        self._address = address(transport, "sockname")
        self._client = address(transport, "peername")
        self._trusts_peer = self._client is not None and self._server.trusts(self._client[0])
        self._server.connections.add(self)
        if self._server.is_stopping:
            self.shut_down()  # It was accepted just before.
        else:
            self._deadline.wait(self._limits.keep_alive_seconds)

    @override
    def data_received(self, data: bytes) -> None:
        if self._body is not None or self._linger_bytes is not None:
            self._take_body(data)
        elif self._cycle is not None:
            self._queue(data)
        elif self._buffer:
            known, self._buffer = self._buffer, b""
            self._read_head(known + data, start=max(0, len(known) - 3))
        else:
            self._read_head(data)

    @override
    def eof_received(self) -> None:
        # The transport closes now, as soon as the client has read the rest.
        if self._cycle is not None:
            self._cycle.disconnect()
        self._wake_writers()
        self._watch_reader()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.stop()
        if self._write_deadline is not None:
            self._write_deadline.stop()
        if self._cycle is not None:
            self._cycle.disconnect()
            self._cycle = None
        self._wake_writers()
        self._server.connection_lost(self)

    @override
    def pause_writing(self) -> None:
        self.is_writing_paused = True
        self._watch_reader()

    @override
    def resume_writing(self) -> None:
        self.is_writing_paused = False
        self._wake_writers()
        if self._write_deadline is not None and not self.transport.is_closing():
            self._write_deadline.stop()

    def _wake_writers(self) -> None:
        if self._drained is not None:
            self._drained.wake()

    # --- For the server --------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Close it, or let the answer that is under way be the last."""
        self._is_stopping = True
        if self._cycle is None and self._linger_bytes is None:
            self._close()

    # --- For the cycle ---------------------------------------------------------------------------

    async def wait_drained(self) -> None:
        if self._drained is None:
            self._drained = Wakeup(self._loop)
        await self._drained.wait()

    def must_close(self) -> bool:
        body, cycle = self._body, self._cycle
        if self._is_stopping:
            return True
        if body is None or cycle is None:
            return False
        # A client that waits for our word may well leave its body out.
        left = body.left_bytes
        return left is None or left > self._limits.discard_bytes or cycle.awaits_continue

    def body_wanted(self) -> None:
        self._resume_reading()
        self._deadline.wait(self._limits.body_seconds)

    def answered(self, cycle: Cycle) -> None:
        if cycle is not self._cycle:
            return
        self._cycle = None
        if not cycle.keep_alive or self._is_stopping:
            if self._body is None:
                self._close()
            else:
                self._linger()
        elif self._body is None:
            self._next_request(self._buffer)
        else:
            self._resume_reading()
            self._deadline.wait(self._limits.linger_seconds)

    def reset(self) -> None:
        reset(self.transport)

    # --- Heads -----------------------------------------------------------------------------------

    def _next_request(self, data: bytes) -> None:
        self._buffer = b""
        self._resume_reading()
        self._deadline.wait(self._limits.keep_alive_seconds)
        if data:
            self._read_head(data)

    def _read_head(self, data: bytes, *, start: int = 0) -> None:
        if data[0] == CR and data[:2] == b"\r\n":
            data, start = without_empty_lines(data), 0
        end = data.find(HEAD_END, start)
        try:
            if end < 0 or end + len(HEAD_END) > self._limits.head_bytes:
                self._await_head(data, has_end=end >= 0)
                return
            self._in_head = False
            self._begin(self._parse_head(data[:end]), data[end + len(HEAD_END) :])
        except Refusal as refusal:
            self._refuse(refusal)

    def _parse_head(self, data: bytes) -> Head:
        known = self._head
        if known is not None and known.repeat(data):
            return known
        head = Head(data, most_lines=self._limits.head_lines)
        self._template = self._scope(head)
        self._head = head if len(data) <= REMEMBERED_BYTES else None
        return head

    def _await_head(self, data: bytes, *, has_end: bool) -> None:
        if has_end or len(data) >= self._limits.head_bytes:
            raise too_large(f"it has more than {self._limits.head_bytes} bytes")
        if not data:
            return
        line_end = data.find(b"\n")
        if data[0] not in FIRST_BYTES or (line_end >= 0 and data[line_end - 1] != CR):
            raise malformed("it does not begin with a line that ends with CR LF")
        self._buffer = data
        if not self._in_head:
            self._in_head = True
            self._deadline.wait(self._limits.head_seconds)

    def _begin(self, head: Head, data: bytes) -> None:
        """Give a request to the application, with as much of its body as there is."""
        length = head.body_bytes
        scope = self._template.copy()
        scope["headers"] = head.headers.copy()
        cycle = scope[DIRECT] = Cycle(scope, self, keep_alive=head.keep_alive)
        if length == len(data):
            cycle.feed(data, complete=True)
        elif not length:
            cycle.feed(b"", complete=True)
            self._buffer = data
        else:
            self._body = CountedBody(length) if length > 0 else ChunkedBody()
            cycle.awaits_continue = head.expects_continue
        self._cycle = cycle
        self._deadline.suspend()
        if self._body is not None:
            self._take_body(data)
        if not cycle.disconnected:  # Its body may be malformed from the beginning.
            self._server.start(cycle)

    def _scope(self, head: Head) -> Scope:
        """All but the headers, which the application may change."""
        line = head.line
        scope: Scope = {
            "type": "http",
            "asgi": ASGI,
            "http_version": line.http_version,
            "server": self._address,
            "client": self._client,
            "scheme": "http",
            "method": line.method,
            "root_path": "",
            "path": line.path,
            "raw_path": line.raw_path,
            "query_string": line.query,
            "headers": [],
        }
        if self._trusts_peer:
            proxies = self._server.proxies
            scope["scheme"] = proxies.scheme(head.headers) or "http"
            scope["client"] = proxies.client(head.headers) or self._client
        return scope

    # --- Bodies, and what comes behind them ------------------------------------------------------

    def _take_body(self, data: bytes) -> None:
        body = self._body
        if self._linger_bytes is not None:
            self._throw_away(data)
            return
        assert body is not None, "there is a body to be taken"
        try:
            content = body.feed(data) if data else b""
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if body.complete:
            self._body = None
        cycle = self._cycle
        if cycle is None:  # It is answered: the rest is of no use but to get past it.
            if body.complete:
                self._next_request(body.rest)
            return
        cycle.feed(content, complete=body.complete)
        if body.complete:
            self._deadline.suspend()
            if body.rest:
                self._queue(body.rest)
        elif cycle.unread_bytes > self._limits.unread_bytes:
            self._pause_reading()
            self._deadline.suspend()
        else:
            self._deadline.wait(self._limits.body_seconds)

    def _queue(self, data: bytes) -> None:
        """See Note [Requests behind the running one]."""
        self._buffer += data
        if len(self._buffer) > self._limits.unread_bytes:
            self._pause_reading()
            self._deadline.wait(ASK_KERNEL_SECONDS)

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = False
            self.transport.resume_reading()

    # --- The end ---------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        cycle, self._cycle = self._cycle, None
        self._body = None
        if cycle is not None:
            cycle.disconnect()
            if cycle.has_sent:
                self.transport.abort()  # Nothing can be added to an answer that has begun.
                return
        self.write(refuse(refusal))
        self.transport.write_eof()
        self._linger()

    def _linger(self) -> None:
        """Take what still comes, so that the client gets to the answer; then close."""
        self._buffer = b""
        self._linger_bytes = self._limits.linger_bytes
        self._resume_reading()
        self._deadline.wait(self._limits.linger_seconds)
        self._watch_reader()

    def _throw_away(self, data: bytes) -> None:
        assert self._linger_bytes is not None, "it lingers"
        self._linger_bytes -= len(data)
        body = self._body
        try:
            if body is not None:
                body.feed(data)
        except Refusal:
            self._close()
            return
        if self._linger_bytes < 0 or (body is not None and body.complete):
            self._close()

    def _close(self) -> None:
        self._deadline.stop()
        self.transport.close()
        self._watch_reader()

    def _watch_reader(self) -> None:
        """Cut the connection if the client does not take what waits for it."""
        if not self.transport.get_write_buffer_size():
            return
        if self._write_deadline is None:
            self._write_deadline = WriteDeadline(
                self.transport, loop=self._loop, seconds=self._limits.write_seconds
            )
        self._write_deadline.start()

    def _deadline_passed(self) -> None:
        cycle = self._cycle
        if self._linger_bytes is not None:
            self._close()
        elif cycle is None:
            if self._in_head:
                self._refuse(too_slow())
            else:
                self._close()
        elif self._body is not None and not cycle.has_sent:
            cycle.disconnect()
            self.transport.abort()
        elif self._is_reading_paused:
            if has_left(self.transport):
                self.transport.abort()
            else:
                self._deadline.wait(ASK_KERNEL_SECONDS)
