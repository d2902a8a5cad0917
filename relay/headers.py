"""Which headers may pass: two allow-lists and the CORS answers.

Everything that is not named here stays where it is: cookies, organization and project ids, personal
data of chat front ends (`x-openwebui-user-email`), addresses and hop-by-hop headers.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

Header = tuple[bytes, bytes]

USER_AGENT: Final = b"tollgate"
MAX_VALUE_BYTES: Final = 1024
MAX_REQUESTED_BYTES: Final = 4096
MAX_REQUESTED_NAMES: Final = 64

_TO_UPSTREAM: Final = frozenset({b"accept", b"openai-beta"})
_TO_CLIENT: Final = (b"content-type", b"openai-processing-ms", b"openai-version")
_HEADER_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# NextChat wants a content type that starts exactly so; buffering proxies are told not to.
STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

# The API key travels in a header and no cookie is used, so any origin may call.
_CORS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        (
            b"x-request-id, x-should-retry, retry-after, retry-after-ms, openai-processing-ms,"
            b" openai-version, idempotent-replayed, x-ratelimit-limit-requests,"
            b" x-ratelimit-remaining-requests, x-ratelimit-reset-requests,"
            b" x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
        ),
    ),
)
_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, HEAD, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-max-age", b"86400"),
    (b"vary", b"Access-Control-Request-Headers"),
)
_DEFAULT_REQUESTED: Final = b"authorization, content-type"


def upstream_headers(
    client: Iterable[Header],
    *,
    host: bytes,
    authorization: bytes,
    content_type: bytes = b"application/json",
    authorization_name: bytes = b"authorization",
    extra: tuple[Header, ...] = (),
) -> list[Header]:
    """What goes upstream: our own headers, and of the client's only the harmless few.

    The content type is ours too: a body that was parsed as JSON is JSON, whatever it was called.
    `extra` are the operator's, for one channel.
    """
    passed: dict[bytes, bytes] = {}
    hop_by_hop = b""
    for name, value in client:
        if name in _TO_UPSTREAM:
            if len(value) <= MAX_VALUE_BYTES:
                passed.setdefault(name, value)
        elif name == b"connection":
            hop_by_hop += b"," + value.lower()
    if passed and hop_by_hop:
        for token in hop_by_hop.split(b","):
            passed.pop(token.strip(), None)
    return [
        (b"host", host),
        (authorization_name, authorization),
        (b"user-agent", USER_AGENT),
        (b"accept-encoding", b"identity"),
        (b"content-type", content_type),
        *passed.items(),
        *extra,
    ]


def client_headers(upstream: Callable[[bytes], bytes | None]) -> list[Header]:
    """What of upstream's answer headers the client may see. It is asked for each by its name."""
    return [
        (name, value)
        for name in _TO_CLIENT
        if (value := upstream(name)) is not None and len(value) <= MAX_VALUE_BYTES
    ]


def cors_headers() -> tuple[Header, ...]:
    """For every answer, refusals and streams included."""
    return _CORS


def preflight_headers(requested: bytes | None) -> list[Header]:
    """The answer to OPTIONS. `requested` is the value of Access-Control-Request-Headers.

    The names are echoed, because any fixed list breaks with the next release of an SDK.
    """
    names = _DEFAULT_REQUESTED if requested is None else _echo(requested)
    return [*_PREFLIGHT, (b"access-control-allow-headers", names)]


def _echo(requested: bytes) -> bytes:
    if len(requested) > MAX_REQUESTED_BYTES:
        return _DEFAULT_REQUESTED
    names = [name.strip() for name in requested.split(b",")[:MAX_REQUESTED_NAMES]]
    return b", ".join(n for n in names if n.lower() != b"cookie" and _HEADER_NAME.fullmatch(n))
