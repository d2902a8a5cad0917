"""An event loop whose clock jumps to the next timer when nothing is ready to run.

Whatever runs on it takes no time but what it sleeps, so an hour passes in the seconds that its
events need, and the same seed gives the same history.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

from typing_extensions import override

from billing.engine import timing

T = TypeVar("T")
BEGIN = 1_000.0


class NothingToWaitFor(Exception):
    """No timer is set and nothing is ready: on a real clock this would hang for ever."""


class _Jump(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingToWaitFor
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    @override
    def time(self) -> float:
        return self._jump.now

    @override
    def run_in_executor(  # type: ignore[override]  # The base types it as any awaitable's maker.
        self,
        executor: object,
        function: Callable[..., T],
        *arguments: Any,
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  As an executor does: whoever awaits it is told.
            done.set_exception(error)
        return done


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in virtual time, the engine's own clock included."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        with patch.object(time, "clock_gettime", lambda _clock: loop.time()):
            assert timing.now() == loop.time(), "the engine reads another clock"
            return runner.run(_started(main))


async def _started(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What is made before the first await already finds the loop."""
    return await main()
