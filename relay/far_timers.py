"""Timers that cost next to nothing while their time is far away.

A timer of the event loop is several objects, in Python and below it, and each of thousands of open
calls has some that hardly ever fire. So what is due in more than a few seconds waits in a bucket
with all that is due at about that time, and the loop has one timer for the bucket.
"""

import asyncio
from collections.abc import Callable
from typing import Final

BUCKET_SECONDS: Final = 4.0


class Timer:
    """Calls back once, and not before its time, unless it is cancelled."""

    __slots__ = ("_bucket", "_callback", "_handle", "_when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self._when = when
        self._callback: Callable[[], object] | None = callback
        self._handle: asyncio.TimerHandle | None = None
        self._bucket: set[Timer] | None = None

    def cancel(self) -> None:
        self._callback = None  # It belongs to who holds this timer, most often.
        if self._handle is not None:
            self._handle.cancel()
        elif self._bucket is not None:
            self._bucket.discard(self)

    def put_into(self, bucket: "set[Timer]") -> None:
        self._bucket = bucket
        bucket.add(self)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop itself wait for it."""
        callback, self._callback = self._callback, None
        assert callback is not None, "it is neither cancelled nor started"
        self._bucket = None
        self._handle = loop.call_at(self._when, callback)


class FarTimers:
    """Those of one event loop; `far_timers` has them."""

    __slots__ = ("_bucket_seconds", "_buckets", "loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, bucket_seconds: float = BUCKET_SECONDS
    ) -> None:
        self.loop = loop
        self._bucket_seconds = bucket_seconds
        self._buckets: dict[int, set[Timer]] = {}

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """`when` is in the loop's time."""
        timer = Timer(when, callback)
        if when - self.loop.time() < 2 * self._bucket_seconds:
            timer.start(self.loop)
        else:
            timer.put_into(self._bucket_of(when))
        return timer

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return self.call_at(self.loop.time() + seconds, callback)

    def _bucket_of(self, when: float) -> set[Timer]:
        number = int(when / self._bucket_seconds)
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = set()
            # It is opened well before the first of its timers is due.
            self.loop.call_at((number - 1) * self._bucket_seconds, self._open, number)
        return bucket

    def _open(self, number: int) -> None:
        for timer in self._buckets.pop(number):
            timer.start(self.loop)


_latest: FarTimers | None = None


def far_timers(loop: asyncio.AbstractEventLoop) -> FarTimers:
    global _latest  # noqa: PLW0603  A process has one loop; to have more is correct, and costs more.
    if _latest is None or _latest.loop is not loop:
        _latest = FarTimers(loop)
    return _latest
