"""Streams whose client left: which of them are read on for their true usage, and how far."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """The operator's settings; time and bytes count from the client's departure."""

    seconds: float
    bytes: int
    at_once: int  # In this process; 0: every such stream is cancelled.


class Drains:
    """The streams of one process that are being read on."""

    __slots__ = ("limits", "running")

    def __init__(self, limits: DrainLimits) -> None:
        self.limits = limits
        self.running = 0

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        """Whether there is room for one more; it is taken until the block ends."""
        if self.running >= self.limits.at_once:
            yield False
            return
        self.running += 1
        try:
            yield True
        finally:
            self.running -= 1
