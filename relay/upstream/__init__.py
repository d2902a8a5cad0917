"""Requests to upstreams: a small HTTP/1.1 client made for relaying.

`UpstreamEngine` is the fast implementation of the `Upstream` interface.
"""

from relay.upstream.engine import UpstreamEngine
from relay.upstream.errors import (
    BodyTooLarge,
    ConnectFailed,
    ConnectionBroken,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    PoolTimeout,
    ProtocolBroken,
    RequestRefused,
    TlsFailed,
    TotalTimeout,
    UpstreamError,
)
from relay.upstream.limits import Limits
from relay.upstream.messages import (
    BodyStream,
    Deadlines,
    Destination,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
)
from relay.upstream.pool import PoolStatistics

__all__ = [
    "BodyStream",
    "BodyTooLarge",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionBroken",
    "Deadlines",
    "Destination",
    "FirstByteTimeout",
    "IdleTimeout",
    "Limits",
    "PoolStatistics",
    "PoolTimeout",
    "ProtocolBroken",
    "RequestRefused",
    "TlsFailed",
    "TotalTimeout",
    "Upstream",
    "UpstreamEngine",
    "UpstreamError",
    "UpstreamRequest",
    "UpstreamResponse",
]
