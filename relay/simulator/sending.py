"""A finished answer, and how it goes out."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]


class Ending(StrEnum):
    COMPLETE = "complete"
    CUT = "cut"
    SILENT = "silent"  # What there is goes out, and then nothing until the client leaves.
    HANG = "hang"  # Not even a head goes out.


class Outcome(StrEnum):
    OPEN = "open"
    COMPLETE = "complete"
    CUT = "cut"
    CLIENT_LEFT = "client_left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """What a call counts as in upstream's own books."""

    kind: str
    model: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: Headers
    writes: tuple[bytes, ...]
    ending: Ending = Ending.COMPLETE
    is_stream: bool = False
    delay_seconds: float = 0
    pause_seconds: float = 0
    tag: str | None = None
    billed: Billed | None = None


@dataclass(slots=True)
class Progress:
    outcome: Outcome = Outcome.OPEN
    writes: int = 0


async def reply_send(reply: Reply, *, receive: Receive, send: Send, progress: Progress) -> None:
    if len(reply.writes) == 1 and reply.ending is Ending.COMPLETE and not reply.delay_seconds:
        await send(_head(reply))
        await send({"type": "http.response.body", "body": reply.writes[0]})
        progress.writes, progress.outcome = 1, Outcome.COMPLETE
        return
    departure = asyncio.ensure_future(_departure(receive))
    try:
        await _reply_play(reply, send=send, progress=progress, departure=departure)
    finally:
        if departure.done() and progress.outcome is Outcome.OPEN:
            progress.outcome = Outcome.CLIENT_LEFT
        departure.cancel()


async def _reply_play(
    reply: Reply, *, send: Send, progress: Progress, departure: asyncio.Future[None]
) -> None:
    if reply.ending is Ending.HANG:
        await departure
        return
    if reply.delay_seconds and await _left_within(reply.delay_seconds, departure):
        return
    await send(_head(reply))
    for number, body in enumerate(reply.writes):
        # A pause of zero lets the server flush, and notices that the client left.
        if number and await _left_within(reply.pause_seconds, departure):
            return
        await send({"type": "http.response.body", "body": body, "more_body": True})
        progress.writes += 1
    if reply.ending is Ending.SILENT:
        await departure
    elif reply.ending is Ending.CUT:
        # Returning without an end makes the server close the connection.
        progress.outcome = Outcome.CUT
    else:
        await send({"type": "http.response.body", "body": b""})
        progress.outcome = Outcome.COMPLETE


def _head(reply: Reply) -> dict[str, Any]:
    return {"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)}


async def _left_within(seconds: float, departure: asyncio.Future[None]) -> bool:
    if seconds:
        await asyncio.wait((departure,), timeout=seconds)
    else:
        await asyncio.sleep(0)
    return departure.done()


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
