"""The journal as a file: what was appended is read back, and nothing else ever is."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.engine import journal as journals
from billing.engine.journal import (
    Journal,
    JournalFailed,
    JournalFull,
    lock_file,
    read,
    read_settled,
)
from billing.engine.records import (
    ATTEMPTS_BYTES,
    MAX_RECORD_BYTES,
    Attempt,
    BadRecord,
    Call,
    Opened,
    Record,
    RecordTooLarge,
    Settled,
    fitting,
    frame,
    unframe,
)
from billing.pricing import BUCKETS
from tests.billing.engine.support import DONE, call_of, no_file_beyond

SMALL = 8 * 1024


def opened(amount: int) -> Opened:
    return Opened(call=call_of(1), lease_id=uuid4(), hold_nano_usd=amount)


def settled(amount: int) -> Settled:
    return Settled(
        call=call_of(1),
        lease_id=uuid4(),
        hold_nano_usd=amount,
        charge_nano_usd=amount,
        outcome=DONE,
        settled_at=time.time(),
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.create(root=tmp_path, worker_id=uuid4(), segment_bytes=SMALL)
    yield journal
    journal.close()


def records(directory: Path, start: int = 0) -> list[Record]:
    """Everything from an offset on, in as many readings as it takes."""
    found: list[Record] = []
    while True:
        batch = list(read(directory, start, limit_bytes=1000))
        if not batch:
            return found
        found += [record for _, _, record in batch]
        start = batch[-1][1]


def test_records_come_back_over_many_segments(journal: Journal) -> None:
    written: list[Record] = [settled(i) if i % 2 else opened(i) for i in range(300)]
    for record in written:
        journal.append(frame(record))
    assert len(journals.segments(journal.directory)) > 3
    assert records(journal.directory) == written
    ends = [end for _, end, _ in read(journal.directory, 0, limit_bytes=10**9)]
    assert ends[-1] == journal.end
    assert records(journal.directory, ends[99]) == written[100:]


def test_who_ships_reads_the_same_but_for_what_opened_records_say(journal: Journal) -> None:
    for record in [settled(i) if i % 3 else opened(i) for i in range(100)]:
        journal.append(frame(record))
    everything = list(read(journal.directory, 0, limit_bytes=10**9))
    assert list(read_settled(journal.directory, 0, limit_bytes=10**9)) == [
        (start, end, record if isinstance(record, Settled) else None)
        for start, end, record in everything
    ]


def test_a_segment_goes_only_when_all_of_it_is_behind(journal: Journal) -> None:
    written = [settled(i) for i in range(200)]
    ends = [journal.append(frame(record)) for record in written]
    bases = [base for base, _ in journals.segments(journal.directory)]
    journal.delete_behind(bases[2])
    assert journals.first_offset(journal.directory) == bases[2]
    journal.delete_behind(bases[3] - 1)
    assert journals.first_offset(journal.directory) == bases[2]
    left = [record for record, end in zip(written, ends, strict=True) if end > bases[2]]
    assert records(journal.directory, bases[2]) == left
    # The last segment that is behind stays all the same: a database may lose its last commits.
    journal.delete_behind(journal.end)
    assert len(journals.segments(journal.directory)) == 2


def test_reserved_room_is_always_there(journal: Journal) -> None:
    """A call that was admitted can write its records, whatever the disk says by then."""
    holds = 0
    with no_file_beyond(SMALL):
        for _ in range(50):
            journal.reserve()
            holds += 1
    with no_file_beyond(SMALL - 1):
        # No new segment can be made now; what was reserved is written all the same.
        for _ in range(2 * holds):
            data = frame(settled(1))
            if journal.end % SMALL + len(data) < SMALL - 1:
                journal.append(data)


def test_a_full_disk_refuses_the_hold_not_the_settlement(tmp_path: Path) -> None:
    with no_file_beyond(SMALL - 1), pytest.raises(JournalFull):
        Journal.create(root=tmp_path, worker_id=uuid4(), segment_bytes=SMALL)
    assert list(tmp_path.iterdir()) == []
    journal = Journal.create(root=tmp_path, worker_id=uuid4(), segment_bytes=SMALL)
    journal.reserve()
    with no_file_beyond(SMALL - 1):
        with pytest.raises(JournalFull):
            journal.reserve()
        journal.look_for_room()
        was_full = journal.full
    journal.look_for_room()
    assert (was_full, journal.full) == (True, False)
    journal.reserve()
    journal.append(frame(settled(1)))
    journal.close()


@pytest.mark.parametrize("written", [0, 10])
def test_a_failed_or_short_write_leaves_no_trace(journal: Journal, written: int) -> None:
    before = settled(1)
    end = journal.append(frame(before))
    with no_file_beyond(end + written), pytest.raises(JournalFailed):
        journal.append(frame(settled(2)))
    assert journal.end == end
    assert records(journal.directory) == [before]
    after = settled(3)
    journal.reserve()  # Makes a new segment, where the old one cannot be trusted.
    journal.append(frame(after))
    assert records(journal.directory) == [before, after]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), garbage=st.binary(max_size=40))
def test_a_torn_tail_is_dropped(cut: int, garbage: bytes) -> None:
    """Whatever the last write left behind, what was whole before it is read, and no more."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.create(root=Path(folder), worker_id=uuid4(), segment_bytes=SMALL)
        whole: list[Record] = [settled(1), opened(2)]
        for record in whole:
            journal.append(frame(record))
        last = frame(settled(3))
        torn = last[: min(cut, len(last) - 1)] + garbage
        path = journals.segment_path(journal.directory, 0)
        with path.open("r+b") as file:
            file.seek(journal.end)
            file.write(torn)
        found = records(journal.directory)
        assert found[:2] == whole
        assert len(found) == 2 or torn.startswith(last)
        journal.close()


