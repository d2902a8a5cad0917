"""The faults that a request can ask for, as changes to an answer that was right."""

import zlib
from dataclasses import replace

from relay.simulator.errors import SERVER_ERROR, ErrorBody
from relay.simulator.headers import HTML, JSON, headers_make
from relay.simulator.knobs import ErrorKnob, Knobs
from relay.simulator.sending import Ending, Reply
from relay.simulator.streams import DONE, Event, EventStream, error_document
from relay.simulator.usage import usage_doubled, usage_of_ones

_DEFAULT_PADDING_BYTES = 1_000_000
_MISSING_BYTES = 10
_MAX_SPLIT_BYTES = 262_144
_GZIP_WINDOW = 31
_INVALID_UTF8 = b"\xff\xfe\xc3("
_HTML_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Simulated</title></head>"
    b"<body><h1>A page, where JSON was expected</h1></body></html>\n"
)


def error_of(told: ErrorKnob | None, *, default: ErrorBody) -> ErrorBody:
    """The error that a knob describes, filled up from the default."""
    if told is None:
        return default
    return ErrorBody(
        message=default.message if told.message is None else told.message,
        type=default.type if told.type is None else told.type,
        param=default.param if told.param is None else told.param,
        code=default.code if told.code is None else told.code,
    )


def events_fault(stream: EventStream, *, knobs: Knobs) -> tuple[list[Event], Ending]:
    """The events that the fault leaves of a stream, and how the stream ends."""
    after = knobs.after_chunks
    if after is None:
        after = 0 if knobs.fault == "silent_stream" else 1
    events = stream.events
    place = _place_after(events, content_chunks=after) if after else 0
    match knobs.fault:
        case "cut":
            return events[:place], Ending.CUT
        case "silent_stream":
            return events[:place], Ending.SILENT
        case "truncated":
            return events[:place], Ending.COMPLETE
        case "error_event_first":
            return _failed([], stream, knobs=knobs), Ending.COMPLETE
        case "error_event_after":
            return _failed(events[:place], stream, knobs=knobs), Ending.COMPLETE
        case "garbage" | "invalid_utf8" | "big_line":
            noise = _noise(stream, knobs=knobs)
            return [*events[:place], noise, *events[place:]], Ending.COMPLETE
        case _:
            return _end_fault(stream, knobs=knobs), Ending.COMPLETE


def _failed(before: list[Event], stream: EventStream, *, knobs: Knobs) -> list[Event]:
    error = stream.error_event(error_of(knobs.error, default=SERVER_ERROR))
    return [*before, error, *_done(stream)]


def _done(stream: EventStream) -> list[Event]:
    """Not every endpoint's streams end with this event."""
    return [event for event in stream.events if event.kind == "done"]


def _end_fault(stream: EventStream, *, knobs: Knobs) -> list[Event]:
    events = stream.events
    match knobs.fault:
        case "no_done":
            return [event for event in events if event.kind != "done"]
        case "done_without_usage":
            return [event for event in events if event.kind != "usage"]
        case "usage_twice" if any(event.kind == "usage" for event in events):
            first = stream.usage_event(usage_doubled(stream.usage))
            place = max(at for at, event in enumerate(events) if event.kind == "usage")
            return [*events[:place], first, *events[place:]]
        case "data_after_done":
            content = [event for event in events if event.kind == "content"][:1]
            ones = stream.usage_event(usage_of_ones(stream.usage))
            return [*events, *content, ones, DONE]
        case _:
            return events


def _place_after(events: list[Event], *, content_chunks: int) -> int:
    """Where the event goes that follows so many content chunks (or all, if there are fewer)."""
    for place, event in enumerate(events):
        if event.kind == "content":
            if not content_chunks:
                return place
            content_chunks -= 1
        elif event.kind != "role":
            return place
    return len(events)


