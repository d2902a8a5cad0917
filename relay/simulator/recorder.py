"""What came in lately, so that a test can see what reached the upstream and how often."""

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from relay.simulator.sending import Headers, Progress

KEPT_REQUESTS = 256
KEPT_TAGS = 4_096
KEPT_BODY_BYTES = 65_536
_SHOWN_CHARACTERS = 4
_CREDENTIALS = frozenset((b"authorization", b"proxy-authorization", b"x-api-key", b"api-key"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    number: int
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    body_bytes: int
    body_sha256: str
    tag: str | None
    progress: Progress = field(default_factory=Progress)

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": [_header_shown(name, value) for name, value in self.headers],
            "body": _body_shown(self.body),
            "body_bytes": self.body_bytes,
            "body_sha256": self.body_sha256,
            "tag": self.tag,
            "outcome": self.progress.outcome,
            "writes": self.progress.writes,
        }


class Recorder:
    def __init__(self) -> None:
        self._received: deque[Received] = deque(maxlen=KEPT_REQUESTS)
        self._total = 0
        self._by_tag: Counter[str] = Counter()

    def record(self, scope: dict[str, Any], *, body: bytes, tag: str | None) -> Progress:
        """Remember the request; the progress given back is to be kept up to date."""
        self._total += 1
        if tag is not None and (tag in self._by_tag or len(self._by_tag) < KEPT_TAGS):
            self._by_tag[tag] += 1
        received = Received(
            number=self._total,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=tuple((name, value) for name, value in scope["headers"]),
            body=body[:KEPT_BODY_BYTES],
            body_bytes=len(body),
            body_sha256=hashlib.sha256(body).hexdigest(),
            tag=tag,
        )
        self._received.append(received)
        return received.progress

    def report(self, *, tag: str | None) -> dict[str, Any]:
        return {
            "total": self._total if tag is None else self._by_tag[tag],
            "data": [one.as_json() for one in self._received if tag is None or one.tag == tag],
        }

    def clear(self) -> None:
        self._received.clear()
        self._by_tag.clear()
        self._total = 0


def _header_shown(name: bytes, value: bytes) -> tuple[str, str]:
    text = value.decode("latin-1")
    if name in _CREDENTIALS:
        scheme, space, secret = text.rpartition(" ")
        text = f"{scheme}{space}{_secret_shown(secret)}"
    return name.decode("latin-1"), text


def _secret_shown(secret: str) -> str:
    if len(secret) <= 2 * _SHOWN_CHARACTERS:
        return "***"
    return f"{secret[:_SHOWN_CHARACTERS]}***{secret[-_SHOWN_CHARACTERS:]}"


def _body_shown(body: bytes) -> Any:
    """The body as JSON, or as text if it is none (or too long to be kept whole)."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace") if body else None
