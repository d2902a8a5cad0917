"""One connection to an upstream, serving one call at a time."""

import asyncio
import math
import select
import socket
import ssl
import sys
from typing import Protocol, cast

from typing_extensions import override

from relay.upstream.errors import (
    ConnectionBroken,
    FirstByteTimeout,
    IdleTimeout,
    TotalTimeout,
    UpstreamError,
)
from relay.upstream.limits import Limits
from relay.upstream.messages import BodyStream, UpstreamRequest
from relay.upstream.parsing import ResponseParser
from relay.upstream.response import EngineResponse
from relay.upstream.timers import DeadlineTimer

# The head and this much of the body go out in one write, the rest piece by piece as it drains.
PIECE_BYTES = 64 * 1024
STATUS_REDIRECTION_MIN = 300

# A model may think for minutes while not a byte flows, and networks forget silent connections.
KEEP_ALIVE_OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
if sys.platform == "linux":
    KEEP_ALIVE_OPTIONS += [
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    ]


class Owner(Protocol):
    """Who is told what becomes of a connection."""

    def connection_free(self, connection: "Connection") -> None: ...

    def connection_gone(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """A transport, a parser and a timer.

    `is_closed` is final and set before anyone hears of it: a connection that had any trouble is
    never used again.
    """

    __slots__ = (
        "_drained",
        "_idle_seconds",
        "_is_body_open",
        "_is_reading_paused",
        "_is_writing_paused",
        "_limits",
        "_loop",
        "_lost",
        "_owner",
        "_parser",
        "_poll",
        "_response",
        "_timer",
        "_transport",
        "_unsent",
        "has_served",
        "is_closed",
    )

    def __init__(self, *, loop: asyncio.AbstractEventLoop, owner: Owner, limits: Limits) -> None:
        self.is_closed = False
        self.has_served = False
        self._loop = loop
        self._owner = owner
        self._limits = limits
        self._parser = ResponseParser(limits)
        self._timer = DeadlineTimer(loop=loop, callback=self._deadline_passed)
        self._poll = select.poll()
        self._response: EngineResponse | None = None
        self._unsent: memoryview | None = None
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._is_body_open = False  # More of it is still to come.
        self._drained: asyncio.Future[None] | None = None
        self._idle_seconds = 0.0
        self._lost = loop.create_future()

    # For the pool and the engine.

    def start(self, request: UpstreamRequest, *, head: bytes, give_up_at: float) -> EngineResponse:
        """Write the request and return the response, which is empty as yet.

        `give_up_at` is in the loop's time.
        """
        assert self._response is None, "A connection serves one call at a time."
        response = self._response = EngineResponse(loop=self._loop, source=self)
        self._parser.begin(is_head_request=request.method == b"HEAD")
        self._idle_seconds = request.deadlines.idle_seconds
        self._timer.due = self._loop.time() + request.deadlines.first_byte_seconds
        self._timer.last = give_up_at
        body = request.body
        if isinstance(body, BodyStream):
            self._timer.due = math.inf  # See send_body.
            self._timer.arm()
            self._is_body_open = True
            self._transport.write(head)
            return response
        self._timer.arm()
        self._transport.write(head + body[:PIECE_BYTES])
        if len(body) > PIECE_BYTES:
            self._unsent = memoryview(body)[PIECE_BYTES:]
            self._write_more()
        return response

    async def send_body(self, body: BodyStream, *, first_byte_seconds: float) -> None:
        """Send it while it comes; returns early when the connection is closed.

        The peer's patience with us is its own; ours with the peer is that it takes something
        within the idle time, and answers in time once it has all.
        """
        sent = 0
        async for piece in body.pieces:
            while self._is_writing_paused and not self.is_closed:
                await self._wait_drained()
            if self.is_closed:
                return
            sent += len(piece)
            if piece:  # An empty one would be taken for the end of the chunks.
                self._send_piece(piece, body, sent)
        if body.length is not None and sent != body.length:
            raise _wrong_length(sent, body.length)
        if not self.is_closed:
            self._end_body(body, first_byte_seconds)

    def _send_piece(self, piece: bytes, body: BodyStream, sent: int) -> None:
        if body.length is None:
            self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        elif sent > body.length:
            raise _wrong_length(sent, body.length)  # The rest would pass for another request.
        else:
            self._transport.write(piece)

    def _end_body(self, body: BodyStream, first_byte_seconds: float) -> None:
        if body.length is None:
            self._transport.write(b"0\r\n\r\n")
        self._is_body_open = False
        if self._response is not None and not self._response.status:
            self._timer.due = self._loop.time() + first_byte_seconds
            self._timer.arm()

    async def _wait_drained(self) -> None:
        self._drained = self._loop.create_future()
        self._expect_progress()
        try:
            await self._drained
        finally:
            self._drained = None
            self._timer.due = math.inf

    def is_open(self) -> bool:
        return not self.is_closed and not self._transport.is_closing()

    def is_alive(self) -> bool:
        """Whether it is open, and the kernel has neither an end nor unasked bytes from the peer.

        The event loop would tell too, but only in its next round: after our write.
        """
        return self.is_open() and not self._poll.poll(0)

    def abort(self) -> None:
        """Close at once and for good. A response under way is the caller's business."""
        if self.is_closed:
            return
        self.is_closed = True
        self._response = None
        self._unsent = None
        self._wake_sender()
        self._timer.cancel()
        self._transport.abort()
        self._owner.connection_gone(self)

    def break_off(self, error: UpstreamError) -> None:
        """Close at once and let the response under way, if any, fail with the error."""
        response = self._response
        self.abort()
        if response is not None:
            response.fail(error)

    def tls_session(self) -> ssl.SSLSession | None:
        ssl_object: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return ssl_object.session if ssl_object is not None else None

    async def wait_lost(self) -> None:
        """Return when the transport has let go of its socket."""
        await asyncio.shield(self._lost)

    # For the response.

    def resume_reading(self) -> None:
        if self._is_reading_paused and self.is_open():
            self._is_reading_paused = False
            self._transport.resume_reading()
            self._expect_progress()

    # For the transport.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        own_socket = transport.get_extra_info("socket")
        for option in KEEP_ALIVE_OPTIONS:
            own_socket.setsockopt(*option)
        self._poll.register(own_socket.fileno(), select.POLLIN)

    @override
    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nobody asked: this could only be taken for the answer to somebody else's call.
            self.abort()
            return
        parser = self._parser
        body = parser.feed(data)
        if parser.status:
            if not response.status:
                response.begin(parser.status, parser.take_head())
                self._stop_sending_if_refused(parser.status)
            if body:
                response.feed(body)
            if parser.complete:
                self._response_complete(response)
            else:
                self._expect_progress()
                if response.unread_bytes > self._limits.unread_bytes:
                    self._pause_reading()
            response.wake()
        if parser.broken is not None:
            self.break_off(parser.broken)

    @override
    def eof_received(self) -> None:
        response = self._response
        if response is not None and self._parser.ends_with_stream() and self._has_said_farewell():
            response.complete()
            self.abort()
            response.wake()
        else:
            self._peer_left(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._peer_left(exc)
        self._lost.set_result(None)

    @override
    def pause_writing(self) -> None:
        self._is_writing_paused = True

    @override
    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._write_more()
        self._wake_sender()

    # Inside.

    def _has_said_farewell(self) -> bool:
        """Whether an end is the peer's own: anybody can cut a line, but TLS signs its end."""
        ssl_object: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        try:
            return ssl_object is None or ssl_object.read(1) == b""
        except ssl.SSLError:
            return False

    def _write_more(self) -> None:
        while self._unsent is not None and not self._is_writing_paused:
            piece, rest = self._unsent[:PIECE_BYTES], self._unsent[PIECE_BYTES:]
            self._unsent = rest or None
            self._transport.write(piece)

    def _wake_sender(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _stop_sending_if_refused(self, status: int) -> None:
        """An upstream that refuses early will not read the rest of the body."""
        if self._unsent is not None and status >= STATUS_REDIRECTION_MIN:
            self._unsent = None
            self._parser.reusable = False

    def _expect_progress(self) -> None:
        timer = self._timer
        timer.due = self._loop.time() + self._idle_seconds
        timer.arm()

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and self.is_open():
            self._is_reading_paused = True
            self._transport.pause_reading()
        # It is the reader who is slow now: only the total deadline runs on.
        self._timer.due = math.inf

    def _response_complete(self, response: EngineResponse) -> None:
        response.complete()
        self._response = None
        if self._parser.reusable and self._unsent is None and not self._is_body_open:
            self._timer.last = math.inf
            self._timer.due = self._loop.time() + self._parser.keep_alive_seconds
            self._timer.arm()
            self._owner.connection_free(self)
        else:
            self.abort()

    def _peer_left(self, error: Exception | None) -> None:
        if not self.is_closed:
            reason = f": {error}" if error is not None else ""
            self.break_off(ConnectionBroken(f"The upstream hung up{reason}.", sent=True))

    def _deadline_passed(self) -> None:
        response = self._response
        if response is None:
            self.abort()  # Unused for as long as we keep connections.
        elif self._loop.time() >= self._timer.last:
            self.break_off(TotalTimeout("The call took too long.", sent=True))
        elif not response.status:
            self.break_off(FirstByteTimeout("The upstream did not answer in time.", sent=True))
        else:
            self.break_off(IdleTimeout("The upstream fell silent.", sent=True))


def _wrong_length(sent: int, length: int) -> RuntimeError:
    return RuntimeError(f"The body has {sent} bytes, and not {length}.")
