"""One JSON line per call on standard error: ids, figures and outcome, no bodies, no keys.

Lines are gathered and written by a thread, so that a slow reader of the log slows no call down.
"""

import asyncio
import os
import time

import msgspec

from relay.exchange import Exchange

FLUSH_SECONDS = 0.1
# When the reader of the log hangs, lines are dropped and counted, not gathered without bound.
MAX_WAITING = 100_000
STANDARD_ERROR = 2


class CallLog:
    def __init__(self, descriptor: int = STANDARD_ERROR) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._dropped = 0
        self._encode = msgspec.json.Encoder().encode
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_for_ever())

    def write(self, exchange: Exchange) -> None:
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
            return
        line = {
            "at": time.time(),
            "level": "info",
            "logger": "tollgate.calls",
            "message": "call",
            "request_id": exchange.request_id,
            "method": exchange.method,
            "path": exchange.path,
            "status": exchange.status,
            "duration_ms": exchange.elapsed_ms(),
            **exchange.log,
        }
        self._lines.append(self._encode(line))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        if self._dropped:
            note = {"level": "warning", "message": "log lines dropped", "count": self._dropped}
            self._lines.append(self._encode(note))
            self._dropped = 0
        if self._lines:
            lines, self._lines = self._lines, []
            await asyncio.to_thread(self._write_all, b"\n".join(lines) + b"\n")

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
