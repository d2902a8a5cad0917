"""What stands in the journals, read as a sibling would."""

from collections.abc import Iterator
from uuid import UUID

from billing.engine import journal
from billing.engine.records import Opened, Record, Settled
from tests.faults.product import Product

_LIMIT_BYTES = 1024 * 1024


def journal_records(product: Product, worker: UUID | None = None) -> Iterator[Record]:
    for directory in product.journals():
        if worker is not None and directory.name != str(worker):
            continue
        start, end = -1, journal.first_offset(directory)
        while start != end:
            start = end
            for _, after, record in journal.read(directory, start, limit_bytes=_LIMIT_BYTES):
                end = after
                yield record


def settled(product: Product) -> set[UUID]:
    records = journal_records(product)
    return {record.call.request_id for record in records if isinstance(record, Settled)}


def opened(product: Product) -> set[UUID]:
    """The calls that went upstream and have not ended."""
    records = journal_records(product)
    begun = {record.call.request_id for record in records if isinstance(record, Opened)}
    return begun - settled(product)
