"""Signals as something to wait for, beside descriptors."""

import os
import select
import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Self

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequested(Exception):
    """A signal asked this process to stop."""


class Signals:
    """While entered: what asks to stop is noted, and any signal ends a wait."""

    def __init__(self) -> None:
        self.stop_requested = False
        # Only a second Ctrl-C hurries: make and process groups repeat a SIGTERM by themselves.
        self.hurry_requested = False
        self._reader, self._writer = -1, -1
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def check(self) -> None:
        """Raise StopRequested if that has happened."""
        if self.stop_requested:
            raise StopRequested

    def wait(self, descriptors: Iterable[int], *, timeout_seconds: float) -> list[int]:
        """Wait for a signal or for something to read; returns the readable descriptors."""
        waiting = [self._reader, *descriptors]
        readable, _, _ = select.select(waiting, [], [], max(0.0, timeout_seconds))
        if self._reader in readable:
            readable.remove(self._reader)
            os.read(self._reader, select.PIPE_BUF)
        return readable

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*STOP, signal.SIGCHLD):
            before = signal.getsignal(number)
            # Whoever started us with nohup does not want the terminal's end to stop us.
            if number != signal.SIGHUP or before != signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.stop_requested:
            self.hurry_requested = True
        if number in STOP:
            self.stop_requested = True
