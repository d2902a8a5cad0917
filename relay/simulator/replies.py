"""From what an endpoint says to the bytes of its reply, with what the knobs want."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from relay.simulator.errors import ErrorBody, error_for
from relay.simulator.faults import error_of, events_fault, reply_fault
from relay.simulator.framing import events_frame
from relay.simulator.headers import EVENT_STREAM, JSON, headers_make
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.sending import Reply
from relay.simulator.streams import EventStream, error_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    method: str
    path: str
    body: bytes = b""
    content_type: str = ""
    query: dict[str, list[str]] = field(default_factory=dict)
    # Whose responses and conversations the call may see.
    credential: str = ""

    digest: str

    def first(self, name: str) -> str | None:
        """The query parameter's first value."""
        values = self.query.get(name)
        return values[0] if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A stream, or bytes, or else a document."""

    knobs: Knobs = NO_KNOBS
    document: Any = None
    stream: EventStream | None = None
    body: bytes | None = None
    content_type: bytes = JSON
    # Bytes go out in parts of this size, without a content-length.
    part_bytes: int | None = None

    @property
    def usage(self) -> Any:
        """What it reports to have used; None if it does not."""
        if self.stream is not None:
            return self.stream.usage
        return self.document.get("usage") if isinstance(self.document, dict) else None


def reply_make(answer: Answer, *, digest: str) -> Reply:
    knobs = answer.knobs
    if knobs.status is not None:
        error = error_of(knobs.error, default=error_for(knobs.status))
        reply = error_reply(knobs.status, error, digest=digest, knobs=knobs)
    elif answer.stream is not None:
        reply = _stream_reply(answer.stream, knobs=knobs, digest=digest)
    else:
        reply = _body_reply(answer, digest=digest)
    reply = replace(
        reply,
        tag=knobs.tag,
        delay_seconds=knobs.delay_ms / 1000,
        pause_seconds=knobs.chunk_delay_ms / 1000,
    )
    return reply_fault(reply, knobs=knobs, digest=digest)


def error_reply(status: int, error: ErrorBody, *, digest: str, knobs: Knobs | None = None) -> Reply:
    body = error_document(error)
    more = _retry_headers(status, knobs) | knobs.headers if knobs is not None else {}
    headers = headers_make(digest=digest, content_type=JSON, length=len(body), more=more.items())
    return Reply(status=status, headers=headers, writes=(body,))


def _stream_reply(stream: EventStream, *, knobs: Knobs, digest: str) -> Reply:
    events, ending = events_fault(stream, knobs=knobs)
    headers = headers_make(
        digest=digest, content_type=EVENT_STREAM, length=None, more=knobs.headers.items()
    )
    writes = tuple(events_frame(events, knobs=knobs))
    return Reply(status=200, headers=headers, writes=writes, ending=ending, is_stream=True)


def _body_reply(answer: Answer, *, digest: str) -> Reply:
    body = msgspec.json.encode(answer.document) if answer.body is None else answer.body
    part = answer.part_bytes
    headers = headers_make(
        digest=digest,
        content_type=answer.content_type,
        length=len(body) if part is None else None,
        more=answer.knobs.headers.items(),
    )
    if part is None:
        return Reply(status=200, headers=headers, writes=(body,))
    writes = tuple(body[at : at + part] for at in range(0, len(body), part))
    return Reply(status=200, headers=headers, writes=writes)


def _retry_headers(status: int, knobs: Knobs) -> dict[str, str]:
    """Only 429 and 503 say when to come back unless a knob does."""
    waits = status in (429, 503)
    values = {
        "retry-after": ("1" if waits else "") if knobs.retry_after is None else knobs.retry_after,
        "retry-after-ms": "" if knobs.retry_after_ms is None else knobs.retry_after_ms,
    }
    return {name: str(value) for name, value in values.items() if value != ""}
