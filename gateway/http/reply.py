"""The bytes of answers: heads as the application wants them, and refusals of our own (no I/O)."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from billing.identifiers import uuid7
from gateway.http.refusal import Refusal
from relay.errors import RelayError, render
from relay.headers import cors_headers

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"
CR, LF = END = b"\r\n"
CLOSE_AND_END: Final = CLOSE + END
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
NO_CONTENT: Final = 204
NOT_MODIFIED: Final = 304
FIRST_WITH_BODY: Final = 200
INTERNAL_ERROR: Final = 500

# The names that say how an answer is framed, which is the server's business; told apart by length.
_FRAMING: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_FRAMING_LENGTHS: Final = frozenset(map(len, _FRAMING))

# Lines that are the same in answer after answer, so they are made once.
_CONSTANT: Final = frozenset(
    {
        b"content-type",
        b"openai-version",
        b"cache-control",
        b"x-accel-buffering",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
    }
)
_MOST_KNOWN: Final = 256
_known_lines: Final[dict[tuple[bytes, bytes], bytes]] = {}


def _status_line(status: int) -> bytes:
    known = status in HTTPStatus._value2member_map_
    phrase = HTTPStatus(status).phrase if known else ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_MOST_KNOWN_SIZES: Final = 2048
_SIZE_LINES: Final = tuple(b"%x\r\n" % size for size in range(_MOST_KNOWN_SIZES))
_STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}


def _line(name: bytes, value: bytes) -> bytes:
    """Raises RuntimeError for a line end in it."""
    if LF in value or CR in value or LF in name or CR in name:
        # Somebody else's words would begin a header, or an answer, of their own.
        raise RuntimeError("A header of the answer has a line end in it.")
    line = b"%b: %b\r\n" % (name, value)
    if name in _CONSTANT and len(_known_lines) < _MOST_KNOWN:
        _known_lines[(name, value)] = line
    return line


class ReplyHead:
    """Its lines, of which the server adds the last ones, and what the application said by them."""

    __slots__ = ("_lines", "body_bytes", "closes")

    def __init__(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """Raises RuntimeError for a line end in one of them."""
        self.body_bytes: int | None = None
        self.closes = False
        self._lines = lines = [_STATUS_LINES[status]]
        for name, value in headers:
            line = _known_lines.get((name, value))
            if line is None:
                if len(name) in _FRAMING_LENGTHS and self._is_framing(name.lower(), value, status):
                    continue
                line = _line(name, value)
            lines.append(line)

    def _is_framing(self, name: bytes, value: bytes, status: int) -> bool:
        """Whether it is said in our own words, or not at all."""
        if name == b"content-length":
            self.body_bytes = int(value)
            return status == NO_CONTENT
        if name == b"connection":
            self.closes = self.closes or b"close" in value.lower()
            return True
        return name == b"transfer-encoding"

    def render(self, *more: bytes) -> bytes:
        """The whole head, with these lines at its end."""
        return b"".join((*self._lines, *more, END))


def whole_answer(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, closes: bool
) -> bytes | None:
    """An answer from its first to its last byte; None if a header says how it is framed.

    Raises RuntimeError for a line end in one of them.
    """
    lines = [_STATUS_LINES[status]]
    for header in headers:
        line = _known_lines.get(header)
        if line is None:
            name, value = header
            if len(name) in _FRAMING_LENGTHS and name.lower() in _FRAMING:
                return None
            line = _line(name, value)
        lines.append(line)
    lines += (b"content-length: %d\r\n" % len(body), CLOSE_AND_END if closes else END, body)
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    size = len(data)
    line = _SIZE_LINES[size] if size < _MOST_KNOWN_SIZES else b"%x\r\n" % size
    return b"".join((line, data, b"\r\n"))


def last_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


def refuse(refusal: Refusal) -> bytes:
    """The whole answer to what never became a request."""
    error = RelayError(refusal.status, refusal.message, code=refusal.code)
    return _whole(error)


def internal_error(*, with_body: bool) -> bytes:
    """The whole answer where the application has failed before it began one."""
    error = RelayError(
        INTERNAL_ERROR,
        "The server had an unexpected error while it processed the request.",
        type="server_error",
    )
    return _whole(error, with_body=with_body)


def _whole(error: RelayError, *, with_body: bool = True) -> bytes:
    status, headers, body = render(error)
    request_id = (b"x-request-id", b"req_" + uuid7().hex.encode())
    head = ReplyHead(status, [*headers, request_id, *cors_headers()])
    return head.render(CLOSE) + (body if with_body else b"")
