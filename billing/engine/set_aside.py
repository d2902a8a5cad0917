"""Shipping once more what the database refused, after its cause was repaired."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from billing.engine import shipping
from billing.engine.database import Connection, Database
from billing.engine.records import Settled
from billing.engine.shipping import REFUSALS, Batch, WalletsToLock

TIMEOUT_SECONDS = 30.0


class Retried(NamedTuple):
    """A record that was set aside, and why the database refuses it still; None: it shipped."""

    record_id: int
    request_id: str
    charge_nano_usd: int
    refusal: str | None


async def set_aside_waiting(connection: Connection) -> list[int]:
    """The records that nobody has dealt with yet, oldest first."""
    cursor = await connection.execute(
        "SELECT id FROM billing_setasiderecord WHERE resolved_at IS NULL ORDER BY id"
    )
    return [row[0] for row in await cursor.fetchall()]


async def set_aside_retry(
    database: Database, record_ids: Sequence[int], *, actor_label: str
) -> list[Retried]:
    """Ship each in a transaction of its own. What somebody else dealt with is left out.

    Raises OutcomeUnknown; the same call again is then right.
    """
    retried = []
    for record_id in record_ids:
        found = await _retry(database, record_id, actor_label)
        if found is not None:
            retried.append(found)
    return retried


async def _retry(database: Database, record_id: int, actor_label: str) -> Retried | None:
    wallets: set[int] = set()
    while True:
        try:
            return await database.run(
                partial(_ship, record_id=record_id, wallets=wallets, actor_label=actor_label),
                timeout=TIMEOUT_SECONDS,
            )
        except WalletsToLock as found:
            wallets = found.organizations
        except REFUSALS as refusal:
            reason = f"{type(refusal).__name__}: {refusal}"
            return await database.run(partial(_refused, record_id=record_id, reason=reason))


async def _ship(
    connection: Connection, *, record_id: int, wallets: set[int], actor_label: str
) -> Retried | None:
    """The record, its charge and the end of its alarm, all or nothing: so it happens once."""
    cursor = await connection.execute(
        "SELECT worker_id, journal_offset, payload FROM billing_setasiderecord"
        " WHERE id = %s AND resolved_at IS NULL FOR UPDATE",
        [record_id],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    worker_id, offset, payload = row
    record = msgspec.json.decode(payload, type=Settled)
    batch = Batch(worker_id=worker_id, start=offset, end=offset, records=[(offset, record)])
    await shipping.records_insert(connection, worker_id, batch.records)
    # Its lease may have been closed without it: then its money is in the wallet again.
    await shipping.spend(connection, batch, wallets, may_be_late=True)
    await connection.execute(
        "UPDATE billing_setasiderecord SET resolved_at = clock_timestamp() WHERE id = %s",
        [record_id],
    )
    await connection.execute(
        "INSERT INTO accounts_auditevent"
        " (at, actor_label, action, organization_id, subject, details)"
        " VALUES (clock_timestamp(), %s, 'set_aside.retry', %s, %s, '{}')",
        [actor_label, record.call.organization_id, f"record {record_id}"],
    )
    return _retried(record_id, record, None)


async def _refused(connection: Connection, *, record_id: int, reason: str) -> Retried:
    cursor = await connection.execute(
        "SELECT payload FROM billing_setasiderecord WHERE id = %s", [record_id]
    )
    row = await cursor.fetchone()
    assert row is not None, "a record that was set aside is never deleted"
    return _retried(record_id, msgspec.json.decode(row[0], type=Settled), reason)


def _retried(record_id: int, record: Settled, refusal: str | None) -> Retried:
    request_id = f"req_{record.call.request_id.hex}"
    return Retried(record_id, request_id, record.charge_nano_usd, refusal)
