"""Tasks that somebody keeps hold of until they have ended."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("tollgate.engine")


class Tasks:
    """Every task is registered, and cancelled at the end if it has not ended by itself."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("A lease operation was refused by the database.", exc_info=error)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
