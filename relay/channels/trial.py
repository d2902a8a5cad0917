"""Trying a channel: one small call, as a customer's would be sent, with each of its credentials."""

import asyncio
from typing import Any, TypedDict

import msgspec
import psycopg
from django.conf import settings

from relay.channels.credentials import UnknownChannel
from relay.channels.table import ChannelRoute, routes_load
from relay.channels.terms import UnusableTerms
from relay.headers import upstream_headers
from relay.models import Channel
from relay.upstream import (
    Deadlines,
    Upstream,
    UpstreamEngine,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from relay.upstream.library import LibraryEngine
from relay.upstream_errors import scrub

DEFAULT_MODEL = "gpt-4o-mini"
DEADLINES = Deadlines(
    connect_seconds=5.0, first_byte_seconds=30.0, idle_seconds=30.0, total_seconds=60.0
)
LIMIT_BYTES = 1024 * 1024
MAX_TOLD = 300
OK = 200


class Trial(TypedDict):
    """What one credential's call came to; the times are in milliseconds."""

    credential: str
    ok: bool
    status: int | None
    first_byte_ms: int | None
    total_ms: int
    error: str


def channel_test(*, name: str, model: str = "", stream: bool = False) -> list[Trial]:
    """Call upstream for real. Upstream may charge for it; nobody else does.

    Raises UnknownChannel, UnusableTerms, UnreadableCredential.
    """
    channel = Channel.objects.filter(name=name).prefetch_related("models").first()
    if channel is None:
        raise UnknownChannel(f"There is no channel {name!r}.")
    served = sorted(one.model for one in channel.models.all())
    model = model or (served[0] if served else DEFAULT_MODEL)
    return asyncio.run(_try_all(name, model, stream=stream))


async def routes_in_use(name: str) -> list[ChannelRoute]:
    """The channel with each of its credentials, enabled or not. Raises UnusableTerms."""
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL) as connection:
        routes = await routes_load(connection, name)
    if not routes:
        raise UnusableTerms(f"The channel {name!r} has no credential in use.")
    return routes


async def _try_all(name: str, model: str, *, stream: bool) -> list[Trial]:
    routes = await routes_in_use(name)
    engines: tuple[Upstream, Upstream] = (UpstreamEngine(), LibraryEngine())
    try:
        return [
            await _try(engines[bool(route.proxy or route.http2)], route, model, stream=stream)
            for route in routes
        ]
    finally:
        for engine in engines:
            await engine.close()


async def _try(engine: Upstream, route: ChannelRoute, model: str, *, stream: bool) -> Trial:
    clock = asyncio.get_running_loop().time
    begun = clock()
    status = first_byte_ms = None
    try:
        async with await engine.send(_question(route, model, stream=stream)) as response:
            status = response.status
            first = await response.read()
            first_byte_ms = round((clock() - begun) * 1000)
            body = first + await response.read_all(LIMIT_BYTES)
            error = _complaint(response, body, stream=stream)
    except UpstreamError as failure:
        error = str(failure)
    return Trial(
        credential=route.credential,
        ok=not error,
        status=status,
        first_byte_ms=first_byte_ms,
        total_ms=round((clock() - begun) * 1000),
        error=scrub(error)[:MAX_TOLD],
    )


def _question(route: ChannelRoute, model: str, *, stream: bool) -> UpstreamRequest:
    body: dict[str, Any] = {
        "model": route.upstream_model(model),
        "messages": [{"role": "user", "content": "Answer with OK."}],
    }
    if stream:
        body["stream"] = True
    return UpstreamRequest(
        destination=route.destination,
        target=route.target(b"/chat/completions", model),
        headers=upstream_headers(
            (),
            host=route.destination.authority,
            authorization=route.authorization,
            authorization_name=route.authorization_header,
            extra=route.headers,
        ),
        body=msgspec.json.encode(body),
        deadlines=DEADLINES if route.patience is None else route.patience.over(DEADLINES),
        proxy=route.proxy,
        http2=route.http2,
    )


def _complaint(response: UpstreamResponse, body: bytes, *, stream: bool) -> str:
    """What is wrong with the answer; empty if nothing is."""
    if response.status == OK and stream:
        return "" if b"data: [DONE]" in body else "The stream did not come to its end."
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"Upstream answered {response.status} without JSON."
    if response.status == OK:
        is_answer = isinstance(document, dict) and document.get("choices")
        return "" if is_answer else "Upstream answered without choices."
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f"Upstream answered {response.status}: {message or 'no message'}"
