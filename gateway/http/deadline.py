"""A deadline that costs next to nothing to move later."""

import asyncio
import math
from collections.abc import Callable

from relay.far_timers import Timer, far_timers


class Deadline:
    """Calls back when it has passed; the loop's timer, once it wakes, looks where it is now."""

    __slots__ = ("_armed_at", "_callback", "_due_at", "_loop", "_timer")

    def __init__(self, *, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._timer: Timer | None = None
        self._armed_at = self._due_at = math.inf

    def wait(self, seconds: float) -> None:
        self._due_at = due_at = self._loop.time() + seconds
        if due_at < self._armed_at:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_at = due_at
            self._timer = far_timers(self._loop).call_at(due_at, self._fire)

    def suspend(self) -> None:
        """There is none until the next `wait`; cheaper than to stop."""
        self._due_at = math.inf

    def stop(self) -> None:
        self._armed_at = self._due_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer, self._armed_at = None, math.inf
        left = self._due_at - self._loop.time()
        if left <= 0:
            self._due_at = math.inf
            self._callback()
        elif left < math.inf:
            self.wait(left)
