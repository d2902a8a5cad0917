"""Shipping: journal records become usage records and spent money, together with the offset.

The offset commits with the records, so whoever ships after any crash, or after a lost answer, goes
on exactly where the database stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
import psycopg

from billing.engine import limit_rooms, money_moves
from billing.engine.copying import COLUMNS, copy_rows
from billing.engine.database import Connection
from billing.engine.records import Opened, Outcome, Settled
from billing.engine.recovery import CommitsForgotten

_COPY = f"COPY billing_usagerecord ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Settled records between two offsets of one worker's journal, each with its own offset."""

    worker_id: UUID
    start: int
    end: int
    records: Sequence[tuple[int, Settled]]


class WalletsToLock(Exception):
    """A lease needs its wallet, which is locked before leases: try again with these locked."""

    def __init__(self, organizations: set[int]) -> None:
        super().__init__(f"organizations {sorted(organizations)}")
        self.organizations = organizations


class LateSettlementUnexplained(Exception):
    """A call settled on a closed lease though its worker was never declared lost."""


def lost(opened: Opened, *, at: float) -> Settled:
    """The record of a call whose worker died before it settled: free of charge, not forgotten."""
    duration = max(0, int((at - opened.call.opened_at) * 1000))
    return Settled(
        call=opened.call,
        lease_id=opened.lease_id,
        hold_nano_usd=opened.hold_nano_usd,
        limits=opened.limits,
        charge_nano_usd=0,
        outcome=Outcome(status=0, outcome="lost", duration_ms=min(duration, 2**31 - 1)),
        settled_at=at,
    )


