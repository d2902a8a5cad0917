"""Responses of one connection, from bytes to head and body (no I/O)."""

import re

import httptools

from relay.upstream.errors import ProtocolBroken
from relay.upstream.head import Head
from relay.upstream.limits import Limits

STATUS_SWITCHING_PROTOCOLS = 101
STATUS_FINAL_MIN = 200
STATUS_MIN = 100
STATUS_MAX = 599

HTTP = b"HTTP"
NO_HEADERS = Head()
KEEP_ALIVE_TIMEOUT = re.compile(rb"\btimeout\s*=\s*(\d{1,6})\b", re.IGNORECASE)


class ResponseParser:
    """Reads one response after another; `begin` before each.

    The parser below it enforces the grammar; this class adds bounds, skips interim responses and
    knows where a response ends. `status` stays 0 until the final head is complete; `broken` says
    why the rest cannot be understood, and what was understood before it still counts.

    A head is kept as the bytes that it came in. To be told each of its headers would cost more than
    all the rest of the parsing, and hardly any of them is ever looked at.
    """

    __slots__ = (
        "_fed_bytes",
        "_interim_responses",
        "_is_framed",
        "_is_head_request",
        "_is_interim",
        "_limits",
        "_overhead_bytes",
        "_parser",
        "_pieces",
        "_received",
        "broken",
        "complete",
        "head",
        "keep_alive_seconds",
        "on_body",
        "reusable",
        "status",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self.begin(is_head_request=False)
        self._parser = httptools.HttpResponseParser(self)

    def begin(self, *, is_head_request: bool) -> None:
        self._is_head_request = is_head_request
        self._is_framed = False  # Its head says where the body ends.
        self._is_interim = False
        self._interim_responses = 0
        self._overhead_bytes = 0
        self.status = 0
        self.head = NO_HEADERS
        self._received: bytes | bytearray = b""  # Of a head that is not complete.
        self.broken: ProtocolBroken | None = None
        self.complete = False
        self.reusable = False
        self.keep_alive_seconds = self._limits.keep_alive_seconds

    def feed(self, data: bytes) -> bytes:
        """Take received bytes and return the body bytes among them."""
        self._fed_bytes = len(data)
        if not self.status:
            self._receive(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._stop(error)
        pieces = self._pieces
        if pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._is_head_request:
                return b""
            self._overhead_bytes = 0
            return body
        # Heads, interim responses, chunk extensions and trailers: bounded, whatever they are.
        self._overhead_bytes += self._fed_bytes
        if self._overhead_bytes > self._limits.head_bytes and not self.complete:
            self.broken = ProtocolBroken("The response head or trailer is too large.", sent=True)
        return b""

    def ends_with_stream(self) -> bool:
        """Whether the end of the connection is the proper end of the body."""
        return self.status != 0 and not self._is_framed

    def take_head(self) -> Head:
        """The head, which is then no business of the parser any more."""
        head, self.head = self.head, NO_HEADERS
        return head

    def _receive(self, data: bytes) -> None:
        if not self._received:
            self._received = data
            return
        if isinstance(self._received, bytes):
            self._received = bytearray(self._received)
        self._received += data

    def _stop(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if self.complete:
            # The response is whole; what follows it only costs us the connection.
            self.reusable = False
        elif isinstance(cause, ProtocolBroken):
            self.broken = cause
        else:
            self.broken = ProtocolBroken(f"The response is not HTTP/1.1: {error}.", sent=True)

    def on_message_begin(self) -> None:
        if self.complete:
            raise ProtocolBroken("Bytes follow the response.", sent=True)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not STATUS_MIN <= status <= STATUS_MAX or status == STATUS_SWITCHING_PROTOCOLS:
            raise ProtocolBroken(f"The status {status} is not an answer to us.", sent=True)
        head = self._take_head()
        if status < STATUS_FINAL_MIN:
            self._skip_interim()
            return
        self.reusable = self._parser.should_keep_alive()
        self._received = b""
        self.head = head
        self._inspect(head)
        self.status = status
        if self._is_head_request:
            # The parser below now waits for a body that never comes, so it ends here.
            self.complete = True
            self.reusable = False

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        else:
            self.complete = True

    def _take_head(self) -> Head:
        """The head that has just been completed, and with it what was received of it."""
        received = self._received
        if received[0] != HTTP[0]:  # The parser below lets empty lines pass in front.
            received = received.lstrip(b"\r\n")
        # It has refused every other end of a line, and folded lines.
        end = received.index(b"\r\n\r\n") + 2
        if end + 2 > self._limits.head_bytes:
            raise ProtocolBroken("The response head is too large.", sent=True)
        head = Head(bytes(received[received.index(b"\r\n") : end]))
        if len(head) > self._limits.header_count:
            raise ProtocolBroken("The response has too many headers.", sent=True)
        self._received = received[end + 2 :]
        return head

    def _skip_interim(self) -> None:
        self._is_interim = True
        self._interim_responses += 1
        if self._interim_responses > self._limits.interim_responses:
            raise ProtocolBroken("Too many interim responses.", sent=True)

    def _inspect(self, head: Head) -> None:
        coding = head.raw_value(b"transfer-encoding")
        self._is_framed = coding is not None or head.raw_value(b"content-length") is not None
        # The parser below takes some other spellings, even a tab at the end, for a body without
        # chunks; and a second coding would reach the reader undecoded.
        if coding is not None and (
            coding.lstrip(b" \t").lower() != b"chunked" or head.count(b"transfer-encoding") > 1
        ):
            raise ProtocolBroken("The transfer encoding is not chunked and no more.", sent=True)
        keep_alive = head.value(b"keep-alive")
        if keep_alive is not None:
            self._shorten_keep_alive(keep_alive)

    def _shorten_keep_alive(self, value: bytes) -> None:
        found = KEEP_ALIVE_TIMEOUT.search(value)
        if found is not None:
            # A second's margin, so that we let go first.
            granted_seconds = float(found[1]) - 1.0
            self.keep_alive_seconds = min(self.keep_alive_seconds, granted_seconds)
            self.reusable = self.reusable and granted_seconds > 0.0
