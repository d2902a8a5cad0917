"""The transactions of the lease protocol: each function is one, run by `Database.run`.

Locks are taken in this order: worker, wallets, leases, grants, each sorted by id. Every operation
on a lease carries the version that its worker expects, so a copy that comes late changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from billing.engine import money_moves
from billing.engine.database import CHANNEL, Connection
from billing.engine.timing import Timing

RECALL_SECONDS = 0.03  # Of one organization, so many apart; who waits asks again after 50 ms.


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """What the database says of a lease. `usable_for` is in seconds from the answer's making."""

    lease_id: UUID
    organization_id: int
    state: str
    version: int
    granted_nano_usd: int
    spent_nano_usd: int
    usable_for: float
    strict: bool
    free_tier: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a worker asks of a wallet: at least the minimum, at best what is wanted."""

    worker_id: UUID
    organization_id: int
    lease_id: UUID
    version: int  # 0: the lease does not exist yet.
    minimum_nano_usd: int  # What the smallest waiting call needs; less than this is no help.
    desired_nano_usd: int  # What that call would like; a quarter's rule does not cut it.
    wanted_nano_usd: int  # What all that wait, and those expected next, would take.


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowAnswer:
    short: bool
    strict: bool
    free_tier: bool
    view: LeaseView | None
    # On short: what the wallet has, with what other workers' open leases have not spent.
    reachable_nano_usd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    shipped_offset: int
    leases: list[LeaseView]
    short_organizations: list[int]


_VIEW = """
SELECT lease.id, lease.organization_id, lease.state, lease.version, lease.granted_nano_usd,
       lease.spent_nano_usd, extract(epoch FROM lease.usable_until - clock_timestamp())::float8,
       wallet.strict, wallet.strict AND NOT wallet.strict_always
  FROM billing_lease lease JOIN billing_wallet wallet USING (organization_id)
