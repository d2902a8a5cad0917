"""When the database has forgotten commits: a fail-over that lost the last ones, an old backup.

What it acknowledged is still known here: how far a journal was shipped, which version a lease had.
Where the database is behind that, its worker opens no more holds, since the money of its leases may
be somebody else's now. What stands in its journal is shipped again: as it was, where its leases can
still take it, else as the late settlement of a worker that was lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from billing.engine.database import Connection
from billing.engine.giving import leases_close_of
from billing.engine.holds import Lease
from billing.engine.leases import LeaseView, wallets_lock
from billing.engine.limit_rooms import windows_restore
from billing.engine.records import LimitWindow, Settled


class CommitsForgotten(Exception):
    """A journal builds on a worker or a lease that the database does not know as it should."""


class NamedLease(NamedTuple):
    """What the records of a journal say of a lease."""

    organization_id: int
    limits: tuple[LimitWindow, ...]


def leases_named(records: Iterable[Settled]) -> dict[UUID, NamedLease]:
    return {r.lease_id: NamedLease(r.call.organization_id, r.limits) for r in records}


def acknowledged(leases: Mapping[UUID, Lease]) -> dict[UUID, int]:
    """The version that the database has told of each lease, where nothing is in flight."""
    return {lease.id: lease.version for lease in leases.values() if not lease.busy}


def forgotten_lease(
    leases: Mapping[UUID, Lease], versions: Mapping[UUID, int], views: Sequence[LeaseView]
) -> UUID | None:
    """One of the leases of which a later answer knows less than it had told, if there is any."""
    found = {view.lease_id: view.version for view in views}
    for lease_id, version in versions.items():
        lease = leases.get(lease_id)
        if lease is not None and not lease.busy and found.get(lease_id, 0) < version:
            return lease_id
    return None


async def readmit(
    connection: Connection, *, worker_id: UUID, offset: int, leases: Mapping[UUID, NamedLease]
) -> None:
    """Let the worker's journal be shipped as that of a worker that was lost.

    From the offset on, or from where the database stands, if that is further.
    The leases that its records name are closed, so that each of those is paid by the wallet as far
    as that has the money, and written off for the rest; it counts in its limits.
    """
    await connection.execute(
        "INSERT INTO billing_worker"
        " (id, node, state, expires_at, shipped_offset, was_lost, report, started_at)"
        " VALUES (%s, 'forgotten', 'lost', clock_timestamp(), %s, true, '{}', clock_timestamp())"
        " ON CONFLICT (id) DO UPDATE SET was_lost = true,"
        " state = CASE billing_worker.state WHEN 'complete' THEN 'complete' ELSE 'lost' END,"
        " shipped_offset = greatest(billing_worker.shipped_offset, excluded.shipped_offset)",
        [worker_id, offset],
    )
    await leases_close_of(connection, worker_id)
    # Whoever changes the windows of limits holds their organization's wallet.
    await wallets_lock(connection, {lease.organization_id for lease in leases.values()})
    periods = await windows_restore(
        connection, [window for lease in leases.values() for window in lease.limits]
    )
    # Of an organization that is not there either, the records are set aside.
    await connection.execute(
        "INSERT INTO billing_lease (id, worker_id, organization_id, state, version,"
        " granted_nano_usd, spent_nano_usd, usable_until, opened_at, closed_at, limit_period_ids)"
        " SELECT id, %s, organization_id, 'closed', 1, 0, 0,"
        " clock_timestamp(), clock_timestamp(), clock_timestamp(), period_ids"
        " FROM jsonb_to_recordset(%s)"
        " AS named(id uuid, organization_id bigint, period_ids bigint[])"
        " JOIN billing_wallet USING (organization_id) ON CONFLICT (id) DO NOTHING",
        [worker_id, Jsonb([_row(key, lease, periods) for key, lease in leases.items()])],
    )


def _row(
    lease_id: UUID, lease: NamedLease, periods: Mapping[tuple[int, int], int]
) -> dict[str, object]:
    asked = [(window.limit_id, window.start) for window in lease.limits]
    return {
        "id": str(lease_id),
        "organization_id": lease.organization_id,
        "period_ids": [periods[window] for window in asked if window in periods],
    }
