"""The head of a request, from bytes to what it asks for (no I/O).

Strict, because what another server on the way reads differently is a way past it: lines end with
CR LF and nothing else, names are tokens, a line is never continued, a length is digits, and a
length and a coding exclude each other. Most lines of most heads have been seen before, so what a
line means is remembered.
"""

import re
from typing import Final, TypeVar
from urllib.parse import unquote

from gateway.http.refusal import Refusal, malformed, not_implemented, too_large

T = TypeVar("T")
Header = tuple[bytes, bytes]

CHUNKED: Final = -1
# Longer or rarer lines are read anew each time; so is whatever is secret.
REMEMBERED_BYTES: Final = 200
REMEMBERED_LINES: Final = 4096
SECRETS: Final = frozenset(
    {b"authorization", b"cookie", b"proxy-authorization", b"x-api-key", b"api-key"}
)
METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"}
)
MAX_LENGTH_DIGITS: Final = 18

_TOKEN: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_VERSION: Final = re.compile(rb"HTTP/\d\.\d")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)((?:[/?][^#]*)?)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._~%:\[\]!$&'()*+,;=-]*")
_LENGTH_VALUE: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
# Everything but control characters; a tab is not one here.
_VALUE_BYTES: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])


class RequestLine:
    __slots__ = ("authority", "http_version", "method", "path", "query", "raw_path")

    def __init__(self, line: bytes) -> None:
        """Raises Refusal."""
        try:
            method, target, version = line.split(b" ")
        except ValueError:
            raise malformed("its first line is not `METHOD target HTTP/1.1`") from None
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            if not _VERSION.fullmatch(version):
                raise malformed("its first line does not end with a version")
            raise Refusal(505, "This server speaks HTTP/1.1 only.", "http_version_not_supported")
        if method not in METHODS:
            if not _TOKEN.fullmatch(method):
                raise malformed("its method is none")
            raise not_implemented(f"the method `{method.decode()[:20]}`")
        self.http_version = version[5:].decode()
        self.method = method.decode()
        self.authority: bytes | None = None
        self._read_target(target)

    def _read_target(self, target: bytes) -> None:
        if not _TARGET.fullmatch(target):
            raise malformed("its target has characters that must be escaped")
        if not target.startswith(b"/"):
            if target == b"*" and self.method == "OPTIONS":
                self.path, self.raw_path, self.query = "*", target, b""
                return
            target = self._read_absolute(target)
        self.raw_path, _, self.query = target.partition(b"#")[0].partition(b"?")
        path = self.raw_path.decode()
        self.path = unquote(path) if "%" in path else path

    def _read_absolute(self, target: bytes) -> bytes:
        absolute = _ABSOLUTE.fullmatch(target.partition(b"#")[0])
        if absolute is None or not _AUTHORITY.fullmatch(absolute[1]):
            raise malformed("its target is neither a path nor an http URL")
        self.authority = absolute[1]
        rest = absolute[2]
        return rest if rest.startswith(b"/") else b"/" + rest


class _RequestLines(dict[bytes, RequestLine]):
    def __missing__(self, line: bytes) -> RequestLine:
        found = RequestLine(line)
        _remember(self, line, found)
        return found


class _HeaderLines(dict[bytes, Header]):
    def __missing__(self, line: bytes) -> Header:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise malformed("a line of its head is not `name: value`")
        if value.translate(None, _VALUE_BYTES):
            raise malformed("a value in its head has control characters")
        header = name.lower(), value.strip(b" \t")
        if header[0] not in SECRETS:
            _remember(self, line, header)
        return header


def _remember(known: dict[bytes, T], line: bytes, found: T) -> None:
    if len(line) <= REMEMBERED_BYTES:
        if len(known) >= REMEMBERED_LINES:
            known.clear()
        known[line] = found


_request_lines: Final = _RequestLines()
_header_lines: Final = _HeaderLines()
_read_request_line: Final = _request_lines.__getitem__
_read_header_line: Final = _header_lines.__getitem__


class Head:
    """What a request asks for, and where it ends. `body_bytes` may be CHUNKED."""

    __slots__ = (
        "_length_at",
        "_raw_end",
        "_raw_start",
        "body_bytes",
        "expects_continue",
        "headers",
        "keep_alive",
        "line",
    )

    def __init__(self, head: bytes, *, most_lines: int) -> None:
        """Of all its bytes but the empty line behind them. Raises Refusal."""
        lines = head.split(b"\r\n")
        if len(lines) > most_lines:
            raise too_large(f"it has more than {most_lines} lines")
        self.line = line = _read_request_line(lines[0])
        del lines[0]
        self.headers = headers = list(map(_read_header_line, lines))
        self.body_bytes = 0
        self.expects_continue = False
        self.keep_alive = line.http_version == "1.1"
        fields = dict(headers)
        if len(fields) != len(headers):
            self._check_repeated()
        if b"content-length" in fields or b"transfer-encoding" in fields:
            self._frame(fields)
        if b"connection" in fields and self.keep_alive:
            self.keep_alive = not self._says(b"connection", b"close")
        if line.authority is not None:
            self._replace_host(line.authority)
        elif b"host" not in fields and line.http_version == "1.1":
            raise malformed("it names no host")
        self._note_bytes(head)

    def repeat(self, head: bytes) -> bool:
        """Whether that is the same head but for the length of the body; then it is that one now.

        From one call to the next a client changes nothing else, so most heads need no parsing.
        """
        start, end = self._raw_start, self._raw_end
        if self._length_at < 0:
            return head == start
        if not (head.startswith(start) and head.endswith(end)):
            return False
        length = head[len(start) : len(head) - len(end)]
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
            return False
        self.body_bytes = int(length)
        self.headers = headers = self.headers.copy()
        headers[self._length_at] = (b"content-length", length)
        return True

    def _note_bytes(self, head: bytes) -> None:
        self._raw_start, self._raw_end, self._length_at = head, b"", -1
        if self.body_bytes <= 0:
            return
        found = _LENGTH_VALUE.search(head)
        if found is not None:
            self._raw_start, self._raw_end = head[: found.start(1)], head[found.end(1) :]
            names = [name for name, _ in self.headers]
            self._length_at = names.index(b"content-length")

    def _check_repeated(self) -> None:
        names = [name for name, _ in self.headers]
        for name in (b"content-length", b"transfer-encoding", b"host"):
            if names.count(name) > 1:
                raise malformed(f"its head has more than one `{name.decode()}`")

    def _frame(self, fields: dict[bytes, bytes]) -> None:
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is not None:
            if length is not None:
                raise malformed("it has a content-length and a transfer-encoding")
            if self.line.http_version == "1.0":
                raise malformed("a transfer-encoding needs HTTP/1.1")
            self._check_coding(coding.lower())
            self.body_bytes = CHUNKED
        elif length is not None:
            if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
                raise malformed("its content-length is not a number")
            self.body_bytes = int(length)
        self.expects_continue = (
            self.body_bytes != 0
            and self.line.http_version == "1.1"
            and fields.get(b"expect", b"").lower() == b"100-continue"
        )

    def _check_coding(self, coding: bytes) -> None:
        if coding == b"chunked":
            return
        if coding.rpartition(b",")[2].strip() != b"chunked":
            raise malformed("its last transfer coding is not `chunked`")
        raise not_implemented("any transfer coding but `chunked`")

    def _says(self, name: bytes, token: bytes) -> bool:
        values = b",".join(value.lower() for known, value in self.headers if known == name)
        return any(value.strip() == token for value in values.split(b","))

    def _replace_host(self, authority: bytes) -> None:
        """The host of an absolute target is the one that counts."""
        others = [(name, value) for name, value in self.headers if name != b"host"]
        self.headers = [(b"host", authority), *others]


def without_empty_lines(data: bytes) -> bytes:
    """Old clients end a body with an empty line that belongs to nothing."""
    at = 0
    while data.startswith(b"\r\n", at):
        at += 2
    return data[at:]
