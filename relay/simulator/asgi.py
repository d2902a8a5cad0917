"""The ASGI application: routes, keys, and the cache of finished answers."""

import hashlib
from collections import OrderedDict
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import msgspec

from relay.simulator.catalogue import model_get, model_list
from relay.simulator.completions import completion_document, completion_events, completion_make
from relay.simulator.errors import (
    ErrorBody,
    Refusal,
    error_for,
    key_incorrect,
    key_missing,
    url_unknown,
)
from relay.simulator.faults import error_document, error_of, events_fault, reply_fault
from relay.simulator.framing import events_frame
from relay.simulator.headers import EVENT_STREAM, JSON, headers_make
from relay.simulator.knobs import Knobs
from relay.simulator.recorder import Recorder
from relay.simulator.requests import ChatRequest, request_parse
from relay.simulator.sending import Receive, Reply, Scope, Send, reply_send

MAX_BODY_BYTES = 64 * 2**20
CACHED_REPLIES = 128
_CACHED_BYTES = 65_536
_INVALID_KEY = "sk-invalid"
_MODELS = "/v1/models"
_REQUESTS = "/simulator/requests"


class Simulator:
    def __init__(self) -> None:
        self._recorder = Recorder()
        # Benchmarks send the same body over and over, and the same body has the same answer.
        self._replies: OrderedDict[bytes, Reply] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        body = await _body_read(receive)
        if body is None:
            return
        if scope["path"] == _REQUESTS and scope["method"] in ("GET", "DELETE"):
            await _json_send(send, self._requests(scope))
            return
        try:
            reply = self._reply(scope, body)
        except Refusal as refusal:
            digest = hashlib.sha256(scope["path"].encode() + body).hexdigest()
            reply = _error_reply(refusal.status, refusal.error, digest=digest)
        progress = self._recorder.record(dict(scope), body=body, tag=reply.tag)
        await reply_send(reply, receive=receive, send=send, progress=progress)

    def _requests(self, scope: Scope) -> dict[str, Any]:
        if scope["method"] == "DELETE":
            self._recorder.clear()
        query = parse_qs(scope["query_string"].decode("latin-1"))
        return self._recorder.report(tag=query["tag"][0] if "tag" in query else None)

    def _reply(self, scope: Scope, body: bytes) -> Reply:
        """Raises Refusal."""
        method, path = scope["method"], scope["path"]
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, ErrorBody(message="The request body is too large."))
        _key_check(scope)
        if (method, path) == ("POST", "/v1/chat/completions"):
            return self._chat_reply(body)
        digest = hashlib.sha256(f"{method} {path}".encode()).hexdigest()
        if (method, path) == ("GET", _MODELS):
            return _json_reply(model_list(), digest=digest)
        if method == "GET" and path.startswith(f"{_MODELS}/"):
            return _json_reply(model_get(path.removeprefix(f"{_MODELS}/")), digest=digest)
        raise url_unknown(method=method, path=path)

    def _chat_reply(self, body: bytes) -> Reply:
        """Raises Refusal."""
        reply = self._replies.get(body)
        if reply is not None:
            self._replies.move_to_end(body)
            return reply
        reply = _reply_make(request_parse(body), digest=hashlib.sha256(body).hexdigest())
        if len(body) + sum(map(len, reply.writes)) <= _CACHED_BYTES:
            self._replies[body] = reply
            if len(self._replies) > CACHED_REPLIES:
                self._replies.popitem(last=False)
        return reply


def _reply_make(request: ChatRequest, *, digest: str) -> Reply:
    knobs = request.knobs
    if knobs.status is not None:
        error = error_of(knobs, default=error_for(knobs.status))
        reply = _error_reply(knobs.status, error, digest=digest, knobs=knobs)
    else:
        reply = _completion_reply(request, digest=digest)
    reply = replace(
        reply,
        tag=knobs.tag,
        delay_seconds=knobs.delay_ms / 1000,
        pause_seconds=knobs.chunk_delay_ms / 1000,
    )
    return reply_fault(reply, knobs=knobs, digest=digest)


def _completion_reply(request: ChatRequest, *, digest: str) -> Reply:
    completion = completion_make(request, digest=digest)
    knobs = request.knobs
    if not request.stream:
        document = completion_document(completion)
        return _json_reply(document, digest=digest, knobs=knobs)
    events, ending = events_fault(completion_events(completion), completion=completion)
    return Reply(
        status=200,
        headers=headers_make(
            digest=digest, content_type=EVENT_STREAM, length=None, more=knobs.headers.items()
        ),
        writes=tuple(events_frame(events, style=knobs.fault)),
        ending=ending,
    )


def _json_reply(document: Any, *, digest: str, knobs: Knobs | None = None) -> Reply:
    body = msgspec.json.encode(document)
    more = knobs.headers.items() if knobs is not None else ()
    headers = headers_make(digest=digest, content_type=JSON, length=len(body), more=more)
    return Reply(status=200, headers=headers, writes=(body,))


def _error_reply(
    status: int, error: ErrorBody, *, digest: str, knobs: Knobs | None = None
) -> Reply:
    body = error_document(error)
    more = _retry_headers(status, knobs) | knobs.headers if knobs is not None else {}
    headers = headers_make(digest=digest, content_type=JSON, length=len(body), more=more.items())
    return Reply(status=status, headers=headers, writes=(body,))


def _retry_headers(status: int, knobs: Knobs) -> dict[str, str]:
    """Only 429 and 503 say when to come back unless a knob does."""
    waits = status in (429, 503)
    values = {
        "retry-after": ("1" if waits else "") if knobs.retry_after is None else knobs.retry_after,
        "retry-after-ms": "" if knobs.retry_after_ms is None else knobs.retry_after_ms,
    }
    return {name: str(value) for name, value in values.items() if value != ""}


def _key_check(scope: Scope) -> None:
    """Raises Refusal."""
    value: bytes = next(
        (value for name, value in scope["headers"] if name == b"authorization"), b""
    )
    scheme, _, key = value.decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise key_missing()
    if key.strip() == _INVALID_KEY:
        raise key_incorrect(key.strip())


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _body_read(receive: Receive) -> bytes | None:
    """The body as far as a size that is refused, or None if the client left before its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES or not message.get("more_body", False):
            return b"".join(parts)


async def _json_send(send: Send, document: Any) -> None:
    reply = _json_reply(document, digest=hashlib.sha256(b"").hexdigest())
    await send({"type": "http.response.start", "status": 200, "headers": list(reply.headers)})
    await send({"type": "http.response.body", "body": reply.writes[0]})