def test_damage_in_the_middle_ends_the_reading(journal: Journal) -> None:
    ends = [journal.append(frame(settled(i))) for i in range(3)]
    path = journals.segment_path(journal.directory, 0)
    with path.open("r+b") as file:
        file.seek(ends[0] + 20)
        byte = file.read(1)
        file.seek(ends[0] + 20)
        file.write(bytes([byte[0] ^ 1]))
    assert len(records(journal.directory)) == 1


def test_only_the_living_hold_the_lock(journal: Journal) -> None:
    path = journal.directory / "lock"
    assert lock_file(path, create=False) is None
    child = os.fork()
    if child == 0:
        os._exit(0 if lock_file(path, create=False) is None else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_files_are_for_their_owner_only(journal: Journal) -> None:
    assert journal.directory.stat().st_mode & 0o777 == 0o700
    for path in journal.directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_record_that_is_too_large_is_refused() -> None:
    large: Call = msgspec.structs.replace(call_of(1), model="m" * MAX_RECORD_BYTES)
    with pytest.raises(RecordTooLarge):
        frame(Opened(call=large, lease_id=uuid4(), hold_nano_usd=1))


def attempt(channel: str, *, cost: int = 0) -> Attempt:
    return Attempt(
        channel=channel,
        credential="main",
        reason="priority",
        outcome="refused",
        status=429,
        duration_ms=3,
        upstream_cost_nano_usd=cost,
    )


@given(st.lists(st.tuples(st.text(max_size=100), st.integers(0, 10**9)), min_size=1, max_size=80))
def test_attempts_find_room_and_none_of_their_cost_is_lost(made: list[tuple[str, int]]) -> None:
    attempts = [attempt(channel, cost=cost) for channel, cost in made]
    kept = fitting(attempts)
    assert len(msgspec.msgpack.encode(kept)) <= ATTEMPTS_BYTES
    assert sum(one.upstream_cost_nano_usd for one in kept) == sum(cost for _, cost in made)
    assert kept[-1] == attempts[-1]
    if list(kept) != attempts:
        *first, more, _ = kept
        assert first == attempts[: len(first)]
        assert more.outcome == f"{len(attempts) - len(first) - 1} more"


def test_what_could_be_opened_can_be_settled() -> None:
    """However long its names are, whatever it used, and wherever it was sent."""
    most = 2**63 - 1
    outcome = msgspec.structs.replace(
        DONE,
        prompt_tokens=most,
        cached_tokens=most,
        completion_tokens=most,
        reasoning_tokens=most,
        units=dict.fromkeys(BUCKETS, most),
        official_cost_nano_usd=most,
        upstream_cost_nano_usd=most,
        first_byte_ms=most,
        duration_ms=most,
        flags=("trimmed",),
        first_token_ms=most,
        attempts=fitting([attempt("模" * 100, cost=most // 100)] * 50),
    )
    length = 1
    while True:
        call: Call = msgspec.structs.replace(call_of(1), model="模" * length)
        try:
            frame(Opened(call=call, lease_id=uuid4(), hold_nano_usd=most))
        except RecordTooLarge:
            break
        frame(
            Settled(
                call=call,
                lease_id=uuid4(),
                hold_nano_usd=most,
                charge_nano_usd=most,
                outcome=outcome,
                settled_at=time.time(),
            )
        )
        length += 1
    assert length > 200


def test_a_frame_that_lies_about_its_length_is_no_record() -> None:
    data = frame(opened(1))
    with pytest.raises(BadRecord):
        unframe(b"\xff\xff\xff\x7f" + data[4:], 0)
    with pytest.raises(BadRecord):
        unframe(data[:-1], 0)
    assert unframe(bytes(64), 0) is None
