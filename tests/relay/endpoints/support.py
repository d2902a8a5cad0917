"""Calls of any endpoint, and upstreams that say exactly what a test wants."""

import json
from typing import Any

from billing.prices.services import price_set
from tests.adversary.gateway import SCRIPTED, Customer, Gateway, now
from tests.adversary.upstream import end
from tests.factories import ACTOR
from tests.faults.http_client import Answer, Connection
from tests.relay.upstream.support import Peer


async def ask(
    gateway: Gateway, customer: Customer, path: str, fields: dict[str, Any] | bytes
) -> Answer:
    """The answer to one POST to /v1/..., sent to the first worker."""
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    async with Connection(gateway.workers[0].port) as link:
        return await link.post(f"/v1/{path}", customer.api_key, body)


async def upstream_says(gateway: Gateway, *writes: bytes) -> list[bytes]:
    """Let SCRIPTED answer every call with exactly this; returns the bodies that it will get."""
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        got.append(body)
        await peer.send(*writes)
        await end(peer)

    await gateway.scripted(script)
    return got


async def price(gateway: Gateway, model: str, **usd: Any) -> None:
    await gateway.change(lambda: price_set(model=model, sure=True, actor=ACTOR, now=now(), **usd))


def told(answer: Answer) -> dict[str, Any]:
    """The error that the client got."""
    error = json.loads(answer.body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error, dict)
    return error


__all__ = ["SCRIPTED", "ask", "price", "told", "upstream_says"]