def _noise(stream: EventStream, *, knobs: Knobs) -> Event:
    if knobs.fault == "big_line":
        return stream.padding_event(knobs.bytes or _DEFAULT_PADDING_BYTES)
    sample = stream.events[0]
    if knobs.fault == "garbage":
        return replace(sample, kind="noise", data=sample.data[: len(sample.data) // 2])
    padded = stream.padding_event(1)
    return replace(padded, data=padded.data.replace(b'"x"', b'"' + _INVALID_UTF8 + b'"'))


def reply_fault(reply: Reply, *, knobs: Knobs, digest: str) -> Reply:
    """The answer after those faults that do not care whether it is a stream."""
    match knobs.fault:
        case "hang":
            return replace(reply, ending=Ending.HANG)
        case "html":
            return _replaced(reply, _HTML_PAGE, content_type=HTML, knobs=knobs, digest=digest)
        case "empty_body":
            return _replaced(reply, b"", content_type=JSON, knobs=knobs, digest=digest)
        case "json_error_200":
            error = error_document(error_of(knobs.error, default=SERVER_ERROR))
            reply = replace(reply, status=200)
            return _replaced(reply, error, content_type=JSON, knobs=knobs, digest=digest)
        case "redirect":
            moved = 302 if reply.status not in range(300, 400) else reply.status
            headers = (*reply.headers, (b"location", b"/simulator/redirected"))
            return replace(reply, status=moved, headers=headers, ending=Ending.COMPLETE)
        case "gzip":
            return _compressed(reply, least_bytes=knobs.bytes or 0)
        case "bad_content_length":
            length = sum(map(len, reply.writes)) + _MISSING_BYTES
            return replace(_lengthened(reply, length), ending=Ending.CUT)
        case "split_bytes":
            body = b"".join(reply.writes)
            single = [body[at : at + 1] for at in range(min(len(body), _MAX_SPLIT_BYTES))]
            return replace(reply, writes=(*single, body[_MAX_SPLIT_BYTES:]))
        case "cut" | "garbage" | "invalid_utf8" | "big_line" if not reply.is_stream:
            return _document_fault(reply, knobs=knobs)
        case _:
            return reply


def _document_fault(reply: Reply, *, knobs: Knobs) -> Reply:
    body = b"".join(reply.writes)
    half = body[: len(body) // 2]
    match knobs.fault:
        case "cut":
            writes = () if knobs.after_chunks == 0 else (half,)
            return replace(reply, writes=writes, ending=Ending.CUT)
        case "garbage":
            body = half
        case "invalid_utf8":
            body = _padded(body, _INVALID_UTF8)
        case _:
            body = _padded(body, b"x" * (knobs.bytes or _DEFAULT_PADDING_BYTES))
    return replace(_lengthened(reply, len(body)), writes=(body,))


def _padded(body: bytes, padding: bytes) -> bytes:
    """The JSON object with one more field; what is no such object just gets longer."""
    if not body.endswith(b"}"):
        return body + padding
    return body[:-1] + b',"padding":"' + padding + b'"}'


def _replaced(
    reply: Reply, body: bytes, *, content_type: bytes, knobs: Knobs, digest: str
) -> Reply:
    headers = headers_make(
        digest=digest, content_type=content_type, length=len(body), more=knobs.headers.items()
    )
    return replace(reply, headers=headers, writes=(body,), ending=Ending.COMPLETE)


def _lengthened(reply: Reply, length: int) -> Reply:
    kept = tuple(pair for pair in reply.headers if pair[0] != b"content-length")
    return replace(reply, headers=(*kept, (b"content-length", b"%d" % length)))


def _compressed(reply: Reply, *, least_bytes: int) -> Reply:
    """The same body compressed, each write flushed, with blanks up to the size behind it."""
    compressor = zlib.compressobj(level=9, wbits=_GZIP_WINDOW)
    writes = [
        compressor.compress(write) + compressor.flush(zlib.Z_SYNC_FLUSH) for write in reply.writes
    ]
    blanks = max(0, least_bytes - sum(map(len, reply.writes)))
    writes.append(compressor.compress(b"\n" * blanks) + compressor.flush())
    if not reply.is_stream:
        writes = [b"".join(writes)]
        reply = _lengthened(reply, len(writes[0]))
    headers = (*reply.headers, (b"content-encoding", b"gzip"))
    return replace(reply, headers=headers, writes=tuple(writes))
