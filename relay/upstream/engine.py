"""The engine: one pool per destination."""

import asyncio

from typing_extensions import override

from relay.upstream.encoding import encode_head
from relay.upstream.errors import ConnectFailed
from relay.upstream.limits import Limits
from relay.upstream.messages import Destination, Upstream, UpstreamRequest, UpstreamResponse
from relay.upstream.pool import Patience, Pool, PoolStatistics

DEFAULT_LIMITS = Limits()


class UpstreamEngine(Upstream):
    """An HTTP/1.1 client that belongs to one event loop.

    It never repeats a request, follows a redirect, keeps a cookie, decodes a body or looks at the
    environment for a proxy.
    """

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._pools: dict[Destination, Pool] = {}
        self._is_closed = False

    @override
    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Return the response as soon as its head has arrived.

        Raises UpstreamError. Cancelling it at any point closes the connection it used.
        """
        destination, deadlines = request.destination, request.deadlines
        pool = self._pools.get(destination) or self._add_pool(destination)
        head = encode_head(request, authority=pool.authority)
        give_up_at = asyncio.get_running_loop().time() + deadlines.total_seconds
        connection = pool.take_idle()
        if connection is None:
            patience = Patience(seconds=deadlines.connect_seconds, give_up_at=give_up_at)
            connection = await pool.acquire(patience)
        response = connection.start(request, head=head, give_up_at=give_up_at)
        await response.head()
        return response

    @override
    async def close(self) -> None:
        self._is_closed = True
        for pool in self._pools.values():
            await pool.close()

    def statistics(self) -> dict[Destination, PoolStatistics]:
        return {destination: pool.statistics() for destination, pool in self._pools.items()}

    def _add_pool(self, destination: Destination) -> Pool:
        if self._is_closed:
            raise ConnectFailed("The engine is closed.", sent=False)
        pool = self._pools[destination] = Pool(destination, limits=self._limits)
        return pool
