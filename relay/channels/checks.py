"""The regular check of every credential: does upstream answer, and what money is left there?

What is asked costs nothing: the list of models, and the balance where the vendor offers one. So
trouble of a channel that nobody calls is known before somebody does.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from django.conf import settings
from django.utils import timezone

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable
from relay.channels.balances import KINDS, Balance, UnreadableBalance, balance_of
from relay.channels.table import ChannelRoute, channels_load
from relay.models import Channel, CredentialCheck
from relay.routing.refusals import credential_refuse
from relay.routing.sending import question, read_refusal, refuses_credential
from relay.upstream import Deadlines, Upstream, UpstreamEngine, UpstreamError
from relay.upstream.library import LibraryEngine

logger = logging.getLogger("tollgate.relay")
DEADLINES = Deadlines(
    connect_seconds=5.0, first_byte_seconds=10.0, idle_seconds=10.0, total_seconds=20.0
)
AT_ONCE = 16
LIMIT_BYTES = 16 * 1024 * 1024
OK, INTERNAL_ERROR = 200, 500
MAX_TOLD = 200
ACTOR = Actor(user_id=None, label="job:channels")


class Wanted(NamedTuple):
    """What a channel's operator wants to know of its balance."""

    kind: str = ""
    low_nano: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one check found."""

    route: ChannelRoute
    status: int | None
    duration_ms: int
    error: str = ""
    is_refused: bool = False
    balance: Balance | None = None
    balance_error: str = ""


def channels_check() -> int:
    """Check every credential in use of every enabled channel; returns how many have trouble."""
    rows = Channel.objects.filter(enabled=True).values_list("id", "balance", "balance_low_nano")
    wanted = {number: Wanted(kind, low) for number, kind, low in rows}
    found = asyncio.run(_check_all(wanted))
    for one in found:
        _check_save(one, wanted.get(one.route.id, Wanted()))
    return sum(bool(one.error) for one in found)


async def _check_all(wanted: Mapping[int, Wanted]) -> Sequence[Found]:
    async with await psycopg.AsyncConnection.connect(settings.DATABASE_URL) as connection:
        routes = (await channels_load(connection)).routes
        engines: tuple[Upstream, Upstream] = (UpstreamEngine(), LibraryEngine())
        room = asyncio.Semaphore(AT_ONCE)

        async def check(route: ChannelRoute) -> Found:
            async with room:
                engine = engines[bool(route.proxy or route.http2)]
                return await _check(engine, route, wanted.get(route.id, Wanted()).kind)

        try:
            found = await asyncio.gather(*(check(route) for route in routes))
        finally:
            for engine in engines:
                await engine.close()
        for one in found:
            if one.is_refused:
                await credential_refuse(connection, route=one.route, answer=str(one.status))
    return found


async def _check(engine: Upstream, route: ChannelRoute, kind: str) -> Found:
    clock = asyncio.get_running_loop().time
    begun = clock()
    status, error, is_refused = None, "", False
    try:
        async with await engine.send(
            question(route, route.target(b"/models", ""), DEADLINES)
        ) as response:
            status = response.status
            if status == OK:
                await response.read_all(LIMIT_BYTES)
            elif is_refused := refuses_credential(status, (await read_refusal(response)).code):
                error = f"Upstream refuses the credential: {status}."
            elif status >= INTERNAL_ERROR:
                error = f"Upstream answered {status}."
    except UpstreamError as failure:
        error = str(failure)[:MAX_TOLD]
    duration_ms = round((clock() - begun) * 1000)
    balance, balance_error = None, ""
    if kind and not error:
        try:
            balance = await _balance(engine, route, kind)
        except (UpstreamError, UnreadableBalance) as failure:
            balance_error = str(failure)[:MAX_TOLD]
    return Found(
        route=route,
        status=status,
        duration_ms=duration_ms,
        error=error,
        is_refused=is_refused,
        balance=balance,
        balance_error=balance_error,
    )


async def _balance(engine: Upstream, route: ChannelRoute, kind: str) -> Balance:
    """Raises UpstreamError, UnreadableBalance."""
    answers = []
    today = dt.datetime.now(dt.UTC).date()
    for target in KINDS[kind].targets(route.base_path.decode(), today):
        async with await engine.send(question(route, target.encode(), DEADLINES)) as response:
            body = await response.read_all(LIMIT_BYTES)
            if response.status != OK:
                raise UnreadableBalance(f"Upstream answered {response.status} for its balance.")
            answers.append(body)
    return balance_of(kind, answers)


@durable
def _check_save(found: Found, wanted: Wanted) -> None:
    """Keep what was found; what has crossed its line is told, once."""
    route, balance = found.route, found.balance
    check, _ = CredentialCheck.objects.select_for_update().get_or_create(
        credential_id=route.credential_id,
        defaults={"checked_at": timezone.now(), "duration_ms": 0},
    )
    if found.error and not check.error:
        logger.error(
            "The channel %s does not answer with %s: %s", route.name, route.credential, found.error
        )
    check.checked_at, check.status = timezone.now(), found.status
    check.duration_ms, check.error = found.duration_ms, found.error
    check.balance_error = found.balance_error
    if not wanted.kind:
        check.balance_nano, check.balance_currency, check.low_since = None, "", None
    elif balance is not None:
        check.balance_nano, check.balance_currency = balance.nano, balance.currency
        is_low = wanted.low_nano is not None and balance.nano < wanted.low_nano
        if is_low and check.low_since is None:
            check.low_since = check.checked_at
            logger.error("The balance of the channel %s at its upstream is low.", route.name)
            audit_event_record(
                actor=ACTOR,
                action="channel.balance_low",
                subject=route.name,
                details={"credential": route.credential, "balance_nano": balance.nano},
            )
        elif not is_low:
            check.low_since = None
    check.save()
