import json
from collections.abc import Mapping
from typing import Any

from gateway.health import Health
from relay.asgi_types import Message, Receive, Scope, Send


class Server:
    """What a server sees of an application."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.passed_on: list[Scope] = []
        self._health = Health(self._behind, problems=lambda: self.problems)

    async def get(self, path: str, kind: str = "http") -> tuple[int, Any]:
        sent: list[Mapping[str, Any]] = []

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self._health({"type": kind, "path": path, "method": "GET"}, receive, send)
        if not sent:
            return 0, None
        headers = dict(sent[0]["headers"])
        assert headers[b"content-length"] == str(len(sent[1]["body"])).encode()
        return sent[0]["status"], json.loads(sent[1]["body"])

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert receive is not None
        assert send is not None
        self.passed_on.append(scope)


async def test_alive_whatever_the_problems() -> None:
    server = Server()
    server.problems = ["The database is away."]
    assert await server.get("/healthz") == (200, {"status": "ok"})


async def test_ready_says_why_not() -> None:
    server = Server()
    assert await server.get("/readyz") == (200, {"status": "ready", "problems": []})
    server.problems = ["The database is away."]
    expected = {"status": "unavailable", "problems": ["The database is away."]}
    assert await server.get("/readyz") == (503, expected)
    assert server.passed_on == []


async def test_everything_else_goes_on() -> None:
    server = Server()
    for path in ("/", "/healthz/", "/v1/readyz"):
        await server.get(path)
    await server.get("/readyz", kind="websocket")
    assert len(server.passed_on) == 4
