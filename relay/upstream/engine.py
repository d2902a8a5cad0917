"""The engine: one pool per destination."""

import asyncio

from typing_extensions import override

from relay.upstream.connection import STATUS_REDIRECTION_MIN, Connection
from relay.upstream.encoding import encode_head
from relay.upstream.errors import ConnectFailed
from relay.upstream.limits import Limits
from relay.upstream.messages import (
    BodyStream,
    Destination,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
)
from relay.upstream.pool import Patience, Pool, PoolStatistics
from relay.upstream.response import EngineResponse

DEFAULT_LIMITS = Limits()


class UpstreamEngine(Upstream):
    """An HTTP/1.1 client that belongs to one event loop.

    It never repeats a request, follows a redirect, keeps a cookie, decodes a body or looks at the
    environment for a proxy.
    """

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._pools: dict[tuple[object, ...], Pool] = {}  # By the destination's key.
        self._is_closed = False

    @override
    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Return the response as soon as its head has arrived.

        Raises UpstreamError. Cancelling it at any point closes the connection it used.
        """
        destination, deadlines = request.destination, request.deadlines
        pool = self._pools.get(destination.key) or self._add_pool(destination)
        head = encode_head(request, authority=pool.authority)
        give_up_at = asyncio.get_running_loop().time() + deadlines.total_seconds
        connection = pool.take_idle()
        if connection is None:
            patience = Patience(seconds=deadlines.connect_seconds, give_up_at=give_up_at)
            connection = await pool.acquire(patience)
        response = connection.start(request, head=head, give_up_at=give_up_at)
        if isinstance(request.body, BodyStream):
            await _send_along(connection, request, response)
        else:
            await response.head()
        return response

    @override
    async def close(self) -> None:
        self._is_closed = True
        for pool in self._pools.values():
            await pool.close()

    def statistics(self) -> dict[Destination, PoolStatistics]:
        return {pool.destination: pool.statistics() for pool in self._pools.values()}

    def _add_pool(self, destination: Destination) -> Pool:
        if self._is_closed:
            raise ConnectFailed("The engine is closed.", sent=False)
        pool = self._pools[destination.key] = Pool(destination, limits=self._limits)
        return pool


async def _send_along(
    connection: Connection, request: UpstreamRequest, response: EngineResponse
) -> None:
    """Send a body while it comes, until all of it is sent or the upstream has refused it."""
    assert isinstance(request.body, BodyStream), "Only such a body is sent while it comes."
    body, seconds = request.body, request.deadlines.first_byte_seconds
    sending = asyncio.ensure_future(connection.send_body(body, first_byte_seconds=seconds))
    answered = asyncio.ensure_future(response.head())
    try:
        await asyncio.wait((sending, answered), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        await answered
        if response.status < STATUS_REDIRECTION_MIN:
            await sending
    except BaseException:
        await response.close()
        raise
    finally:
        sending.cancel()
        answered.cancel()
        await asyncio.gather(sending, answered, return_exceptions=True)
