"""One request and its answer, as an ASGI application sees them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from gateway.http.reply import (
    CHUNKED,
    CLOSE,
    CONTINUE,
    FIRST_WITH_BODY,
    LAST_CHUNK,
    NO_CONTENT,
    NOT_MODIFIED,
    ReplyHead,
    chunk,
    internal_error,
    last_chunk,
    whole_answer,
)
from gateway.http.wakeup import Wakeup
from relay.asgi_types import Application, Message, Scope

logger = logging.getLogger("tollgate.http")

# A larger body is not copied to go out in one piece with its head.
JOINED_BYTES: Final = 64 * 1024


# How the client sees where the answer ends.
NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKS: Final = 2
CLOSED: Final = 3  # HTTP/1.0 knows nothing better for an unknown length.


class Connection(Protocol):
    """What a cycle needs of its connection."""

    is_writing_paused: bool
    write: Callable[[bytes], None]

    async def wait_drained(self) -> None: ...
    def must_close(self) -> bool:
        """Whether this answer has to be the connection's last."""

    def body_wanted(self) -> None: ...
    def answered(self, cycle: "Cycle") -> None: ...
    def reset(self) -> None:
        """End the connection in disorder."""


class Cycle:
    """`disconnected` once nothing that is sent can arrive; `complete` once the answer is sent."""

    # Most of them keep these values; one that does not has a value of its own.
    awaits_continue = False
    body_complete = False
    complete = False
    disconnected = False
    unread_bytes = 0
    task: asyncio.Task[None] | None = None
    _took_last = False
    _started = False
    _framing = NO_BODY
    _left = 0
    _pending_head = b""
    _changed: Wakeup | None = None
    on_disconnect: Callable[[], None] | None = None

    def __init__(self, scope: Scope, connection: Connection, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._scope = scope
        self._connection = connection
        self._pieces: list[bytes] = []

    # For the connection.

    async def run(self, application: Application, ended: Callable[["Cycle"], None]) -> None:
        try:
            await application(self._scope, self.receive, self.send)
        except Exception:
            logger.exception("The application has failed.")
        else:
            if not (self.complete or self.disconnected):
                logger.error("The application left a request without a whole answer.")
        finally:
            if not (self.complete or self.disconnected):
                self._fail()
            self._scope = {}  # It may name us.
            self.on_disconnect = None
            ended(self)

    def feed(self, content: bytes, *, complete: bool) -> None:
        """Take a piece of the request's body."""
        self.body_complete = complete
        if content:
            self.awaits_continue = False
            self._pieces.append(content)
            self.unread_bytes += len(content)
        if self._changed is not None:
            self._changed.wake()

    def disconnect(self) -> None:
        self.disconnected = True
        if self._changed is not None:
            self._changed.wake()
        if self.on_disconnect is not None:
            told, self.on_disconnect = self.on_disconnect, None
            told()

    @property
    def has_sent(self) -> bool:
        """Whether anything of the answer has gone out."""
        return self._started and not self._pending_head

    # For the application.

    async def receive(self) -> Message:
        if self.awaits_continue and not self._started and not self.disconnected:
            self.awaits_continue = False
            self._connection.write(CONTINUE)
        while not (self.disconnected or self.complete):
            if self._pieces or (self.body_complete and not self._took_last):
                return self._take()
            if self._pending_head:
                self._flush_head()
            if self._changed is None:
                self._changed = Wakeup(asyncio.get_running_loop())
            await self._changed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        connection = self._connection
        while connection.is_writing_paused and not self.disconnected:
            await connection.wait_drained()
        if self.disconnected:
            return
        if message["type"] == "http.response.body":
            if not self._started or self.complete:
                raise RuntimeError("An answer's body comes behind its head, until it is complete.")
            body, more = message.get("body", b""), message.get("more_body", False)
            if more and self._framing == CHUNKS:
                if body:
                    connection.write(chunk(body))
                return
            self._send_body(body, more=more)
            if not more:
                self._end()
        elif message["type"] == "http.response.start":
            if self._started:
                raise RuntimeError("An answer begins once.")
            self._start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{message['type']} is no message that answers a request.")

    def body_now(self) -> bytes | None:
        """What `receive` gives, if that is the whole body."""
        if not self.body_complete or self._took_last or self.disconnected:
            return None
        self._took_last = True
        self.unread_bytes = 0
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def answer_now(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """What `send` does with an answer's head and all of its body, if it can at once."""
        connection = self._connection
        if (
            self.disconnected
            or connection.is_writing_paused
            or self._started
            or len(body) > JOINED_BYTES
            or status < FIRST_WITH_BODY
            or status in (NO_CONTENT, NOT_MODIFIED)
            or self._scope["method"] == "HEAD"
        ):
            return False
        closes = not self.keep_alive or connection.must_close()
        answer = whole_answer(status, headers, body, closes=closes)
        if answer is None:
            return False
        self.keep_alive = not closes
        self._started = True
        connection.write(answer)
        self._end()
        return True

    def stream_now(self, data: bytes) -> bool:
        """What `send` does with one more piece of a body of unknown length, if it can at once."""
        connection = self._connection
        if (
            self._framing != CHUNKS
            or connection.is_writing_paused
            or self.disconnected
            or self.complete
            or not data
        ):
            return False
        connection.write(chunk(data))
        return True

    # Inside.

    def _take(self) -> Message:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.unread_bytes = 0
        if self.body_complete:
            self._took_last = True
        else:
            self._connection.body_wanted()
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    def _start(self, status: int, headers: Any) -> None:
        head = ReplyHead(status, headers)
        lines = []
        scope = self._scope
        if scope["method"] == "HEAD" or status in (NO_CONTENT, NOT_MODIFIED):
            framing = NO_BODY
        elif status < FIRST_WITH_BODY:
            raise RuntimeError("An interim answer is no answer.")
        elif head.body_bytes is not None:
            framing = LENGTH
            self._left = head.body_bytes
        elif scope["http_version"] == "1.0":
            framing = CLOSED
            self.keep_alive = False
        else:
            framing = CHUNKS
            lines.append(CHUNKED)
        if head.closes or not self.keep_alive or self._connection.must_close():
            self.keep_alive = False
            lines.append(CLOSE)
        rendered = head.render(*lines)
        self._framing = framing
        self._started = True
        if framing in (LENGTH, NO_BODY):
            # What follows is at hand, nearly always: they leave together.
            self._pending_head = rendered
        else:
            self._connection.write(rendered)

    def _send_body(self, body: bytes, *, more: bool) -> None:
        framing = self._framing
        if framing == CHUNKS:
            self._connection.write(last_chunk(body) if body else LAST_CHUNK)
            return
        if framing == LENGTH:
            left = self._left - len(body)
            if left < 0 or (left and not more):
                raise RuntimeError("The answer's body is not as long as its head says.")
            self._left = left
        elif framing == NO_BODY:
            body = b""
        if self._pending_head:
            if len(body) <= JOINED_BYTES:
                body = self._pending_head + body
                self._pending_head = b""
            else:
                self._flush_head()
        if body:
            self._connection.write(body)

    def _flush_head(self) -> None:
        head, self._pending_head = self._pending_head, b""
        self._connection.write(head)

    def _end(self) -> None:
        self.complete = True
        if self._changed is not None:
            self._changed.wake()
        self._connection.answered(self)

    def _fail(self) -> None:
        """The application ended before its answer did."""
        self.keep_alive = False
        if not self._started:
            with_body = self._scope["method"] != "HEAD"
            self._connection.write(internal_error(with_body=with_body))
        elif self._pending_head:
            self._flush_head()
        elif self._framing == CLOSED:
            # An orderly end would be taken for the end of a whole answer.
            self._connection.reset()
        self._end()
