"""A response as its reader sees it, filled by a connection."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from typing_extensions import override

from relay.upstream.errors import ConnectionBroken, UpstreamError
from relay.upstream.head import Head
from relay.upstream.messages import UpstreamResponse

NO_HEADERS = Head()


class Source(Protocol):
    """What fills a response, as far as the response needs to know."""

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


class EngineResponse(UpstreamResponse):
    """Holds what has arrived and not been read.

    Its connection leaves it when the body is complete, read or not, and may then serve another
    call; until then they belong to each other, and closing one breaks the other.
    """

    __slots__ = (
        "_error",
        "_failure",
        "_head",
        "_is_complete",
        "_is_refused",
        "_loop",
        "_pieces",
        "_source",
        "_taker",
        "_waiter",
        "_waiting_since",
        "unread_bytes",
    )

    def __init__(self, *, loop: asyncio.AbstractEventLoop, source: Source) -> None:
        self.status = 0
        self._head = NO_HEADERS
        self.unread_bytes = 0
        self._loop = loop
        self._source: Source | None = source
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._waiting_since = 0.0
        self._is_complete = False
        self._error: UpstreamError | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._is_refused = False  # The taker wants no more.
        self._failure: Exception | None = None  # Of the taker.

    async def head(self) -> None:
        """Return when the head is here. A cancellation closes the response: nobody has it yet."""
        try:
            while not self.status and self._error is None:
                await self._progress()
        except BaseException:
            await self.close()
            raise
        if not self.status and self._error is not None:
            raise self._error

    @override
    async def read(self) -> bytes:
        while not self._pieces:
            # What came before a failure is delivered before the failure.
            if self._error is not None:
                raise self._error
            if self._is_complete:
                return b""
            await self._progress()
        return self._take()

    @override
    async def pass_on(self, take: Callable[[bytes], bool]) -> bool:
        self._is_refused = False
        while not self._is_refused:
            if self._pieces:
                if not take(self._take()):
                    return False
            elif self._error is not None:
                raise self._error
            elif self._is_complete:
                return True
            else:
                # No coroutine of its own: this is where thousands of streams wait, and each of
                # them would keep one more.
                self._taker, self._waiter = take, self._loop.create_future()
                self._waiting_since = self._loop.time()
                try:
                    await self._waiter
                finally:
                    self._taker = self._waiter = None
                if self._failure is not None:
                    raise self._failure
        return False

    @override
    def read_now(self) -> bytes:
        return self._take() if self._pieces else b""

    @property
    @override
    def has_ended(self) -> bool:
        return self._is_complete and not self._pieces and self._error is None

    @property
    @override
    def silent_seconds(self) -> float:
        return self._loop.time() - self._waiting_since if self._waiter is not None else 0.0

    @override
    async def read_all(self, limit: int) -> bytes:
        if self._is_complete and self._error is None and self.unread_bytes <= limit:
            return self._take()
        return await super().read_all(limit)

    @override
    async def close(self) -> None:
        source = self._source
        if source is not None:
            self._source = None
            source.abort()
        if self._error is None and (self._pieces or not self._is_complete):
            self.fail(ConnectionBroken("The response was closed before its end.", sent=True))
        self._pieces.clear()

    @property
    @override
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._head.pairs()

    @override
    def header(self, name: bytes) -> bytes | None:
        return self._head.value(name)

    @override
    def forget_headers(self) -> None:
        self._head = NO_HEADERS

    def begin(self, status: int, head: Head) -> None:
        self.status = status
        self._head = head

    def feed(self, data: bytes) -> None:
        take = self._taker
        # Who was woken, or cancelled, takes nothing more until it has seen why.
        if take is None or self._waiter is None or self._waiter.done():
            self._pieces.append(data)
            self.unread_bytes += len(data)
            return
        self._waiting_since = self._loop.time()
        try:
            if take(data):
                return
        except Exception as failure:  # noqa: BLE001  It is the reader's, and is raised there.
            self._failure = failure
        self._taker = None
        self._is_refused = True

    def complete(self) -> None:
        self._is_complete = True
        self._source = None

    def fail(self, error: UpstreamError) -> None:
        self._error = error
        self._source = None
        self.wake()

    def wake(self) -> None:
        if self._taker is not None and not self._is_complete and self._error is None:
            return  # It was given what there was.
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.unread_bytes = 0
        if self._source is not None:
            self._source.resume_reading()
        return data

    async def _progress(self) -> None:
        assert self._waiter is None, "A response has one reader at a time."
        self._waiter = self._loop.create_future()
        self._waiting_since = self._loop.time()
        try:
            await self._waiter
        finally:
            self._waiter = None
