"""Timers that wait in buckets until they are near."""

import asyncio
import gc
import weakref

from relay.far_timers import FarTimers, far_timers

BUCKET_SECONDS = 0.02


class Bell:
    """Something that holds the timer that calls it, as all its users do."""

    def __init__(self, timers: FarTimers, *, seconds: float) -> None:
        self.rung_at: list[float] = []
        self.rung = asyncio.Event()
        self.due = timers.loop.time() + seconds
        self._loop = timers.loop
        self.timer = timers.call_at(self.due, self._ring)

    def _ring(self) -> None:
        self.rung_at.append(self._loop.time())
        self.rung.set()


def made() -> FarTimers:
    return FarTimers(asyncio.get_running_loop(), bucket_seconds=BUCKET_SECONDS)


async def test_near_and_far_ones_ring_once_and_not_before_their_time() -> None:
    timers = made()
    bells = [Bell(timers, seconds=BUCKET_SECONDS * part) for part in (0, 0.5, 1.9, 2, 2.1, 3, 5.5)]
    async with asyncio.timeout(10):
        for bell in bells:
            await bell.rung.wait()
    # All buckets are open, and nothing that is left could ring again.
    last = Bell(timers, seconds=3 * BUCKET_SECONDS)
    await last.rung.wait()
    for bell in bells:
        assert len(bell.rung_at) == 1
        assert bell.rung_at[0] >= bell.due


async def test_cancelled_they_stay_silent_wherever_they_waited() -> None:
    timers = made()
    near, far, opened = (Bell(timers, seconds=BUCKET_SECONDS * part) for part in (1, 3, 3.5))
    near.timer.cancel()
    far.timer.cancel()
    before = Bell(timers, seconds=BUCKET_SECONDS * 2.5)
    await before.rung.wait()
    opened.timer.cancel()  # Its bucket is open, and it is one of the loop's own by now.
    opened.timer.cancel()
    last = Bell(timers, seconds=BUCKET_SECONDS * 5)
    await last.rung.wait()
    assert near.rung_at == far.rung_at == opened.rung_at == []


async def test_whoever_cancelled_its_timer_is_not_kept() -> None:
    bell = Bell(made(), seconds=1000)
    bell.timer.cancel()
    gone = weakref.ref(bell)
    gc.disable()
    try:
        del bell
        assert gone() is None
    finally:
        gc.enable()


async def test_one_loop_has_one() -> None:
    loop = asyncio.get_running_loop()
    assert far_timers(loop) is far_timers(loop)


def test_each_loop_has_its_own() -> None:
    async def one() -> FarTimers:
        return far_timers(asyncio.get_running_loop())

    assert asyncio.run(one()) is not asyncio.run(one())
