"""Everything that can go wrong between a request and the end of its response."""


class UpstreamError(Exception):
    """A call to an upstream failed.

    `sent` is true when any byte of the request may have reached the upstream: the call may then
    have been carried out and billed, so it must not be repeated elsewhere.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class RequestRefused(UpstreamError, ValueError):
    """The request cannot be written as HTTP/1.1 without ambiguity; nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class ConnectFailed(UpstreamError):
    """No connection: the name did not resolve, nobody listened, or the engine is closed."""


class ConnectTimeout(UpstreamError):
    """No connection within `connect_seconds`, TLS handshake included."""


class TlsFailed(UpstreamError):
    """The handshake failed, or the certificate did not prove the name that we asked for."""


class PoolTimeout(UpstreamError):
    """All connections to the destination stayed busy for `connect_seconds`."""


class FirstByteTimeout(UpstreamError):
    """The response head was not complete within `first_byte_seconds`."""


class IdleTimeout(UpstreamError):
    """The body made no progress for `idle_seconds`."""


class TotalTimeout(UpstreamError):
    """The whole call took longer than `total_seconds`."""


class ConnectionBroken(UpstreamError):
    """The connection was closed or reset before the response was complete."""


class ProtocolBroken(UpstreamError):
    """What came back is not HTTP/1.1, or exceeds the bounds of a response head."""


class BodyTooLarge(UpstreamError):
    """The body exceeds the limit that the reader gave."""
