"""Workers that stopped renewing: live -> expired -> lost, by the database's clock alone.

Any number of sweepers may run at once; the owner of what they sweep may still be alive.
"""

from functools import partial
from uuid import UUID

from billing.engine.database import Connection, Database
from billing.engine.giving import leases_close_of
from billing.engine.timing import Timing, now

# Any constant does, as long as nobody else takes it: the key of the sweepers' advisory lock.
_SWEEP_LOCK = 0x70_11_6A_7E


class DatabaseClock:
    """Tells when the database's clock was set: then nobody is late who could not renew since."""

    def __init__(self) -> None:
        self._ahead: float | None = None  # Of our own clock, which nobody can set.
        self._set_at = float("-inf")

    def is_steady(self, database_time: float, timing: Timing) -> bool:
        at = now()
        ahead = database_time - at
        if self._ahead is not None and abs(ahead - self._ahead) > timing.step:
            self._set_at = at
        self._ahead = ahead
        return at - self._set_at > timing.grace


async def sweep(database: Database, timing: Timing, clock: DatabaseClock) -> int:
    """One round; returns how many workers were declared lost. Raises OutcomeUnknown."""
    lost = 0
    for worker_id in await database.run(partial(_expire, timing=timing, clock=clock)):
        lost += await database.run(partial(_declare_lost, worker_id=worker_id, timing=timing))
    return lost


async def _expire(connection: Connection, timing: Timing, clock: DatabaseClock) -> list[UUID]:
    """Expire who is overdue; returns who has been expired for so long that it counts as lost.

    Nobody is touched until everybody had time to renew after the server's start, and after its
    clock was set.
    """
    cursor = await connection.execute(
        "SELECT pg_try_advisory_xact_lock(%s) AND clock_timestamp() - pg_postmaster_start_time()"
        " > make_interval(secs => %s), extract(epoch FROM clock_timestamp())::float8",
        [_SWEEP_LOCK, timing.grace],
    )
    row = await cursor.fetchone()
    assert row is not None, "a query without a row"
    is_our_turn, database_time = row
    if not (clock.is_steady(database_time, timing) and is_our_turn):
        return []
    await connection.execute(
        "UPDATE billing_worker SET state = 'expired'"
        " WHERE state = 'live' AND expires_at < clock_timestamp()"
    )
    overdue = await connection.execute(
        "SELECT id FROM billing_worker WHERE state = 'expired'"
        " AND expires_at + make_interval(secs => %s) < clock_timestamp() ORDER BY id",
        [timing.retain],
    )
    return [row[0] for row in await overdue.fetchall()]


async def _declare_lost(connection: Connection, worker_id: UUID, timing: Timing) -> int:
    """Looks again: between two transactions the journal may have been replayed after all."""
    cursor = await connection.execute(
        "UPDATE billing_worker SET state = 'lost', was_lost = true"
        " WHERE id = %s AND state = 'expired'"
        " AND expires_at + make_interval(secs => %s) < clock_timestamp()",
        [worker_id, timing.retain],
    )
    if cursor.rowcount != 1:
        return 0
    await leases_close_of(connection, worker_id)
    return 1
