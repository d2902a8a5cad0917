"""A request as the bytes of an HTTP/1.1 head (pure)."""

import string
from functools import lru_cache

from relay.upstream.errors import RequestRefused
from relay.upstream.messages import BodyStream, UpstreamRequest

MAX_REMEMBERED = 512
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
METHODS_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})

# These decide where a message ends or whether the connection lives on: they are ours alone.
RESERVED_NAMES = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

NAME_BYTES = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
TARGET_BYTES = bytes(range(0x21, 0x7F))
VALUE_BYTES = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


def encode_head(request: UpstreamRequest, *, authority: bytes) -> bytes:
    """Return the request line and the headers. Raises RequestRefused.

    A host header is added unless there is one, and so is our wish for an encoding: none.
    """
    method, body = request.method, request.body
    head = _checked_head(method, request.target, tuple(request.headers), authority)
    if isinstance(body, BodyStream):
        if body.length is None:
            return head + b"transfer-encoding: chunked\r\n\r\n"
        return b"%bcontent-length: %d\r\n\r\n" % (head, body.length)
    if body or method in METHODS_WITH_BODY:
        return b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
    return head + b"\r\n"


# Most requests to a channel differ in nothing but their length. What is refused is not remembered.
@lru_cache(MAX_REMEMBERED)
def _checked_head(
    method: bytes, target: bytes, headers: tuple[tuple[bytes, bytes], ...], authority: bytes
) -> bytes:
    """The head up to the length of the body."""
    if method not in METHODS:
        raise RequestRefused(f"The method {method!r} is not known.")
    # Deleting every permitted byte must leave nothing: one pass in C over each part of the head.
    if not target.startswith(b"/") or target.translate(None, TARGET_BYTES):
        raise RequestRefused("The target is not an absolute path of visible ASCII characters.")
    names = [name.lower() for name, _ in headers]
    if b"" in names or b"".join(names).translate(None, NAME_BYTES):
        raise RequestRefused("A header name is not a token.")
    if b"".join([value for _, value in headers]).translate(None, VALUE_BYTES):
        raise RequestRefused("A header value contains a control character.")
    if not RESERVED_NAMES.isdisjoint(names) or names.count(b"host") > 1:
        raise RequestRefused("Framing and connection headers are set by the engine, a host once.")
    lines = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    if b"host" not in names:
        lines.append(b"host: %b\r\n" % authority)
    lines += [b"%b: %b\r\n" % pair for pair in headers]
    if b"accept-encoding" not in names:
        lines.append(b"accept-encoding: identity\r\n")
    return b"".join(lines)