async def shipped_offset(connection: Connection, worker_id: UUID) -> int | None:
    """Where the database stands; None: it never heard of this worker."""
    cursor = await connection.execute(
        "SELECT shipped_offset FROM billing_worker WHERE id = %s", [worker_id]
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def ship(connection: Connection, batch: Batch, wallets: set[int]) -> int:
    """Insert the records, add to the leases' spent, move the offset: all or nothing.

    Returns the stored offset: it differs from the batch's end where somebody else shipped first.
    Raises WalletsToLock, LateSettlementUnexplained, CommitsForgotten.
    """
    moved = await connection.execute(
        "UPDATE billing_worker SET shipped_offset = %s WHERE id = %s AND shipped_offset = %s"
        " RETURNING was_lost",
        [batch.end, batch.worker_id, batch.start],
    )
    row = await moved.fetchone()
    if row is None:
        offset = await shipped_offset(connection, batch.worker_id)
        if offset is None:
            raise CommitsForgotten(f"worker {batch.worker_id} ships but has no row")
        return offset
    await records_insert(connection, batch.worker_id, batch.records)
    await spend(connection, batch, wallets, may_be_late=row[0])
    return batch.end


async def records_insert(
    connection: Connection, worker_id: UUID, records: Sequence[tuple[int, Settled]]
) -> None:
    if not records:
        return
    rows = copy_rows(worker_id, records)
    async with connection.cursor().copy(_COPY) as copy:
        await copy.write(rows)


async def spend(
    connection: Connection, batch: Batch, wallets: set[int], *, may_be_late: bool
) -> None:
    """Add what the records cost to their leases, or settle late where those are closed.

    Raises WalletsToLock, LateSettlementUnexplained, CommitsForgotten.
    """
    charges = _charges(batch)
    if not charges:
        return
    for organization_id in sorted(wallets):
        await money_moves.wallet_lock(connection, organization_id)
    lease_ids = sorted(charges)
    cursor = await connection.execute(
        "SELECT id, organization_id, state, granted_nano_usd - spent_nano_usd, limit_period_ids"
        " FROM billing_lease"
        " WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
        [lease_ids],
    )
    leases = await cursor.fetchall()
    if len(leases) != len(lease_ids):
        raise CommitsForgotten("a record names a lease that the database does not know")
    # Leases that cannot take their charge as they are need their wallet, which is locked before
    # leases. Who finds out too late starts again.
    exceeded = [row for row in leases if row[2] == "open" and row[3] < charges[row[0]]]
    closed = [row for row in leases if row[2] != "open"]
    missing = {row[1] for row in exceeded + closed} - wallets
    if missing:
        raise WalletsToLock(wallets | missing)
    for lease_id, organization_id, _, room, period_ids in exceeded:
        excess = charges[lease_id] - room
        await _exceed(connection, organization_id, lease_id, excess)
        await limit_rooms.rooms_move(connection, dict.fromkeys(period_ids, (excess, 0)))
    await connection.execute(
        "UPDATE billing_lease SET spent_nano_usd = spent_nano_usd + charge.amount,"
        " granted_nano_usd = granted_nano_usd"
        "  + CASE WHEN state = 'closed' THEN charge.amount ELSE 0 END"
        " FROM unnest(%s::uuid[], %s::bigint[]) AS charge(id, amount)"
        " WHERE billing_lease.id = charge.id",
        [lease_ids, [charges[lease_id] for lease_id in lease_ids]],
    )
    if closed and not may_be_late:
        raise LateSettlementUnexplained(f"leases {closed} of worker {batch.worker_id}")
    for lease_id, organization_id, _, _, period_ids in closed:
        charge = charges[lease_id]
        await _settle_late(connection, organization_id, lease_id, charge)
        await limit_rooms.rooms_move(connection, dict.fromkeys(period_ids, (0, charge)))


def _charges(batch: Batch) -> dict[UUID, int]:
    """What the batch spends of each lease."""
    charges: dict[int, int] = {}  # To find a UUID in a dict takes calls, to find a number none.
    for _, record in batch.records:
        if record.charge_nano_usd:
            lease = record.lease_id.int
            charges[lease] = charges.get(lease, 0) + record.charge_nano_usd
    return {UUID(int=lease): charge for lease, charge in charges.items()}


async def _exceed(
    connection: Connection, organization_id: int, lease_id: UUID, excess: int
) -> None:
    """A call cost more than its lease had: standard holds only, where the wallet may owe."""
    wallet = await money_moves.wallet_lock(connection, organization_id)
    if wallet.strict:
        raise CommitsForgotten(f"strict organization {organization_id} spent {excess} too much")
    await money_moves.grants_expire(connection, organization_id)
    slices = await money_moves.debit(connection, organization_id, excess, may_owe=True)
    await money_moves.slices_append(connection, lease_id, slices)
    await money_moves.post(
        connection,
        organization_id,
        "lease_exceeded",
        lease_id=lease_id,
        wallet=-excess,
        escrow=excess,
    )
    await connection.execute(
        "UPDATE billing_lease SET granted_nano_usd = granted_nano_usd + %s WHERE id = %s",
        [excess, lease_id],
    )


async def _settle_late(
    connection: Connection, organization_id: int, lease_id: UUID, charge: int
) -> None:
    """The lease's money went back already: the wallet pays what it has, the rest is our loss."""
    await money_moves.grants_expire(connection, organization_id)
    wallet = await money_moves.wallet_lock(connection, organization_id)
    covered = min(charge, max(0, wallet.balance_nano_usd))
    slices = await money_moves.debit(connection, organization_id, covered)
    await money_moves.leased_burn(connection, slices)
    await money_moves.post(
        connection,
        organization_id,
        "late_settlement",
        lease_id=lease_id,
        wallet=-covered,
        write_off=covered - charge,
        revenue=charge,
    )


async def set_aside(
    connection: Connection, worker_id: UUID, start: int, end: int, refused: Settled, reason: str
) -> int:
    """Keep a record that the database refuses, with the reason, and move on behind it."""
    moved = await connection.execute(
        "UPDATE billing_worker SET shipped_offset = %s WHERE id = %s AND shipped_offset = %s",
        [end, worker_id, start],
    )
    if moved.rowcount != 1:
        offset = await shipped_offset(connection, worker_id)
        assert offset is not None, f"worker {worker_id} ships but has no row"
        return offset
    await connection.execute(
        "INSERT INTO billing_setasiderecord"
        " (worker_id, journal_offset, payload, reason, created_at)"
        " VALUES (%s, %s, %s, %s, clock_timestamp())",
        [worker_id, start, msgspec.json.encode(refused), reason[:2000]],
    )
    return end


REFUSALS = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.ProgrammingError,
    LateSettlementUnexplained,
    CommitsForgotten,
    AssertionError,
    money_moves.WalletMissing,
)
