"""The share of each limit that this worker may use, taken in slices from Redis.

Note [Redis is asked, not trusted]
The counts of the node bound every call, whatever Redis says; what is here only makes a limit count
for all nodes together. So where Redis is gone, slow or full of nonsense, the node's counts decide
alone, and a call waits for no answer longer than `PATIENCE_SECONDS`, once: until Redis answers to
the look that is taken at each beat, it is not asked again. At the start it is away, too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from relay.limits.scripts import SETTLE, TAKE
from relay.limits.window import WINDOW_SECONDS, Counter, Kind, Look

logger = logging.getLogger("tollgate.relay")

BEAT_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 0.2
# What was taken and is not used goes back after so long, at the next beat.
SLICE_SECONDS: Final = 1.0
# A slice is at most this part of the limit, or what one call needs.
SLICES: Final = 64
# What a worker that has died was holding is free after so long.
SLOT_SECONDS: Final = 5.0
# How often the event loop goes round for an answer that may have come.
LAST_LOOKS: Final = 5
REMEMBERED_SECONDS: Final = 0.1
_PREFIX: Final = "{tollgate:limits}"
_FAILURES: Final = (RedisError, OSError, TimeoutError)

T = TypeVar("T")
Wants = Sequence[tuple[Counter, int]]


class _Share:
    """What this worker has of one limit."""

    def __init__(self, counter: Counter) -> None:
        self.is_slots = counter.kind is Kind.SLOTS
        self.key = f"{_PREFIX}:{counter.kind.name.lower()}:{counter.subject}"
        self.left = 0  # Of the slice.
        self.running = 0
        self.more = 0  # Used beyond what was taken, or less: to be told.
        self.factor = 1  # How many calls the next slice is for.
        self.taken_at = 0.0
        self.used_at = time.monotonic()
        self.refused_until = 0.0
        self.refused: Look | None = None
        self.refused_need = 0

    def has(self, need: int, now: float) -> bool:
        if not self.is_slots and now - self.taken_at > SLICE_SECONDS:
            self.let_go()
        return self.left >= need

    def use(self, need: int) -> None:
        """While Redis is away, there may be less left than that."""
        self.left = max(0, self.left - need)
        if self.is_slots:
            self.running += need

    def let_go(self) -> None:
        """What is left is not used here."""
        if not self.is_slots:  # Of slots, what a worker has is told as a whole.
            self.more -= self.left
        self.left = 0

    def wish(self, need: int, limit: int, now: float) -> int:
        """How much to ask for: more and more while slices do not last."""
        age = now - self.taken_at
        if age < SLICE_SECONDS / 4:
            self.factor = min(self.factor * 2, 1024)
        elif age > SLICE_SECONDS:
            self.factor = max(self.factor // 2, 1)
        return min(max(need, 1) * self.factor, limit // SLICES)

    def given(self, amount: int, now: float) -> None:
        self.left += amount
        self.taken_at = now
        self.refused_until = 0.0

    @property
    def to_tell(self) -> int:
        return self.running + self.left if self.is_slots else self.more


class Shares:
    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self.is_away = True
        self.slices = 0  # How many were taken, ever.
        self._worker = ""
        self._redis: Redis = Redis.from_url(
            url,
            socket_connect_timeout=BEAT_SECONDS,
            socket_timeout=max(BEAT_SECONDS, patience_seconds),
            decode_responses=False,
            retry=None,
        )
        self._take = self._redis.register_script(TAKE)
        self._settle = self._redis.register_script(SETTLE)
        self._shares: dict[int, _Share] = {}
        self._broken: Sequence[str] = ()
        self._turn = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._worker = uuid4().hex  # Not before: the workers are copies of one process.
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        for share in self._shares.values():
            share.let_go()
        with suppress(*_FAILURES):
            if not self.is_away:
                await self._tell()
        with suppress(*_FAILURES):
            await self._redis.aclose()

    async def take(self, wants: Wants) -> list[Look] | None:
        """Use so much of the worker's shares, or nothing; None if that is fine."""
        shares = [self._share(counter) for counter, _ in wants]
        needs = [min(amount, counter.limit) for counter, amount in wants]
        while not self.is_away and not self._have(shares, needs):
            if refused := _remembered(shares, needs):
                return refused
            async with self._turn:
                # Another call may have taken a slice that is enough, or heard that there is none.
                if self._is_settled(shares, needs):
                    continue
                refused = await self._take_slices(wants, shares, needs)
            if refused is not None:
                return refused
        for share, need in zip(shares, needs, strict=True):
            share.use(need)
        return None

    def finish(self, slots: Sequence[Counter], windows: Wants) -> None:
        """A call has ended; of each window it used so much more, or less, than it took."""
        for counter in slots:
            share = self._share(counter)
            share.running = max(0, share.running - 1)
            if not self.is_away:
                share.left += 1  # It is still ours, for the next call or until the next beat.
        for counter, more in windows:
            self._share(counter).more += more

    def _share(self, counter: Counter) -> _Share:
        share = self._shares.get(counter.key)
        if share is None:
            share = self._shares[counter.key] = _Share(counter)
        share.used_at = time.monotonic()
        return share

    def _is_settled(self, shares: Sequence[_Share], needs: Sequence[int]) -> bool:
        """Whether Redis need not be asked."""
        return self.is_away or self._have(shares, needs) or bool(_remembered(shares, needs))

    def _have(self, shares: Sequence[_Share], needs: Sequence[int]) -> bool:
        now = time.monotonic()
        return all(share.has(need, now) for share, need in zip(shares, needs, strict=True))

    async def _take_slices(
        self, wants: Wants, shares: Sequence[_Share], needs: Sequence[int]
    ) -> list[Look] | None:
        now = time.monotonic()
        arguments: list[Any] = [self._worker, int(SLOT_SECONDS * 1000)]
        for (counter, _), share, need in zip(wants, shares, needs, strict=True):
            missing = max(0, need - share.left)
            kind = "slots" if share.is_slots else "window"
            wish = share.wish(need, counter.limit, now) if missing else 0
            arguments += [kind, counter.limit, missing, wish]
        try:
            is_free, *answer = await self._in_time(self._take([s.key for s in shares], arguments))
        except _FAILURES as error:
            self._lost(error, shares)
            return None
        self.slices += 1
        if is_free:
            for share, amount in zip(shares, answer, strict=True):
                share.given(int(amount), now)
            return None
        looks = []
        for position, ((counter, _), share) in enumerate(zip(wants, shares, strict=True)):
            used, wait_ms = answer[2 * position], answer[2 * position + 1]
            look = Look(counter, used, wait_ms / 1000, float(WINDOW_SECONDS))
            if wait_ms:
                share.refused, share.refused_need = look, needs[position]
                share.refused_until = now + min(REMEMBERED_SECONDS, wait_ms / 1000)
            looks.append(look)
        return looks

    async def _in_time(self, asking: Awaitable[T]) -> T:
        """Raises TimeoutError. Who was too busy to read an answer that is there, reads it first."""
        task = asyncio.ensure_future(asking)
        try:
            await asyncio.wait({task}, timeout=self._patience_seconds)
            looks = 0
            while not task.done():
                if looks == LAST_LOOKS:
                    raise TimeoutError
                looks += 1
                await asyncio.sleep(0)
            return task.result()
        finally:
            task.cancel()

    def _lost(self, error: Exception, shares: Iterable[_Share]) -> None:
        if not self.is_away:
            logger.warning("Redis is away, so each node keeps its limits for itself: %r", error)
        self.is_away = True
        if isinstance(error, ResponseError):
            self._broken = [share.key for share in shares]  # Nothing that we have written.

    # --- The beat --------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            now = time.monotonic()
            for share in self._shares.values():
                idle = now - (share.used_at if share.is_slots else share.taken_at)
                if share.left and idle > SLICE_SECONDS:
                    share.let_go()
            try:
                await self._look()
            except _FAILURES as error:
                self._lost(error, self._shares.values())
            except Exception:
                self.is_away = True
                logger.exception("The shares of limits cannot be told.")
            await asyncio.sleep(BEAT_SECONDS)

    async def _look(self) -> None:
        """Tell Redis what it does not know; if it was away, it is back if that works."""
        if self._broken:
            await self._redis.delete(*self._broken)
            self._broken = ()
        # Another may find it away meanwhile; then this look proves nothing.
        was_away = self.is_away
        if was_away:
            for script in (TAKE, SETTLE):
                await self._redis.script_load(script)
            for share in self._shares.values():
                share.more = 0  # Of a time that Redis knows nothing of; the node has counted it.
        await self._tell()
        if was_away:
            logger.info("Redis is there, and the nodes share their limits.")
            self.is_away = False
        idle_since = time.monotonic() - WINDOW_SECONDS
        for key, share in list(self._shares.items()):
            if not share.to_tell and share.used_at < idle_since:
                del self._shares[key]

    async def _tell(self) -> None:
        """Of slots, all that are known: what a worker holds has to be said again and again."""
        # Slices are not taken meanwhile: they would be forgotten by what is told.
        async with self._turn:
            telling = [share for share in self._shares.values() if share.is_slots or share.more]
            if not telling:
                return
            arguments: list[Any] = [self._worker, int(SLOT_SECONDS * 1000)]
            for share in telling:
                arguments += ["slots" if share.is_slots else "window", share.to_tell]
                # Whether it arrives or not, it is told once: nothing is given back twice.
                share.more = 0
            await self._in_time(self._settle([share.key for share in telling], arguments))


def _remembered(shares: Sequence[_Share], needs: Sequence[int]) -> list[Look] | None:
    """What was just found to be used up, is."""
    now = time.monotonic()
    refused = [
        share.refused
        for share, need in zip(shares, needs, strict=True)
        if share.refused is not None and share.refused_until > now and need >= share.refused_need
    ]
    return refused or None
