"""One HTTP exchange of the data plane: reading what the client sends, answering it once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from billing.identifiers import uuid7
from relay import errors
from relay.asgi_types import DIRECT, Direct, Message, Receive, Scope, Send
from relay.bodies import content_encoding
from relay.errors import RelayError, render
from relay.headers import STREAM_HEADERS, Header, cors_headers

# A client that sends its body more slowly than this keeps a connection for nothing.
BODY_SECONDS = 120
# A large upload may take longer, as long as it comes at least so fast.
UPLOAD_BYTES_PER_SECOND = 16 * 1024


class ClientLeft(Exception):
    """The client closed the connection before its request or its answer was complete."""


class Exchange:
    __slots__ = (
        "_aside",
        "_fields",
        "_is_unpacked",
        "_receive",
        "_send",
        "_servers",
        "client_address",
        "headers",
        "id",
        "limit_headers",
        "log",
        "method",
        "path",
        "query",
        "request_id",
        "started_at",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = uuid7()
        self.request_id = f"req_{self.id.int.to_bytes(16).hex()}"
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.headers: list[Header] = scope["headers"]
        self.client_address: str | None = (scope.get("client") or (None,))[0]
        self.started_at = time.monotonic()
        self.status = 0  # Of the answer; 0 while there is none.
        self.log: dict[str, Any] = {}  # What the endpoint adds to the log line of this exchange.
        self.limit_headers: tuple[Header, ...] = ()  # Of the answer: the rate limits of the call.
        self._fields: dict[bytes, bytes] | None = None
        self._is_unpacked = False  # What the body was packed by, its next reader need not know.
        self._receive = receive
        self._send = send
        self._servers: tuple[Send, Direct | None] = (send, scope.get(DIRECT))
        self._aside: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; names are lower case."""
        if self._fields is None:
            self._fields = dict(reversed(self.headers))
        return self._fields.get(name)

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body, unpacked. Raises RelayError, ClientLeft."""
        encoding = self._encoding()
        if encoding is None:
            direct = self._direct()
            whole = direct.body_now() if direct is not None else None
            if whole is None:
                return await self._body(limit_bytes)
            return self._checked(whole, limit_bytes)
        if not content_encoding.is_known(encoding):
            raise errors.unsupported_content_encoding(encoding.decode("latin-1"))
        packed = await self._body(limit_bytes)
        self._is_unpacked = True
        # In a thread: others must not wait for what somebody packed tightly.
        return await asyncio.to_thread(
            content_encoding.unpack, packed, encoding, limit_bytes=limit_bytes
        )

    def _encoding(self) -> bytes | None:
        """How the body is packed, if it is."""
        encoding = self.header(b"content-encoding")
        if encoding is None or self._is_unpacked:
            return None
        encoding = encoding.strip().lower()
        return None if encoding in {b"identity", b""} else encoding

    async def _body(self, limit_bytes: int) -> bytes:
        self._check_announced(limit_bytes)
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return self._checked(message.get("body", b""), limit_bytes)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._rest_of_body(message, limit_bytes)
        except TimeoutError:
            raise errors.request_timeout() from None

    def _checked(self, body: bytes, limit_bytes: int) -> bytes:
        if len(body) > limit_bytes:
            raise errors.request_too_large(limit_bytes)
        return body

    async def _rest_of_body(self, message: Message, limit_bytes: int) -> bytes:
        pieces, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit_bytes:
                raise errors.request_too_large(limit_bytes)
            pieces.append(piece)
            if not message.get("more_body"):
                return b"".join(pieces)
            message = await self._receive()

    async def body_chunks(self, limit_bytes: int) -> AsyncIterator[bytes]:
        """The body piece by piece; while a piece is not taken, the client has to wait.

        Raises RelayError (413, 408, 415), ClientLeft. The time that is spent on a piece is not
        counted against the client.
        """
        encoding = self._encoding()
        if encoding is not None:
            raise errors.unsupported_content_encoding(encoding.decode("latin-1"))
        self._check_announced(limit_bytes)
        loop = asyncio.get_running_loop()
        size, waited, more_body = 0, 0.0, True
        while more_body:
            began = loop.time()
            patience = BODY_SECONDS + size / UPLOAD_BYTES_PER_SECOND - waited
            try:
                async with asyncio.timeout_at(began + patience):
                    message = await self._receive()
            except TimeoutError:
                raise errors.request_timeout() from None
            waited += loop.time() - began
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit_bytes:
                raise errors.request_too_large(limit_bytes)
            more_body = message.get("more_body", False)
            if piece:
                yield piece

    def _check_announced(self, limit_bytes: int) -> None:
        """Refuse a body by the size that its head says. Raises RelayError."""
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit_bytes:
            raise errors.request_too_large(limit_bytes)

    async def departure(self) -> None:
        """Returns when the client has left; only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _direct(self) -> Direct | None:
        """What the server offers beside ASGI, while nobody stands between it and us."""
        send, direct = self._servers
        return direct if send is self._send else None

    def has_left(self) -> bool:
        """Whether the client is known to be gone; only after the body was read."""
        if (direct := self._direct()) is not None:
            return direct.disconnected
        departure = self.departure()
        try:
            departure.send(None)
        except StopIteration:
            return True
        finally:
            departure.close()
        return False

    def watch(self, left: Callable[[], None]) -> None:
        """Have it called when the client leaves, until `unwatch`; only after the body was read."""
        if (direct := self._direct()) is None:
            self._aside = asyncio.create_task(self._watch_departure(left))
        elif direct.disconnected:
            left()
        else:
            direct.on_disconnect = left

    def unwatch(self) -> None:
        if self._aside is not None:
            self._aside.cancel()
        elif (direct := self._direct()) is not None:
            direct.on_disconnect = None

    async def _watch_departure(self, left: Callable[[], None]) -> None:
        await self.departure()
        left()

    async def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send a whole answer. Raises ClientLeft."""
        head = [*headers, (b"x-request-id", self.request_id.encode()), *cors_headers()]
        direct = self._direct()
        more = self.limit_headers
        if (
            direct is not None
            and not self.status
            and direct.answer_now(status, [*head, *more], body)
        ):
            self.status = status
            return
        await self._start(status, [*head, (b"content-length", str(len(body)).encode())])
        await self.stream_end(body)

    async def preflight(self, headers: Iterable[Header]) -> None:
        """Answer a browser's question whether it may call."""
        self.status = 204
        await self._send({"type": "http.response.start", "status": 204, "headers": list(headers)})
        await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, error: RelayError) -> None:
        """Answer with an error."""
        status, headers, body = render(error)
        extra = [
            (b"openai-processing-ms", str(self.elapsed_ms()).encode()),
            *((name, value) for name, value in headers if name != b"content-length"),
        ]
        self._note(error)
        with suppress(ClientLeft):
            await self.answer(status, extra, body if self.method != "HEAD" else b"")

    async def stream_fail(self, error: RelayError, ending: bytes) -> None:
        """End a stream that has begun, by what tells of the error."""
        self._note(error)
        with suppress(ClientLeft):
            await self.stream_end(ending)

    def _note(self, error: RelayError) -> None:
        self.log.setdefault("error", error.code or error.type)

    async def stream_start(self, headers: Iterable[Header]) -> None:
        """Begin a stream of events. Raises ClientLeft."""
        others = [(name, value) for name, value in headers if name != b"content-type"]
        await self.respond_start(200, [*STREAM_HEADERS, *others])

    async def respond_start(self, status: int, headers: Iterable[Header]) -> None:
        """Begin an answer of any kind and length: `stream` and `stream_end` send what follows.

        Raises ClientLeft.
        """
        head = [*headers, (b"x-request-id", self.request_id.encode()), *cors_headers()]
        await self._start(status, head)

    # What is sent to a client that has left, the server may drop, or it tells so by an exception.

    async def _start(self, status: int, headers: list[Header]) -> None:
        assert not self.status, "an exchange is answered once"
        self.status = status
        if self.limit_headers:
            headers.extend(self.limit_headers)
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        except OSError as error:
            raise ClientLeft from error

    def writer(self) -> Callable[[bytes], bool]:
        """What sends a piece as `stream` does, if it need not wait; else it says False."""
        direct = self._direct()
        return direct.stream_now if direct is not None else _has_to_wait

    async def stream_unless_full(self, data: bytes) -> None:
        """The same for what a client does not need that has not even taken what is there.

        Raises ClientLeft.
        """
        direct = self._direct()
        if direct is None:
            await self.stream(data)
        else:
            direct.stream_now(data)

    async def stream(self, data: bytes) -> None:
        """Raises ClientLeft."""
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except (OSError, RuntimeError) as error:
            raise ClientLeft from error

    async def stream_end(self, data: bytes = b"") -> None:
        """Raises ClientLeft."""
        try:
            await self._send({"type": "http.response.body", "body": data})
        except (OSError, RuntimeError) as error:
            raise ClientLeft from error

    @contextmanager
    def intercepted(
        self, receive: Receive, send: Callable[[Send, Mapping[str, Any]], Awaitable[None]]
    ) -> Iterator[None]:
        """Meanwhile, everything comes and goes through these; `send` gets what sends it on."""
        before = self._receive, self._send
        self._receive, self._send = receive, partial(send, self._send)
        try:
            yield
        finally:
            self._receive, self._send = before

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.started_at) * 1000)


def _has_to_wait(_: bytes) -> bool:
    return False
