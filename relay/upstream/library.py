"""The second engine: httpx, for what the first does not speak, proxies and HTTP/2."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx2
from typing_extensions import override

from relay.upstream.errors import (
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    PoolTimeout,
    RequestRefused,
    TotalTimeout,
    UpstreamError,
)
from relay.upstream.messages import (
    BodyStream,
    Destination,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
)

MAX_CONNECTIONS = 4096
KEEP_ALIVE_SECONDS = 30.0
# Nothing of the request has reached upstream where one of these happens.
_NOT_SENT: dict[type[Exception], type[UpstreamError]] = {
    httpx2.ConnectTimeout: ConnectTimeout,
    httpx2.PoolTimeout: PoolTimeout,
    httpx2.ConnectError: ConnectFailed,
    httpx2.ProxyError: ConnectFailed,
    httpx2.UnsupportedProtocol: ConnectFailed,
}
_Key = tuple[str, bool, str | None]


class LibraryEngine(Upstream):
    """Looks at no environment, follows no redirect, repeats nothing, keeps no cookie."""

    def __init__(self) -> None:
        self._transports: dict[_Key, httpx2.AsyncHTTPTransport] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @override
    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        if self._is_closed:
            raise ConnectFailed("The engine is closed.", sent=False)
        deadlines = request.deadlines
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + deadlines.total_seconds
        head_due = min(
            give_up_at, loop.time() + 2 * deadlines.connect_seconds + deadlines.first_byte_seconds
        )
        try:
            async with asyncio.timeout_at(head_due):
                response = await self._transport(request).handle_async_request(_encoded(request))
        except TimeoutError as error:
            kind = TotalTimeout if head_due == give_up_at else FirstByteTimeout
            raise kind("The response head did not come in time.", sent=True) from error
        except tuple(_NOT_SENT) as error:
            raise _NOT_SENT[type(error)](str(error), sent=False) from error
        except (httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            raise RequestRefused(str(error)) from error
        except httpx2.ReadTimeout as error:
            raise FirstByteTimeout(str(error), sent=True) from error
        except httpx2.TransportError as error:
            raise ConnectionBroken(str(error), sent=True) from error
        return LibraryResponse(response, self, request, give_up_at=give_up_at)

    @override
    async def close(self) -> None:
        self._is_closed = True
        for transport in self._transports.values():
            await transport.aclose()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def let_go(self, response: httpx2.Response) -> None:
        """Close a response without waiting for it."""
        task = asyncio.create_task(response.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _transport(self, request: UpstreamRequest) -> httpx2.AsyncHTTPTransport:
        key = (request.proxy, request.http2, request.destination.ca_file)
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = httpx2.AsyncHTTPTransport(
                verify=_context(request.destination),
                trust_env=False,
                http2=request.http2,
                proxy=httpx2.Proxy(request.proxy) if request.proxy else None,
                limits=httpx2.Limits(
                    max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_SECONDS
                ),
            )
        return transport


class LibraryResponse(UpstreamResponse):
    __slots__ = (
        "_engine",
        "_give_up_at",
        "_has_ended",
        "_idle_seconds",
        "_is_closed",
        "_pieces",
        "_response",
        "_waiting_since",
    )

    def __init__(
        self,
        response: httpx2.Response,
        engine: LibraryEngine,
        request: UpstreamRequest,
        *,
        give_up_at: float,
    ) -> None:
        self.status = response.status_code
        self._response = response
        self._engine = engine
        self._pieces = response.aiter_raw()
        self._idle_seconds = request.deadlines.idle_seconds
        self._give_up_at = give_up_at
        self._waiting_since: float | None = None
        self._has_ended = self._is_closed = False

    @property
    @override
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.lower(), value) for name, value in self._response.headers.raw]

    @override
    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    @override
    async def read(self) -> bytes:
        if self._has_ended:
            return b""
        if self._is_closed:
            raise ConnectionBroken("The response was closed before its end.", sent=True)
        loop = asyncio.get_running_loop()
        self._waiting_since = loop.time()
        due = min(self._give_up_at, self._waiting_since + self._idle_seconds)
        try:
            async with asyncio.timeout_at(due):
                return await anext(self._pieces)
        except StopAsyncIteration:
            self._has_ended = True
            return b""
        except TimeoutError as error:
            await self.close()
            kind = TotalTimeout if due == self._give_up_at else IdleTimeout
            raise kind("The body made no progress in time.", sent=True) from error
        except httpx2.TransportError as error:
            await self.close()
            raise ConnectionBroken(f"The body broke: {error}.", sent=True) from error
        finally:
            self._waiting_since = None

    @override
    def read_now(self) -> bytes:
        return b""  # What has arrived is known to the library alone.

    @property
    @override
    def has_ended(self) -> bool:
        return self._has_ended

    @property
    @override
    def silent_seconds(self) -> float:
        since = self._waiting_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @override
    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._engine.let_go(self._response)


def _encoded(request: UpstreamRequest) -> httpx2.Request:
    destination, deadlines = request.destination, request.deadlines
    scheme = "https" if destination.tls else "http"
    body, headers = request.body, list(request.headers)
    content: bytes | AsyncIterator[bytes] = body.pieces if isinstance(body, BodyStream) else body
    if isinstance(body, BodyStream) and body.length is not None:
        headers.append((b"content-length", str(body.length).encode()))
    seconds = deadlines.connect_seconds
    return httpx2.Request(
        request.method.decode("ascii"),
        f"{scheme}://{destination.authority.decode('ascii')}/",
        headers=headers,
        content=content,
        extensions={
            "target": request.target,
            "timeout": {"connect": seconds, "pool": seconds, "read": None, "write": None},
        },
    )


def _context(destination: Destination) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=destination.ca_file)
