"""Carrying a journal to the database: its owner as it grows, a sibling after its owner's death."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from billing.engine import journal, shipping, transactions
from billing.engine.database import Connection, Database, OutcomeUnknown
from billing.engine.records import Opened, Settled
from billing.engine.recovery import CommitsForgotten, NamedLease, leases_named, readmit
from billing.engine.shipping import REFUSALS, Batch, WalletsToLock

BATCH_BYTES = 512 * 1024
BATCH_TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 0.2
logger = logging.getLogger("tollgate.engine")


@dataclass(slots=True)
class ShipCounters:
    shipped: int = 0
    set_aside: int = 0


class Shipper:
    def __init__(self, database: Database, counters: ShipCounters) -> None:
        self._database = database
        self._counters = counters

    async def ship_from(self, *, directory: Path, worker_id: UUID, start: int) -> int:
        """Ship one batch from the offset on; returns the offset that the database has then.

        Raises OutcomeUnknown; the same call again is then right.
        """
        records: list[tuple[int, int, Settled]] = []
        end = start
        for offset, after, record in journal.read_settled(
            directory, start, limit_bytes=BATCH_BYTES
        ):
            end = after
            if record is not None:
                records.append((offset, after, record))
        if end == start:
            return await self._skip_missing(directory, worker_id, start)
        return await self._ship(worker_id, start, end, records)

    async def _ship(
        self, worker_id: UUID, start: int, end: int, records: Sequence[tuple[int, int, Settled]]
    ) -> int:
        batch = Batch(
            worker_id=worker_id,
            start=start,
            end=end,
            records=[(offset, record) for offset, _, record in records],
        )
        try:
            offset = await self._ship_batch(batch)
        except REFUSALS as refusal:
            return await self._ship_without(worker_id, start, end, records, refusal)
        if offset == end:
            self._counters.shipped += len(records)
        return offset

    async def _ship_batch(self, batch: Batch) -> int:
        wallets: set[int] = set()
        readmitted = False
        while True:
            transaction = partial(shipping.ship, batch=batch, wallets=wallets)
            try:
                return await self._database.run(transaction, timeout=BATCH_TIMEOUT_SECONDS)
            except WalletsToLock as found:
                wallets = found.organizations
            except CommitsForgotten as found:
                if readmitted:
                    raise
                logger.critical("The database has forgotten what it had committed: %s.", found)
                leases = leases_named(record for _, record in batch.records)
                await self._readmit(batch.worker_id, 0, leases)
                readmitted = True

    async def _skip_missing(self, directory: Path, worker_id: UUID, start: int) -> int:
        """Go on where the journal begins, if the database stands before that: a part is gone."""
        first = journal.first_offset(directory)
        if start < first:
            logger.critical(
                "The database has forgotten records that the journal does not hold any more.",
                extra={"fields": {"worker": str(worker_id), "from": start, "to": first}},
            )
            await self._readmit(worker_id, first, {})
        return max(start, first)

    async def _readmit(self, worker_id: UUID, offset: int, leases: dict[UUID, NamedLease]) -> None:
        await self._database.run(
            partial(readmit, worker_id=worker_id, offset=offset, leases=leases),
            timeout=BATCH_TIMEOUT_SECONDS,
        )

    async def _ship_without(
        self,
        worker_id: UUID,
        start: int,
        end: int,
        records: Sequence[tuple[int, int, Settled]],
        refusal: Exception,
    ) -> int:
        """The database refuses something in there: halve until it stands alone; set it aside."""
        if len(records) > 1:
            half = len(records) // 2
            middle = records[half][0]
            reached = await self._ship(worker_id, start, middle, records[:half])
            if reached != middle:
                return reached
            return await self._ship(worker_id, middle, end, records[half:])
        assert records, f"a batch without records was refused: {refusal}"
        offset, after, record = records[0]
        logger.critical(
            "The database refuses a record; it is set aside.",
            exc_info=refusal,
            extra={"fields": {"request_id": f"req_{record.call.request_id.hex}"}},
        )
        self._counters.set_aside += 1
        before = await self._ship(worker_id, start, offset, []) if offset != start else start
        if before != offset:
            return before
        reached = await self._database.run(
            partial(
                shipping.set_aside,
                worker_id=worker_id,
                start=offset,
                end=after,
                refused=record,
                reason=f"{type(refusal).__name__}: {refusal}",
            )
        )
        if reached != after or after == end:
            return reached
        return await self._ship(worker_id, after, end, [])

    async def replay(self, directory: Path, worker_id: UUID) -> None:
        """Ship a dead worker's journal to its end, record its open calls as lost, and finish it.

        The caller holds the journal's lock. Returns only when all that is committed; repeats for
        as long as the database is away.
        """
        while True:
            try:
                return await self._replay_once(directory, worker_id)
            except OutcomeUnknown:
                await asyncio.sleep(RETRY_SECONDS)

    async def _replay_once(self, directory: Path, worker_id: UUID) -> None:
        offset = await self._database.run(partial(shipping.shipped_offset, worker_id=worker_id))
        if offset is None:
            offset = journal.first_offset(directory)
            if next(journal.read(directory, offset, limit_bytes=BATCH_BYTES), None) is None:
                return  # It had no row, so it never had a lease: nothing can be owed.
        while (
            reached := await self.ship_from(directory=directory, worker_id=worker_id, start=offset)
        ) != offset:
            offset = reached
        # A whole segment takes a third of a second, in which our own calls go on.
        open_calls = await asyncio.to_thread(_open_calls, directory)
        finished = await self._database.run(
            partial(_finish_with_lost, worker_id=worker_id, end=offset, open_calls=open_calls),
            timeout=BATCH_TIMEOUT_SECONDS,
        )
        assert finished, f"the journal of {worker_id} grew while its lock was held"


def _open_calls(directory: Path) -> list[tuple[int, Opened]]:
    """The calls that were opened and never settled."""
    found: dict[UUID, tuple[int, Opened]] = {}
    start = journal.first_offset(directory)
    while True:
        end = start
        for offset, after, record in journal.read(directory, start, limit_bytes=BATCH_BYTES):
            end = after
            if isinstance(record, Opened):
                found[record.call.request_id] = offset, record
            else:
                found.pop(record.call.request_id, None)
        if end == start:
            return list(found.values())
        start = end


async def _finish_with_lost(
    connection: Connection, worker_id: UUID, end: int, open_calls: list[tuple[int, Opened]]
) -> bool:
    """Finish, and in the same transaction say what was lost: so it is said once."""
    cursor = await connection.execute(
        "SELECT state FROM billing_worker WHERE id = %s FOR UPDATE", [worker_id]
    )
    row = await cursor.fetchone()
    if row is not None and row[0] != "complete":
        at = time.time()
        lost = [(offset, shipping.lost(opened, at=at)) for offset, opened in open_calls]
        await shipping.records_insert(connection, worker_id, lost)
    return await transactions.finish(connection, worker_id=worker_id, end=end)
