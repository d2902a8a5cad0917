"""How far the database is behind a journal, read from its files."""

from pathlib import Path
from typing import NamedTuple

from billing.engine import journal
from billing.engine.records import HEADER, MAX_RECORD_BYTES, Settled


class Backlog(NamedTuple):
    """What waits to be shipped; `since` is the Unix time of its first record, or None."""

    unshipped_bytes: int
    since: float | None


def backlog(directory: Path, *, shipped: int) -> Backlog:
    """Also while the journal's owner writes it: what comes meanwhile may be missing."""
    return Backlog(max(0, end_offset(directory) - shipped), waiting_since(directory, shipped))


def end_offset(directory: Path) -> int:
    """The offset behind the last record, by the lengths alone: it is for people."""
    known = journal.segments(directory)
    if not known:
        return 0
    base, path = known[-1]
    data = path.read_bytes()
    position = 0
    while position + HEADER.size <= len(data):
        length, _ = HEADER.unpack_from(data, position)
        after = position + HEADER.size + length
        if not 0 < length <= MAX_RECORD_BYTES or after > len(data):
            break
        position = after
    return int(base + position)


def waiting_since(directory: Path, offset: int) -> float | None:
    """When the record at that offset was written, in Unix time; None if there is none yet."""
    for _, _, record in journal.read(directory, offset, limit_bytes=1):
        return record.settled_at if isinstance(record, Settled) else record.call.opened_at
    return None
