"""The counts of a node, in a file that all of its workers have in their memory.

Note [Who is dead]
Each worker locks a file of its own for as long as it lives. The kernel gives the lock back however
a process ends, so who gets another one's lock knows that the calls which that one had running have
ended, and takes them out of the counts.

Note [Who stands still]
The lock of the counts is held for microseconds. A process that is stopped inside (a debugger, a
frozen container) keeps it for as long as it stands still, and nobody can take it away. The others
do not wait for that one: calls are let through uncounted until it goes on or is killed.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from relay.limits.window import OWNERS, Counter, Counts, Look, memory_bytes

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
_VERSION = 1
# Of which only what is used takes room: each scope that was limited and called in the last minute.
_COUNTERS = 16_384
_BYTES = memory_bytes(_COUNTERS)


# Nobody needs the lock for longer, even on a busy machine; who has waited in vain pauses.
PATIENCE_SECONDS = 0.5
PAUSE_SECONDS = 5.0
_TURN_SECONDS = 0.0005


class TableHeld(Exception):
    """Another process stands still with the counts. See Note [Who stands still]."""


class TooManyWorkers(Exception):
    """There are no numbers left for one more worker of this node."""


class NodeTable:
    """One process's access to the counts. Nothing here waits for more than a few writes.

    Raises TableHeld, and then has changed nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held_until = 0.0
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(directory / f"counts-{_VERSION}", _FLAGS, 0o600)
        try:
            with self._alone():
                if os.fstat(self._descriptor).st_size != _BYTES:
                    os.ftruncate(self._descriptor, 0)  # It is all zeros, or nothing that we know.
                    os.ftruncate(self._descriptor, _BYTES)
        except TableHeld:
            os.close(self._descriptor)
            raise
        self._map = mmap.mmap(self._descriptor, _BYTES)
        self._counts = Counts(memoryview(self._map))
        self.owner, self._life = self._begin_life()
        try:
            with self._counting() as counts:
                counts.owner_add(self.owner)
        except TableHeld:
            os.close(self._life)
            os.close(self._descriptor)
            raise

    def take(self, wants: Sequence[tuple[Counter, int]]) -> tuple[bool, list[Look]]:
        """Use so much of each, or nothing of any; and how full they are then."""
        now = time.monotonic()
        with self._counting() as counts:
            return counts.take(wants, now=now, owner=self.owner)

    def finish(
        self,
        slots: Sequence[Counter],
        windows: Sequence[tuple[Counter, int]] = (),
        *,
        taken_at: float,
    ) -> None:
        """A call has ended: its slots are free, and of each window it used so much more or less."""
        now = time.monotonic()
        with self._counting() as counts:
            for counter in slots:
                counts.release(counter, owner=self.owner)
            for counter, more in windows:
                if more > 0:
                    counts.use(counter, more, now=now)
                elif more < 0:
                    counts.give_back(counter, -more, taken_at=taken_at, now=now)

    def running(self, counter: Counter) -> int:
        with self._counting() as counts:
            return counts.running(counter)

    def bury(self) -> int:
        """Take out what the dead had running; returns how many have died."""
        with self._counting() as counts:
            others = [owner for owner in counts.owners() if owner != self.owner]
        dead = 0
        for owner in others:
            life = self._lock(owner)
            if life is None:
                continue
            try:
                with self._counting() as counts:
                    counts.owner_remove(owner)
            finally:
                os.close(life)
            dead += 1
        return dead

    def close(self) -> None:
        # Else whoever looks next for dead workers does it.
        with suppress(TableHeld), self._counting() as counts:
            counts.owner_remove(self.owner)
        os.close(self._life)
        os.close(self._descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._take_lock()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _take_lock(self) -> None:
        began = time.monotonic()
        if began < self._held_until:
            raise TableHeld
        while True:
            try:
                return fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > began + PATIENCE_SECONDS:
                    self._held_until = time.monotonic() + PAUSE_SECONDS
                    raise TableHeld from None
                time.sleep(_TURN_SECONDS)

    @contextmanager
    def _counting(self) -> Iterator[Counts]:
        with self._alone():
            self._counts.begin()
            yield self._counts
            # An exception leaves the mark: then nobody believes the sums.
            self._counts.end()

    def _begin_life(self) -> tuple[int, int]:
        for owner in range(OWNERS):
            life = self._lock(owner)
            if life is not None:
                return owner, life
        raise TooManyWorkers(f"Rate limits can be shared by {OWNERS} workers of a node.")

    def _lock(self, owner: int) -> int | None:
        """The locked file of that number. See Note [Who is dead]."""
        descriptor = os.open(self._directory / f"worker-{owner}", _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
