import asyncio
import math

from relay.upstream.timers import DeadlineTimer


class Bell:
    """A timer that counts its calls."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.times: list[float] = []
        self.loop = asyncio.get_running_loop()
        self.timer = DeadlineTimer(loop=self.loop, callback=self._ring)

    def _ring(self) -> None:
        self.times.append(self.loop.time())
        self.rung.set()


async def test_it_rings_once_at_the_earlier_deadline() -> None:
    bell = Bell()
    bell.timer.last = bell.loop.time() + 100.0
    bell.timer.due = due = bell.loop.time() + 0.02
    bell.timer.arm()
    await bell.rung.wait()
    assert len(bell.times) == 1
    assert bell.times[0] >= due


async def test_a_deadline_moved_later_is_kept_without_arming() -> None:
    bell = Bell()
    bell.timer.due = bell.loop.time() + 0.01
    bell.timer.arm()
    bell.timer.due = due = bell.loop.time() + 0.05
    await bell.rung.wait()
    assert bell.times[0] >= due


async def test_a_deadline_moved_earlier_is_kept_by_arming() -> None:
    bell = Bell()
    bell.timer.due = bell.loop.time() + 1000.0
    bell.timer.arm()
    bell.timer.due = bell.loop.time() + 0.01
    bell.timer.arm()
    async with asyncio.timeout(10):
        await bell.rung.wait()
    assert len(bell.times) == 1


async def test_cancelled_it_stays_silent() -> None:
    bell = Bell()
    bell.timer.due = bell.loop.time() + 0.01
    bell.timer.arm()
    bell.timer.cancel()
    later = Bell()
    later.timer.due = later.loop.time() + 0.03
    later.timer.arm()
    await later.rung.wait()
    assert bell.times == []
    assert math.isinf(bell.timer.due)