"""


def _view(row: Sequence[Any]) -> LeaseView:
    lease_id, organization_id, state, version, granted, spent, usable_for, strict, free_tier = row
    return LeaseView(
        lease_id=lease_id,
        organization_id=organization_id,
        state=state,
        version=version,
        granted_nano_usd=granted,
        spent_nano_usd=spent,
        usable_for=usable_for,
        strict=strict,
        free_tier=free_tier,
    )


async def _lease(connection: Connection, lease_id: UUID) -> LeaseView | None:
    cursor = await connection.execute(
        f"{_VIEW} WHERE lease.id = %s FOR UPDATE OF lease", [lease_id]
    )
    row = await cursor.fetchone()
    return _view(row) if row else None


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
        f"{_VIEW} WHERE lease.worker_id = %s AND lease.state = 'open'",
        [worker_id],
    )
    views = [_view(row) for row in await leases.fetchall()]
    short = await connection.execute(
        "SELECT organization_id FROM billing_wallet"
        " WHERE short_at > clock_timestamp() - make_interval(secs => %s)",
        [2 * timing.heartbeat],
    )
    return Renewal(
        shipped_offset=row[0],
        leases=views,
        short_organizations=[row[0] for row in await short.fetchall()],
    )


async def grow(connection: Connection, want: Want, timing: Timing) -> GrowAnswer | None:
    """Open or extend the lease; None: the worker is fenced."""
    alive = await connection.execute(
        "SELECT 1 FROM billing_worker WHERE id = %s AND state = 'live' FOR SHARE", [want.worker_id]
    )
    if await alive.fetchone() is None:
        return None
    wallet = await money_moves.wallet_lock(connection, want.organization_id)
    answer = partial(GrowAnswer, strict=wallet.strict, free_tier=wallet.free_tier)
    await money_moves.grants_expire(connection, want.organization_id)
    lease = await _lease(connection, want.lease_id)
    if (lease.version if lease else 0) != want.version or (lease and lease.state != "open"):
        # An earlier copy of this operation was applied after all: the row is the answer.
        return answer(short=False, view=lease)
    available = await money_moves.available(connection, want.organization_id)
    if available < want.minimum_nano_usd:
        reachable = available + await _short(connection, want)
        return answer(short=True, view=lease, reachable_nano_usd=reachable)
    if not available:
        return answer(short=False, view=lease)  # Nobody waits for it, and there is nothing.
    desired = max(want.minimum_nano_usd, want.desired_nano_usd, available // 4)
    amount = min(max(want.wanted_nano_usd, want.desired_nano_usd), desired, available)
    await _extend(connection, want, amount, timing)
    return answer(short=False, view=await _lease(connection, want.lease_id))


async def _short(connection: Connection, want: Want) -> int:
    """Store the recall and notify it; returns how much it could bring at best."""
    # One that was notified just now is still on its way: another one would tell nothing new. One
    # of the future is from before a step of the clock.
    recalled = await connection.execute(
        "UPDATE billing_wallet SET short_at = clock_timestamp() WHERE organization_id = %s"
        " AND coalesce(short_at NOT BETWEEN clock_timestamp() - make_interval(secs => %s)"
        " AND clock_timestamp(), true)",
        [want.organization_id, RECALL_SECONDS],
    )
    if recalled.rowcount:
        await connection.execute(
            "SELECT pg_notify(%s, %s)", [CHANNEL, f"recall 0 {want.organization_id}"]
        )
    cursor = await connection.execute(
        "SELECT coalesce(sum(granted_nano_usd - spent_nano_usd), 0)::bigint FROM billing_lease"
        " WHERE organization_id = %s AND state = 'open' AND id <> %s",
        [want.organization_id, want.lease_id],
    )
    row = await cursor.fetchone()
    assert row is not None, "an aggregate without a row"
    return int(row[0])


async def _extend(connection: Connection, want: Want, amount: int, timing: Timing) -> None:
    slices = await money_moves.debit(connection, want.organization_id, amount)
    await connection.execute(
        "INSERT INTO billing_lease (id, worker_id, organization_id, kind, state, version,"
        " granted_nano_usd, spent_nano_usd, usable_until, opened_at)"
        " VALUES (%s, %s, %s, 'wallet', 'open', 0, 0, 0,"
        " clock_timestamp() + make_interval(secs => %s), clock_timestamp())"
        " ON CONFLICT (id) DO NOTHING",
        [want.lease_id, want.worker_id, want.organization_id, timing.lease_age],
    )
    # A lease ends with the first of its grants to expire: no call may spend expired money.
    await connection.execute(
        "UPDATE billing_lease SET granted_nano_usd = granted_nano_usd + %s, version = version + 1,"
        " usable_until = least(usable_until,"
        " (SELECT min(expires_at) FROM billing_grant WHERE id = ANY(%s)))"
        " WHERE id = %s AND version = %s",
        [amount, [grant_id for grant_id, _ in slices], want.lease_id, want.version],
    )
    await money_moves.slices_append(connection, want.lease_id, slices)
    await money_moves.post(
        connection,
        want.organization_id,
        "lease_grow",
        lease_id=want.lease_id,
        wallet=-amount,
        escrow=amount,
    )


async def give(
    connection: Connection,
    *,
    organization_id: int,
    lease_id: UUID,
    version: int,
    amount_nano_usd: int | None,
) -> LeaseView | None:
    """Return a part of the lease to the wallet; an amount of None closes the lease."""
    await money_moves.wallet_lock(connection, organization_id)
    lease = await _lease(connection, lease_id)
    if lease is None or lease.state != "open" or lease.version != version:
        return lease
    if amount_nano_usd is None:
        await lease_close(connection, lease)
    elif lease.spent_nano_usd <= lease.granted_nano_usd - amount_nano_usd:
        await money_moves.shrink(connection, organization_id, lease_id, amount_nano_usd)
        await money_moves.post(
            connection,
            organization_id,
            "lease_return",
            lease_id=lease_id,
            escrow=-amount_nano_usd,
            wallet=amount_nano_usd,
        )
        await connection.execute(
            "UPDATE billing_lease SET granted_nano_usd = granted_nano_usd - %s,"
            " version = version + 1 WHERE id = %s",
            [amount_nano_usd, lease_id],
        )
        await money_moves.grants_expire(connection, organization_id)
    await _tell_the_short(connection, organization_id)
    return await _lease(connection, lease_id)


async def _tell_the_short(connection: Connection, organization_id: int) -> None:
    """Money came back: whoever ran short of it lately need not wait for the next try."""
    await connection.execute(
        "SELECT pg_notify(%s, %s) FROM billing_wallet WHERE organization_id = %s"
        " AND short_at > clock_timestamp() - interval '2 seconds'",
        [CHANNEL, f"wallet 0 {organization_id}", organization_id],
    )


async def lease_close(connection: Connection, lease: LeaseView) -> None:
    """Close a lease that is locked, like its wallet: the spent is revenue, the rest returns."""
    rest, spent = lease.granted_nano_usd - lease.spent_nano_usd, lease.spent_nano_usd
    await money_moves.shrink(connection, lease.organization_id, lease.lease_id, rest)
    await money_moves.slices_burn(connection, lease.lease_id)
    await money_moves.post(
        connection,
        lease.organization_id,
        "lease_close",
        lease_id=lease.lease_id,
        escrow=-rest - spent,
        wallet=rest,
        revenue=spent,
    )
    await connection.execute(
        "UPDATE billing_lease SET state = 'closed', granted_nano_usd = spent_nano_usd,"
        " version = version + 1, closed_at = clock_timestamp() WHERE id = %s",
        [lease.lease_id],
    )
    await money_moves.grants_expire(connection, lease.organization_id)


async def leases_close_of(connection: Connection, worker_id: UUID) -> int:
    """Close all open leases of a worker whose row is locked. Returns how many."""
    cursor = await connection.execute(
        "SELECT DISTINCT organization_id FROM billing_lease"
        " WHERE worker_id = %s AND state = 'open' ORDER BY organization_id",
        [worker_id],
    )
    for (organization_id,) in await cursor.fetchall():
        await money_moves.wallet_lock(connection, organization_id)
    leases = await connection.execute(
        f"{_VIEW} WHERE lease.worker_id = %s AND lease.state = 'open'"
        " ORDER BY lease.id FOR UPDATE OF lease",
        [worker_id],
    )
    views = [_view(row) for row in await leases.fetchall()]
    for view in views:
        await lease_close(connection, view)
    return len(views)


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
