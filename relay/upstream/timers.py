"""A deadline that is cheap to move."""

import asyncio
import math
from collections.abc import Callable

from relay.far_timers import Timer, far_timers


class DeadlineTimer:
    """Calls back at the earlier of `due` and `last`, both in the loop's time.

    Moving a deadline later is an assignment: the loop's timer, armed for an earlier time, wakes,
    looks again and goes back to sleep. After moving one earlier, call `arm`.
    """

    __slots__ = ("_armed_at", "_callback", "_handle", "_loop", "due", "last")

    def __init__(self, *, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: Timer | None = None
        self._armed_at = math.inf
        self.due = math.inf
        self.last = math.inf

    def arm(self) -> None:
        when = min(self.due, self.last)
        if when < self._armed_at:
            if self._handle is not None:
                self._handle.cancel()
            self._armed_at = when
            self._handle = far_timers(self._loop).call_at(when, self._fire)

    def cancel(self) -> None:
        self.due = self.last = self._armed_at = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._armed_at = math.inf
        if self._loop.time() >= min(self.due, self.last):
            self._callback()
        else:
            self.arm()
