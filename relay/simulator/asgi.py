"""The ASGI application: routes, keys, and the cache of finished answers."""

import hashlib
from collections import OrderedDict
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from relay.simulator.errors import ErrorBody, Refusal, key_incorrect, key_missing
from relay.simulator.organization import billed
from relay.simulator.recorder import Recorder
from relay.simulator.replies import Answer, Call, error_reply, reply_make
from relay.simulator.routes import Endpoint, Routes
from relay.simulator.sending import Receive, Reply, Scope, Send, reply_send

MAX_BODY_BYTES = 64 * 2**20
CACHED_REPLIES = 128
OK = 200
_CACHED_BYTES = 65_536
_INVALID_KEY = "sk-invalid"
_REQUESTS = "/simulator/requests"


class Simulator:
    def __init__(self) -> None:
        self._recorder = Recorder()
        self._routes = Routes()
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
            reply = error_reply(refusal.status, refusal.error, digest=digest)
        if reply.billed is not None:
            self._routes.organization.count(reply.billed)
        progress = self._recorder.record(dict(scope), body=body, tag=reply.tag)
        await reply_send(reply, receive=receive, send=send, progress=progress)

    def _requests(self, scope: Scope) -> dict[str, Any]:
        if scope["method"] == "DELETE":
            self._recorder.clear()
            self._routes.clear()
        query = parse_qs(scope["query_string"].decode("latin-1"))
        return self._recorder.report(tag=query["tag"][0] if "tag" in query else None)

    def _reply(self, scope: Scope, body: bytes) -> Reply:
        """Raises Refusal."""
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, ErrorBody(message="The request body is too large."))
        credential = _key_check(scope)
        endpoint = self._routes.find(method=scope["method"], path=scope["path"])
        if endpoint.remembers:
            return _reply_make(endpoint, scope=scope, body=body, credential=credential)
        content_type = _header(scope, b"content-type")
        key = f"{scope['method']} {scope['path']}\n".encode() + content_type + b"\n" + body
        reply = self._replies.get(key)
        if reply is not None:
            self._replies.move_to_end(key)
            return reply
        reply = _reply_make(endpoint, scope=scope, body=body, credential=credential)
        if len(key) + sum(map(len, reply.writes)) <= _CACHED_BYTES:
            self._replies[key] = reply
            if len(self._replies) > CACHED_REPLIES:
                self._replies.popitem(last=False)
        return reply


def _reply_make(endpoint: Endpoint, *, scope: Scope, body: bytes, credential: str) -> Reply:
    """Raises Refusal."""
    method, path = scope["method"], scope["path"]
    call = Call(
        method=method,
        path=path,
        body=body,
        content_type=_header(scope, b"content-type").decode("latin-1"),
        query=parse_qs(scope["query_string"].decode("latin-1")),
        credential=credential,
        digest=hashlib.sha256(body or f"{method} {path}".encode()).hexdigest(),
    )
    answer = endpoint.answer(call)
    reply = reply_make(answer, digest=call.digest)
    if reply.status != OK:
        return reply
    return replace(reply, billed=billed(call, answer.usage))


def _header(scope: Scope, wanted: bytes) -> bytes:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for name, value in headers if name == wanted), b"")


def _key_check(scope: Scope) -> str:
    """The key. Raises Refusal."""
    scheme, _, key = _header(scope, b"authorization").decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise key_missing()
    if key.strip() == _INVALID_KEY:
        raise key_incorrect(key.strip())
    return key.strip()


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
    reply = reply_make(Answer(document=document), digest=hashlib.sha256(b"").hexdigest())
    await send({"type": "http.response.start", "status": 200, "headers": list(reply.headers)})
    await send({"type": "http.response.body", "body": reply.writes[0]})
