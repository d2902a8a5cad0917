"""Tollgate's server and upstream engine, and nothing that bills: what relaying alone costs.

It reads, parses, looks up the key, relays and logs as the product does. There is no price, no hold,
no journal, no meter and no database. It exists to be measured, so nothing of it is in the product.
"""

import asyncio
import functools
import gc
import signal
import socket
import sys

import uvloop

from accounts.keys import key_digest, key_is_well_formed
from gateway.http import HttpServer, Limits
from gateway.ports import bind_listener
from relay import errors
from relay.asgi_types import Receive, Scope, Send
from relay.bodies.chat_requests import ChatRequest, parse_chat, upstream_body
from relay.call_log import CallLog
from relay.errors import RelayError
from relay.exchange import ClientLeft, Exchange
from relay.headers import client_headers, upstream_headers
from relay.upstream import (
    Destination,
    UpstreamEngine,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from relay.upstream_errors import from_failure

PEPPER = "bench-pepper"
MOST_BYTES = 32 * 1024 * 1024


class Plain:
    """An ASGI application for POST .../chat/completions, whatever the path is."""

    def __init__(self, *, upstream_url: str, key: str) -> None:
        self._destination, self._base_path = Destination.from_url(upstream_url)
        self._digests = {key_digest(key, pepper=PEPPER)}
        self._upstream = UpstreamEngine()
        self._log = CallLog()
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._started:
            self._started = True
            self._log.start()
        exchange = Exchange(scope, receive, send)
        try:
            await self._serve(exchange)
        except RelayError as error:
            await exchange.refuse(error)
        except UpstreamError as error:
            await exchange.refuse(from_failure(error))
        except ClientLeft:
            exchange.log["error"] = "client_left"
        finally:
            self._log.write(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        if _digest(exchange.header(b"authorization") or b"") not in self._digests:
            raise errors.invalid_api_key()
        request = parse_chat(await exchange.body(MOST_BYTES))
        exchange.log |= {"model": request.model, "stream": request.stream}
        async with await self._upstream.send(self._request(exchange, request)) as response:
            if request.stream:
                await _relay_stream(exchange, response)
            else:
                body = await response.read_all(MOST_BYTES)
                headers = client_headers(response.header)
                await exchange.answer(response.status, headers, body)

    def _request(self, exchange: Exchange, request: ChatRequest) -> UpstreamRequest:
        return UpstreamRequest(
            destination=self._destination,
            target=self._base_path + b"/chat/completions",
            headers=upstream_headers(
                exchange.headers,
                host=self._destination.authority,
                authorization=b"Bearer bench",
            ),
            body=upstream_body(
                request,
                upstream_model=request.model,
                include_usage=False,
                output_cap=None,
                cap_field="max_tokens",
            ),
        )


async def _relay_stream(exchange: Exchange, response: UpstreamResponse) -> None:
    departure = asyncio.ensure_future(exchange.departure())
    try:
        await exchange.stream_start(client_headers(response.header))
        while chunk := await response.read():
            await exchange.stream(chunk)
        await exchange.stream_end()
    finally:
        departure.cancel()


@functools.lru_cache
def _digest(authorization: bytes) -> bytes:
    key = authorization.removeprefix(b"Bearer ").decode("ascii")
    return key_digest(key, pepper=PEPPER) if key_is_well_formed(key, pepper=PEPPER) else b""


async def serve(application: Plain, listener: socket.socket) -> None:
    server = HttpServer(application, limits=Limits())
    await server.listen(listener)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.close(1)


def main() -> None:
    port, upstream_url, key = sys.argv[1:]
    application = Plain(upstream_url=upstream_url, key=key)
    listener = bind_listener("127.0.0.1", int(port))
    # As the supervisor does for its workers.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(application, listener))


if __name__ == "__main__":
    main()
