"""Begins the answer to a stream while its upstream is still silent.

Several apps give up after a minute without the head of an answer, however long a model thinks. So
after the pause of any other silence they get it, and comments. From then on a call that fails can
tell so only inside of its stream; until then it is an error with a status, as usual.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from relay.calls import OpenCall
from relay.exchange import ClientLeft
from relay.far_timers import Timer, far_timers
from relay.metering.meter import KEEP_ALIVE


class EarlyHead:
    """Around the wait for a stream: `async with EarlyHead(call, pause_seconds=15):`."""

    def __init__(self, call: OpenCall, *, pause_seconds: float) -> None:
        """A pause of 0 seconds is none: nothing is sent."""
        self._call = call
        self._pause_seconds = pause_seconds
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        call = self._call
        if self._pause_seconds and call.handler.can_begin_early:
            timers = far_timers(asyncio.get_running_loop())
            self._timer = timers.call_later(self._pause_seconds, self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._speak())

    async def _speak(self) -> None:
        exchange = self._call.exchange
        self._call.has_begun_early = True
        with suppress(ClientLeft):
            await exchange.stream_start(())
            while True:
                await exchange.stream(KEEP_ALIVE)
                await asyncio.sleep(self._pause_seconds)
