"""What dead workers left in their journals reaches the books, except for what was never whole."""

import os
from pathlib import Path
from uuid import UUID

import msgspec

from billing.engine import journal
from billing.engine.records import HEADER, Settled, frame
from billing.identifiers import uuid7
from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customers
from tests.faults.journals import journal_records
from tests.faults.product import Product
from tests.faults.scenes import away, both, served_from_leases, warmed_up


def end_of(directory: Path) -> int:
    end = journal.first_offset(directory)
    for _, after, _ in journal.read(directory, end, limit_bytes=journal.SEGMENT_BYTES):
        end = after
    return end


def append(directory: Path, data: bytes) -> None:
    """Write behind the last good record, as a process that dies in the middle of it."""
    base, path = journal.segments(directory)[-1]
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, end_of(directory) - base)


def half_a_record(product: Product) -> tuple[UUID, bytes]:
    """The beginning of a settled record that was never finished."""
    whole = next(record for record in journal_records(product) if isinstance(record, Settled))
    call = msgspec.structs.replace(whole.call, request_id=uuid7())
    data = frame(msgspec.structs.replace(whole, call=call))
    return call.request_id, data[: len(data) // 2]


async def test_a_torn_tail_is_dropped_and_what_is_before_it_ships(
    launch: Launch, customers: Customers
) -> None:
    product = await launch()
    standard = customers["standard"]
    async with both(product) as groups:
        replies = await warmed_up(groups, standard, standard)
        async with away(product):
            late = await served_from_leases([first for first, *_ in groups], standard)
            await product.kill_everything()
    one, other = product.journals()
    torn, half = half_a_record(product)
    append(one, half)
    # Long enough to be a record, and none: its checksum is another one's.
    append(other, HEADER.pack(400, 12345) + os.urandom(400))
    await product.start()
    records = await check_books(product, [*replies, *late])
    assert torn not in {record.request_id for record in records}
    assert len(records) == len(replies) + len(late)
    assert product.alarms() == []
    await product.stop()
    check_books_afterwards(product, [*replies, *late])
