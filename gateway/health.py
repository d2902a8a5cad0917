"""Whether this process lives and whether it should get calls, for load balancers and operators."""

import json
from collections.abc import Callable
from typing import Any

from relay.asgi_types import Application, Receive, Scope, Send

_OK = 200
_UNAVAILABLE = 503


class Health:
    """`/healthz` and `/readyz` in front of another application.

    They answer without Django and its host check: who asks knows this process by address only.
    """

    def __init__(self, application: Application, *, problems: Callable[[], list[str]]) -> None:
        self._application = application
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if scope["type"] == "http" and path == "/healthz":
            await _send_json(send, _OK, {"status": "ok"})
        elif scope["type"] == "http" and path == "/readyz":
            problems = self._problems()
            status = "unavailable" if problems else "ready"
            code = _UNAVAILABLE if problems else _OK
            await _send_json(send, code, {"status": status, "problems": problems})
        else:
            await self._application(scope, receive, send)


async def _send_json(send: Send, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode() + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
