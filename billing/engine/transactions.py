"""The transactions of a worker's life: it registers, renews, finishes.

Those of its leases are in `growing` and `giving`. Every operation on a lease carries the version
that its worker expects, so a copy that comes late changes nothing.
"""

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.json import Jsonb

from billing.engine.database import Connection
from billing.engine.giving import leases_close_of
from billing.engine.leases import VIEW, LeaseView, view_of
from billing.engine.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    shipped_offset: int
    leases: list[LeaseView]
    recalls: list[tuple[int, int]]  # Of an organization, and of which of its limits; 0: its money.


async def worker_register(
    connection: Connection, *, worker_id: UUID, node: str, pid: int, timing: Timing
) -> None:
    await connection.execute(
        "INSERT INTO billing_worker"
        " (id, node, pid, state, expires_at, shipped_offset, was_lost, report, started_at)"
        " VALUES (%s, %s, %s, 'live', clock_timestamp() + make_interval(secs => %s), 0, false,"
        " '{}', clock_timestamp()) ON CONFLICT (id) DO NOTHING",
        [worker_id, node, pid, timing.ttl],
    )


async def renew(
    connection: Connection, *, worker_id: UUID, timing: Timing, report: dict[str, int]
) -> Renewal | None:
    """Prolong the worker's life, for all its leases at once; None: it is fenced for ever."""
    cursor = await connection.execute(
        "UPDATE billing_worker SET expires_at = clock_timestamp() + make_interval(secs => %s),"
        " report = %s WHERE id = %s AND state = 'live' RETURNING shipped_offset",
        [timing.ttl, Jsonb(report), worker_id],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    leases = await connection.execute(
        f"{VIEW} WHERE lease.worker_id = %s AND lease.state = 'open'",
        [worker_id],
    )
    views = [view_of(row) for row in await leases.fetchall()]
    short = await connection.execute(
        "SELECT organization_id, 0 FROM billing_wallet"
        " WHERE short_at > clock_timestamp() - make_interval(secs => %(age)s)"
        " UNION ALL SELECT organization_id, spend_limit.id FROM billing_spendlimitperiod"
        " JOIN billing_spendlimit spend_limit ON spend_limit.id = limit_id"
        " WHERE short_at > clock_timestamp() - make_interval(secs => %(age)s)",
        {"age": 2 * timing.heartbeat},
    )
    return Renewal(
        shipped_offset=row[0],
        leases=views,
        recalls=await short.fetchall(),
    )


async def finish(
    connection: Connection, *, worker_id: UUID, end: int, report: dict[str, int] | None = None
) -> bool:
    """End the worker whose journal is shipped to its end: by its owner, or who holds its lock.

    The owner adds its last report: what it counted is asked for as long as the row is there.
    False: not everything is shipped yet, or the database has forgotten that it was. True also where
    it had ended, or never began.
    """
    cursor = await connection.execute(
        "SELECT state, shipped_offset FROM billing_worker WHERE id = %s FOR UPDATE", [worker_id]
    )
    row = await cursor.fetchone()
    if row is None:
        return end == 0
    if row[0] == "complete":
        return True
    if row[1] != end:
        return False
    await connection.execute(
        "UPDATE billing_worker SET state = 'complete', report = coalesce(%s, report) WHERE id = %s",
        [None if report is None else Jsonb(report), worker_id],
    )
    await leases_close_of(connection, worker_id)
    return True
