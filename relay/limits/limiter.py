"""Deciding about calls: all limits of a call at once, and what the client is told of them."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from accounts.directory import Principal
from billing.limits import RateTable, ScopeRates
from relay import errors
from relay.errors import RelayError
from relay.headers import Header
from relay.limits.shares import PATIENCE_SECONDS, Shares
from relay.limits.table import NodeTable, TableHeld
from relay.limits.window import WINDOW_SECONDS, Counter, Kind, Look

logger = logging.getLogger("tollgate.relay")

BURY_SECONDS: Final = 1.0
_HELD: Final = "A process stands still with the counts of rate limits: calls go uncounted."
_WORDS: Final = {
    Kind.CALLS: "calls per minute",
    Kind.TOKENS: "tokens per minute",
    Kind.SLOTS: "calls at once",
}
_HEADERS: Final = {Kind.CALLS: b"requests", Kind.TOKENS: b"tokens"}

Counters = tuple[Counter, ...]


class Permit:
    """What one call has taken of its limits."""

    def __init__(
        self, limits: "RateLimits", wants: list[tuple[Counter, int]], headers: tuple[Header, ...]
    ) -> None:
        self.headers = headers
        self._limits = limits
        self._wants = wants
        self._taken_at = time.monotonic()

    def release(self, tokens: int = 0) -> None:
        """The call has ended, and used so many tokens. A second time changes nothing."""
        wants, self._wants = self._wants, []
        if wants:
            self._limits.finish(wants, tokens, taken_at=self._taken_at)


class RateLimits:
    """All rate limits, as one worker keeps to them together with the others."""

    def __init__(
        self,
        directory: Path,
        *,
        realm: str,
        redis_url: str = "",
        redis_patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """What is counted in one realm, its database, is nothing to another one."""
        self.is_set = False
        self.version = -1
        self._directory = directory
        self._realm = realm
        self._table: NodeTable | None = None
        self._shares: Shares | None = None
        if redis_url:
            self._shares = Shares(redis_url, patience_seconds=redis_patience_seconds)
        self._keys: Mapping[int, Counters] = {}
        self._projects: Mapping[int, Counters] = {}
        self._organizations: Mapping[int, Counters] = {}
        self._models: Mapping[str, Counters] = {}
        self._burying: asyncio.Task[None] | None = None
        # What ended while nobody could count. See Note [Who stands still] in relay.limits.table.
        self._uncounted: list[Callable[[NodeTable], None]] = []

    def start(self) -> None:
        self._open_table()
        self._burying = asyncio.create_task(self._bury())
        if self._shares is not None:
            self._shares.start()

    async def stop(self) -> None:
        """When no call is open any more."""
        if self._burying is not None:
            self._burying.cancel()
            with suppress(asyncio.CancelledError):
                await self._burying
        if self._shares is not None:
            await self._shares.stop()
        if self._table is not None:
            self._table.close()
            self._table = None

    def load(self, rates: RateTable) -> None:
        self.version = rates.version
        self._keys = {at: self._counters(scope) for at, scope in rates.keys.items()}
        self._projects = {at: self._counters(scope) for at, scope in rates.projects.items()}
        self._organizations = {
            at: self._counters(scope) for at, scope in rates.organizations.items()
        }
        self._models = {at: self._counters(scope) for at, scope in rates.models.items()}
        self.is_set = bool(rates)

    async def admit(self, principal: Principal, model: str, *, tokens: int) -> Permit | None:
        """What the call may have; None if no limit concerns it. Raises RelayError (429)."""
        counters = (
            *self._keys.get(principal.api_key_family_id, ()),
            *self._projects.get(principal.project_id, ()),
            *self._organizations.get(principal.organization_id, ()),
            *self._models.get(model, ()),
        )
        return await self._admit(counters, tokens) if counters else None

    async def slot(self, subject: str, name: str, *, limit: int) -> Permit:
        """One of the calls that may run at once. Raises RelayError (429)."""
        permit = await self._admit((self._counter(Kind.SLOTS, limit, subject, name),), 0)
        assert permit is not None, "a slot is a limit"
        return permit

    def running(self, subject: str) -> int:
        assert self._table is not None, "nobody holds the counts"
        return self._table.running(self._counter(Kind.SLOTS, 1, subject, subject))

    def finish(self, wants: list[tuple[Counter, int]], tokens: int, *, taken_at: float) -> None:
        if self._table is None:  # The worker has stopped, and everything of it was given back.
            return
        slots = [counter for counter, _ in wants if counter.kind is Kind.SLOTS]
        windows = [
            (counter, tokens - min(taken, counter.limit))
            for counter, taken in wants
            if counter.kind is Kind.TOKENS
        ]
        self._give_back(slots, windows, taken_at)
        if self._shares is not None:
            self._shares.finish(slots, windows)

    # --- Deciding --------------------------------------------------------------------------------

    async def _admit(self, counters: Counters, tokens: int) -> Permit | None:
        wants = [(c, tokens if c.kind is Kind.TOKENS else 1) for c in counters]
        taken_at = time.monotonic()
        try:
            is_free, looks = (True, []) if self._table is None else self._table.take(wants)
        except TableHeld:
            return Permit(self, [], ())
        if not is_free:
            raise _refusal(looks)
        if self._shares is not None:
            try:
                refused = await self._shares.take(wants)
            except BaseException:
                self._undo(wants, taken_at)
                raise
            if refused is not None:
                self._undo(wants, taken_at)
                raise _refusal(refused)
        return Permit(self, wants, _headers(looks))

    def _undo(self, wants: list[tuple[Counter, int]], taken_at: float) -> None:
        slots = [counter for counter, _ in wants if counter.kind is Kind.SLOTS]
        windows = [
            (counter, -min(amount, counter.limit))
            for counter, amount in wants
            if counter.kind is not Kind.SLOTS
        ]
        self._give_back(slots, windows, taken_at)

    def _give_back(
        self, slots: list[Counter], windows: list[tuple[Counter, int]], taken_at: float
    ) -> None:
        """Now; or, where somebody stands still with the counts, when that one has gone on."""

        def give_back(table: NodeTable) -> None:
            table.finish(slots, windows, taken_at=taken_at)

        try:
            if self._table is not None:
                give_back(self._table)
        except TableHeld:
            self._uncounted.append(give_back)

    # --- Counters --------------------------------------------------------------------------------

    def _counters(self, scope: ScopeRates) -> Counters:
        limits = (
            (Kind.CALLS, scope.calls_per_minute),
            (Kind.TOKENS, scope.tokens_per_minute),
            (Kind.SLOTS, scope.concurrency),
        )
        return tuple(
            self._counter(kind, limit, scope.subject, scope.name)
            for kind, limit in limits
            if limit is not None
        )

    def _counter(self, kind: Kind, limit: int, subject: str, name: str) -> Counter:
        text = f"{self._realm} {kind.value} {subject}"
        digest = hashlib.blake2b(text.encode(), digest_size=7).digest()
        return Counter(int.from_bytes(digest, "big") + 1, kind, limit, subject, name)

    def _open_table(self) -> None:
        try:
            self._table = NodeTable(self._directory)
        except TableHeld:
            logger.warning(_HELD)

    async def _bury(self) -> None:
        while True:
            await asyncio.sleep(BURY_SECONDS)
            try:
                if self._table is None:
                    self._table = NodeTable(self._directory)
                while self._uncounted:
                    self._uncounted[0](self._table)
                    del self._uncounted[0]
                if dead := self._table.bury():
                    logger.warning("The calls of %d dead workers are taken for ended.", dead)
            except TableHeld:
                logger.warning(_HELD)
            except OSError:
                logger.exception("The counts of dead workers cannot be looked after.")


# --- What the client is told ---------------------------------------------------------------------


def _refusal(looks: Iterable[Look]) -> RelayError:
    """Names the limit that takes the longest."""
    looks = list(looks)
    worst = max(looks, key=lambda look: look.wait_seconds)
    counter = worst.counter
    error = errors.rate_limited(
        f"{_WORDS[counter.kind]} of {counter.name}: limit {counter.limit}, used {worst.used}",
        retry_after_seconds=worst.wait_seconds,
        kind="tokens" if counter.kind is Kind.TOKENS else "requests",
    )
    error.headers += _headers(looks)
    return error


def _headers(looks: Iterable[Look]) -> tuple[Header, ...]:
    """The most restrictive scope's calls and tokens per minute, where there are such limits."""
    tightest: dict[Kind, Look] = {}
    for look in looks:
        kind = look.counter.kind
        if kind in _HEADERS and (kind not in tightest or look.remaining < tightest[kind].remaining):
            tightest[kind] = look
    return tuple(
        (b"x-ratelimit-%s-%s" % (part, _HEADERS[kind]), value)
        for kind, look in tightest.items()
        for part, value in (
            (b"limit", b"%d" % look.counter.limit),
            (b"remaining", b"%d" % look.remaining),
            (b"reset", _duration(look.restored_seconds)),
        )
    )


def _duration(seconds: float) -> bytes:
    """As Go writes it, which is how OpenAI does: 1m0s, 12.5s, 20ms."""
    milliseconds = min(max(0, round(seconds * 1000)), WINDOW_SECONDS * 1000)
    if milliseconds == WINDOW_SECONDS * 1000:
        return b"1m0s"
    if milliseconds < 1000:  # noqa: PLR2004  A second.
        return b"%dms" % milliseconds
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".").encode() + b"s"
