"""One worker's journal: an append-only file in segments, written before anybody is told.

A directory `<worker id>/` holds `lock`, which its owner keeps locked for life, and segments named
by the global offset of their first byte. Segments are preallocated and a hold reserves room for its
records, so a full disk is met when a call is admitted, not when it ends. A `write()` survives the
end of the process; what was synced, off the event loop, also survives the end of the machine.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from billing.engine.records import (
    HEADER,
    MAX_RECORD_BYTES,
    RESERVED_BYTES,
    BadRecord,
    Record,
    Settled,
    unframe,
    unframe_settled,
)

R = TypeVar("R")

SEGMENT_BYTES = 16 * 1024 * 1024
SUFFIX = ".journal"
SPARE = "spare"
NAMELESS_SECONDS = 10.0


class JournalFull(Exception):
    """No room can be reserved: the disk is full or failing."""


class JournalFailed(Exception):
    """A record could not be written; nothing of it counts."""


class SyncPostponed(Exception):
    """There is no descriptor to sync with now; nothing is wrong with what was written."""


def segment_path(directory: Path, offset: int) -> Path:
    return directory / f"{offset:020d}{SUFFIX}"


def segments(directory: Path) -> list[tuple[int, Path]]:
    """The segments in order, each with the offset of its first byte."""
    return sorted((int(path.stem), path) for path in directory.glob(f"*{SUFFIX}"))


def lock_file(path: Path, *, create: bool) -> int | None:
    """A descriptor that holds the lock, or None while somebody living holds it.

    The descriptor is close-on-exec; a process that forks must not keep it in the child. Raises
    FileNotFoundError.
    """
    creating = os.O_CREAT if create else 0
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | creating, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    with contextlib.suppress(FileNotFoundError):
        # Whoever replayed the journal may have removed it while we waited to open it.
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    os.close(descriptor)
    return None


class Journal:
    """The writing side. All methods belong to the event loop's thread."""

    def __init__(self, *, directory: Path, lock: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self.end = 0  # The offset behind the last good record.
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._spares: list[Path] = []
        self._reserved = 0
        self.full = False  # The last hold that asked for room got none.
        self._broken = False
        self._unsynced: list[int] = []  # Descriptors of sealed segments that await their last sync.
        self._dirty = False
        self._base = 0
        self._descriptor = self._start_segment(0)

    @classmethod
    def create(
        cls, *, root: Path, worker_id: UUID, segment_bytes: int = SEGMENT_BYTES
    ) -> "Journal":
        """A new journal, visible under its name only once it is locked."""
        temporary = root / f".{worker_id}.new"
        temporary.mkdir(mode=0o700)
        lock = lock_file(temporary / "lock", create=True)
        assert lock is not None, "somebody locked a directory that has just been made"
        directory = root / str(worker_id)
        try:
            journal = cls(directory=temporary, lock=lock, segment_bytes=segment_bytes)
        except OSError as error:
            os.close(lock)
            shutil.rmtree(temporary, ignore_errors=True)
            raise JournalFull(str(error)) from error
        temporary.rename(directory)
        journal.directory = directory
        journal._spares = [directory / path.name for path in journal._spares]
        _sync_directory(root)
        return journal

    def reserve(self) -> None:
        """Set room aside for one call's records. Raises JournalFull."""
        room = self._segment_bytes - (self.end - self._base) - MAX_RECORD_BYTES
        room += len(self._spares) * (self._segment_bytes - MAX_RECORD_BYTES)
        if self._broken or self._reserved + RESERVED_BYTES > room:
            self._add_spare()
        self.full = False
        self._reserved += RESERVED_BYTES

    def look_for_room(self) -> None:
        """Where there was none for a call, see whether there is again."""
        if self.full:
            with contextlib.suppress(JournalFull):
                self.reserve()
                self.release()

    def release(self) -> None:
        """Give back the room of a call that has ended."""
        self._reserved -= RESERVED_BYTES
        assert self._reserved >= 0, "more room was given back than was reserved"

    def append(self, data: bytes) -> int:
        """Write one framed record and return the offset behind it. Raises JournalFailed."""
        if self._broken:
            raise JournalFailed("the journal cannot be written")
        position = self.end - self._base
        if position + len(data) > self._segment_bytes:
            self._rotate()
            position = 0
        try:
            written = os.pwrite(self._descriptor, data, position)
        except OSError as error:
            self._mend(position, len(data))
            raise JournalFailed(str(error)) from error
        if written != len(data):
            self._mend(position, written)
            raise JournalFailed(f"only {written} of {len(data)} bytes were written")
        self._dirty = True
        self.end += len(data)
        return self.end

    def start_sync(self) -> Callable[[], None]:
        """The work that brings what was written so far to the disk, to be done in a thread.

        Raises SyncPostponed.
        """
        current = []
        if self._dirty:
            try:
                current.append(os.dup(self._descriptor))
            except OSError as error:
                raise SyncPostponed(str(error)) from error
            self._dirty = False
        descriptors, self._unsynced = self._unsynced + current, []

        def work() -> None:
            try:
                for descriptor in descriptors:
                    os.fdatasync(descriptor)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

        return work

    def distrust(self) -> None:
        """A sync failed: the next calls go to a fresh segment, or are refused."""
        self._broken = True

    def delete_behind(self, offset: int) -> None:
        """Remove the segments that end at or before the offset: their records are committed.

        The last of these stays: should the database forget its last commits, they ship again.
        """
        known = segments(self.directory)
        for (_, path), (following, _) in itertools.pairwise(known[:-1]):
            if following > offset:
                break
            path.unlink()

    def close(self) -> None:
        """Let go of the files; the lock is free then, and a sibling may replay what is left."""
        for descriptor in (*self._unsynced, self._descriptor, self._lock):
            os.close(descriptor)
        self._unsynced = []
        self._broken = True

    def destroy(self) -> None:
        """Remove the journal, after the database acknowledged that its worker has finished."""
        remove(self.directory)
        self.close()

    def _rotate(self) -> None:
        self._unsynced.append(self._descriptor)
        self._base = self.end
        try:
            self._descriptor = self._start_segment(self.end)
        except OSError as error:
            self._broken = True
            self._descriptor = self._unsynced.pop()
            raise JournalFailed(str(error)) from error

    def _start_segment(self, offset: int) -> int:
        path = segment_path(self.directory, offset)
        if self._spares:
            self._spares.pop().rename(path)
        else:
            self._allocate(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        _sync_directory(self.directory)
        return descriptor

    def _add_spare(self) -> None:
        path = self.directory / f"{SPARE}-{len(self._spares)}"
        try:
            if self._broken:  # Only a fresh segment at the last good offset can mend it.
                self._start_again()
            self._allocate(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            self.full = True
            raise JournalFull(str(error)) from error
        self._spares.append(path)

    def _start_again(self) -> None:
        self._descriptor, old = self._start_segment(self.end), self._descriptor
        self._unsynced.append(old)
        self._base = self.end
        self._broken = False

    def _allocate(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._segment_bytes)
        finally:
            os.close(descriptor)

    def _mend(self, position: int, length: int) -> None:
        """Cut back to the last good end, or go on in a new segment that starts there."""
        try:
            if os.pwrite(self._descriptor, bytes(length), position) == length:
                return
        except OSError:
            pass  # The next lines are the answer to it.
        try:
            self._start_again()
        except OSError:
            self._broken = True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(directory: Path) -> None:
    """Remove a journal that nobody needs any more; its lock is held.

    It loses its name first: whoever looks at it meanwhile, or after a kill in between, never takes
    what is left of it for a journal.
    """
    nameless = directory.with_name(f".{directory.name}.old")
    directory.rename(nameless)
    shutil.rmtree(nameless, ignore_errors=True)


def remove_nameless(directory: Path) -> None:
    """A journal whose maker died before it got its name, or while it was removed: nobody needs it.

    A young one may still get its name from a sibling that is starting right now.
    """
    with contextlib.suppress(FileNotFoundError):
        if time.time() - directory.stat().st_mtime < NAMELESS_SECONDS:
            return
        lock = lock_file(directory / "lock", create=True)
        if lock is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def first_offset(directory: Path) -> int:
    """Where the oldest segment that is still there begins."""
    known = segments(directory)
    return known[0][0] if known else 0


def read(directory: Path, start: int, *, limit_bytes: int) -> Iterator[tuple[int, int, Record]]:
    """Yield (offset, end, record) from `start` on, for about so many bytes.

    Stops at the first bad or missing record of a segment, unless the next segment begins exactly
    there: what is behind a torn tail never had its last byte sent.
    """
    return _read(directory, start, limit_bytes=limit_bytes, unframe=unframe)


def read_settled(
    directory: Path, start: int, *, limit_bytes: int
) -> Iterator[tuple[int, int, Settled | None]]:
    """The same, with None for each record of a call that was opened."""
    return _read(directory, start, limit_bytes=limit_bytes, unframe=unframe_settled)


def _read(
    directory: Path,
    start: int,
    *,
    limit_bytes: int,
    unframe: Callable[[bytes, int], tuple[R, int] | None],
) -> Iterator[tuple[int, int, R]]:
    offset = start
    for base, following, path in _with_following(segments(directory)):
        if following is not None and following <= offset:
            continue
        if base > offset or offset - start >= limit_bytes:
            return
        with path.open("rb") as file:
            file.seek(offset - base)
            data = file.read(limit_bytes + MAX_RECORD_BYTES + HEADER.size)
        position = 0
        while position < limit_bytes:
            try:
                found = unframe(data, position)
            except BadRecord:
                found = None
            if found is None:
                break
            record, after = found
            yield offset, offset + after - position, record
            offset, position = offset + after - position, after
        else:
            return
        if following != offset:
            return


def _with_following(known: list[tuple[int, Path]]) -> Iterator[tuple[int, int | None, Path]]:
    for index, (base, path) in enumerate(known):
        yield base, known[index + 1][0] if index + 1 < len(known) else None, path
