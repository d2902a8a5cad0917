"""Giving money back: parts of leases, or whole ones when they are closed, many in one go.

A lease's slices are returned from the back and burnt from the front, so that the money that expires
first is spent first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.engine import limit_rooms, money_moves
from billing.engine.database import CHANNEL, Connection
from billing.engine.leases import (
    VIEW,
    LeaseView,
    LockedWallet,
    leases_lock,
    view_in,
    view_of,
    wallets_lock,
)
from billing.engine.money_moves import WalletMissing
from billing.identifiers import uuid7


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A part of a lease that goes back to the wallet; without an amount the lease is closed."""

    organization_id: int
    lease_id: UUID
    version: int
    amount_nano_usd: int | None


@dataclass(slots=True)
class SliceRow:
    id: int
    grant_id: int | None
    amount: int
    is_due: bool  # Its grant has expired.


@dataclass(slots=True, kw_only=True)
class Changes:
    """What the returns change, gathered to be written with one statement."""

    debts: dict[int, int]  # What each wallet still owes: it is repaid first.
    grants: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    wallets: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    leases: list[tuple[UUID, int, bool]] = field(default_factory=list)  # Less by; whether closed.
    slices: list[tuple[int, int]] = field(default_factory=list)  # Each less by so much.
    legs: list[tuple[Any, ...]] = field(default_factory=list)
    due: set[int] = field(default_factory=set)  # Organizations to which expired money returned.
    # Of each window of a limit: what is leased of it, and what was used.
    limits: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def post(self, lease: LeaseView, reason: str, **amounts: int) -> None:
        assert sum(amounts.values()) == 0, f"the posting {reason} {amounts} does not sum to zero"
        posting, of = uuid7(), (lease.organization_id, lease.lease_id)
        for sequence, (account, amount) in enumerate(amounts.items(), start=1):
            if amount:
                self.legs.append((posting, sequence, account, *of, amount, reason))


async def give(
    connection: Connection, *, returns: Sequence[Return]
) -> list[LeaseView | WalletMissing | None]:
    """Return parts of leases to their wallets, or close them; each answer is the lease after it."""
    wallets = await wallets_lock(connection, [each.organization_id for each in returns])
    leases = await leases_lock(connection, [each.lease_id for each in returns])
    fits: list[tuple[LeaseView, int | None]] = []
    for each in returns:
        lease = leases.get(each.lease_id)
        if lease is None or lease.state != "open" or lease.version != each.version:
            continue  # An earlier copy of this operation was applied after all.
        amount = each.amount_nano_usd
        if amount is None or lease.spent_nano_usd <= lease.granted_nano_usd - amount:
            fits.append((lease, amount))
    leases |= await _return(connection, wallets, fits) if fits else {}
    return [
        leases.get(each.lease_id)
        if each.organization_id in wallets
        else WalletMissing(f"organization {each.organization_id}")
        for each in returns
    ]


async def leases_close_of(connection: Connection, worker_id: UUID) -> int:
    """Close all open leases of a worker whose row is locked. Returns how many."""
    cursor = await connection.execute(
        "SELECT DISTINCT organization_id FROM billing_lease"
        " WHERE worker_id = %s AND state = 'open' ORDER BY organization_id",
        [worker_id],
    )
    organizations = [row[0] for row in await cursor.fetchall()]
    if not organizations:
        return 0
    wallets = await wallets_lock(connection, organizations)
    opened = await connection.execute(
        f"{VIEW} WHERE lease.worker_id = %s AND lease.state = 'open'"
        " ORDER BY lease.id FOR UPDATE OF lease",
        [worker_id],
    )
    leases = [view_of(row) for row in await opened.fetchall()]
    if leases:
        await _return(connection, wallets, [(lease, None) for lease in leases])
    return len(leases)


async def _return(
    connection: Connection,
    wallets: dict[int, LockedWallet],
    returns: Sequence[tuple[LeaseView, int | None]],
) -> dict[UUID, LeaseView]:
    """Of leases that are locked, like their wallets."""
    slices = await _slices(connection, [lease.lease_id for lease, _ in returns])
    changes = Changes(debts={key: wallet.debt_nano_usd for key, wallet in wallets.items()})
    for lease, amount in returns:
        if amount is None:
            _close(changes, lease, slices[lease.lease_id])
        else:
            _shrink(changes, lease, slices[lease.lease_id], amount)
            changes.leases.append((lease.lease_id, amount, False))
            changes.post(lease, "lease_return", escrow=-amount, wallet=amount)
    written = await _write(
        connection, changes, wallets, {each.lease_id: each for each, _ in returns}
    )
    short_limits = await limit_rooms.rooms_move(
        connection, {key: (leased, used) for key, (leased, used) in changes.limits.items()}
    )
    for organization_id in sorted(changes.due):
        await money_moves.grants_expire(connection, organization_id)
    short = sorted({lease.organization_id for lease, _ in returns if _is_short(wallets, lease)})
    if short:
        await _tell_the_short(connection, short)
    if short_limits:
        await limit_rooms.tell_the_short(connection, short_limits)
    return written


def _is_short(wallets: dict[int, LockedWallet], lease: LeaseView) -> bool:
    return wallets[lease.organization_id].is_short


def _close(changes: Changes, lease: LeaseView, slices: list[SliceRow]) -> None:
    """The spent is revenue, the rest returns."""
    rest, spent = lease.granted_nano_usd - lease.spent_nano_usd, lease.spent_nano_usd
    _shrink(changes, lease, slices, rest)
    for each in slices:
        if each.amount:
            changes.slices.append((each.id, each.amount))
            if each.grant_id is not None:
                changes.grants[each.grant_id][1] += each.amount
    for period_id in lease.limits:
        changes.limits[period_id][0] -= spent
        changes.limits[period_id][1] += spent
    changes.leases.append((lease.lease_id, rest, True))
    changes.post(lease, "lease_close", escrow=-rest - spent, wallet=rest, revenue=spent)


def _shrink(changes: Changes, lease: LeaseView, slices: list[SliceRow], amount: int) -> None:
    """Move so much from the last slices back to the grants that they came from, or to the debt."""
    rest, organization_id = amount, lease.organization_id
    wallet = changes.wallets[organization_id]
    for period_id in lease.limits:
        changes.limits[period_id][0] -= amount
    for each in slices:
        if not rest:
            break
        assert each.grant_id is not None, f"lease {lease.lease_id} would return debt"
        part = min(rest, each.amount)
        rest -= part
        each.amount -= part
        changes.slices.append((each.id, part))
        repaid = min(changes.debts[organization_id], part)
        changes.debts[organization_id] -= repaid
        wallet[0] += part
        wallet[1] -= repaid
        grant = changes.grants[each.grant_id]
        grant[0] += part - repaid
        grant[1] += repaid
        if each.is_due and part > repaid:
            changes.due.add(organization_id)
    assert not rest, f"lease {lease.lease_id} has fewer slices than money"


async def _slices(connection: Connection, leases: list[UUID]) -> dict[UUID, list[SliceRow]]:
    """Those of each lease, the last one first."""
    cursor = await connection.execute(
        "SELECT slice.lease_id, slice.id, slice.grant_id, slice.amount_nano_usd,"
        " coalesce(expires_at <= clock_timestamp(), false)"
        " FROM billing_leaseslice slice LEFT JOIN billing_grant ON billing_grant.id = grant_id"
        " WHERE slice.lease_id = ANY(%s) ORDER BY position DESC",
        [leases],
    )
    found: dict[UUID, list[SliceRow]] = defaultdict(list)
    for lease_id, *row in await cursor.fetchall():
        found[lease_id].append(SliceRow(*row))
    return found


# What leaves a lease is free again (`freed`) or gone for good (`burnt`). The rows are locked, so
# the order of the parts is of no consequence.
_GIVE = """
WITH granting AS (
    UPDATE billing_grant SET free_nano_usd = free_nano_usd + part.freed,
           leased_nano_usd = leased_nano_usd - part.freed - part.burnt,
           burnt_nano_usd = burnt_nano_usd + part.burnt
      FROM unnest(%(grants)s::bigint[], %(freed)s::bigint[], %(burnt)s::bigint[])
           AS part(grant_id, freed, burnt)
     WHERE billing_grant.id = part.grant_id
), crediting AS (
    UPDATE billing_wallet SET balance_nano_usd = balance_nano_usd + credit.balance,
           debt_nano_usd = debt_nano_usd + credit.debt
      FROM unnest(%(organizations)s::bigint[], %(balances)s::bigint[], %(debts)s::bigint[])
           AS credit(organization_id, balance, debt)
     WHERE billing_wallet.organization_id = credit.organization_id
), emptying AS (
    DELETE FROM billing_leaseslice
     USING unnest(%(slices)s::bigint[], %(parts)s::bigint[]) AS part(slice_id, amount)
     WHERE billing_leaseslice.id = part.slice_id AND amount_nano_usd = part.amount
), cutting AS (
    UPDATE billing_leaseslice SET amount_nano_usd = amount_nano_usd - part.amount
      FROM unnest(%(slices)s::bigint[], %(parts)s::bigint[]) AS part(slice_id, amount)
     WHERE billing_leaseslice.id = part.slice_id AND amount_nano_usd > part.amount
), posting AS (
    INSERT INTO billing_ledgerentry (posting, sequence, account, organization_id, lease_id,
           amount_nano_usd, reason, created_at)
    SELECT leg.*, clock_timestamp()
      FROM unnest(%(postings)s::uuid[], %(sequences)s::smallint[], %(accounts)s::text[],
                  %(leg_organizations)s::bigint[], %(leg_leases)s::uuid[], %(amounts)s::bigint[],
                  %(reasons)s::text[])
           AS leg(posting, sequence, account, organization_id, lease_id, amount, reason)
)
UPDATE billing_lease SET granted_nano_usd = granted_nano_usd - part.amount, version = version + 1,
       state = CASE WHEN part.closes THEN 'closed' ELSE state END,
       closed_at = CASE WHEN part.closes THEN clock_timestamp() END
  FROM unnest(%(leases)s::uuid[], %(lessened)s::bigint[], %(closes)s::boolean[])
       AS part(lease_id, amount, closes)
 WHERE billing_lease.id = part.lease_id
RETURNING id, organization_id, state, version, granted_nano_usd, spent_nano_usd,
       extract(epoch FROM usable_until - clock_timestamp())::float8
"""


async def _write(
    connection: Connection,
    changes: Changes,
    wallets: dict[int, LockedWallet],
    leases: Mapping[UUID, LeaseView],
) -> dict[UUID, LeaseView]:
    cut: dict[int, int] = defaultdict(int)
    for slice_id, amount in changes.slices:
        cut[slice_id] += amount
    legs = list(zip(*changes.legs, strict=True)) or [()] * 7
    names = ("postings", "sequences", "accounts", "leg_organizations", "leg_leases", "amounts")
    cursor = await connection.execute(
        _GIVE,
        {
            "grants": list(changes.grants),
            "freed": [freed for freed, _ in changes.grants.values()],
            "burnt": [burnt for _, burnt in changes.grants.values()],
            "organizations": list(changes.wallets),
            "balances": [balance for balance, _ in changes.wallets.values()],
            "debts": [debt for _, debt in changes.wallets.values()],
            "slices": list(cut),
            "parts": list(cut.values()),
            "leases": [lease_id for lease_id, _, _ in changes.leases],
            "lessened": [amount for _, amount, _ in changes.leases],
            "closes": [closes for _, _, closes in changes.leases],
            **{name: list(leg) for name, leg in zip((*names, "reasons"), legs, strict=True)},
        },
    )
    rows = await cursor.fetchall()
    return {row[0]: view_in(wallets[row[1]], row, leases[row[0]].limits) for row in rows}


async def _tell_the_short(connection: Connection, organizations: Iterable[int]) -> None:
    """Money came back: whoever ran short of it lately need not wait for the next try.

    What the wallet has now is told as well, for those to whom it would still be too little.
    """
    await connection.execute(
        "SELECT pg_notify(%s, 'wallet ' || balance_nano_usd + debt_nano_usd || ' '"
        " || organization_id) FROM billing_wallet WHERE organization_id = ANY(%s)",
        [CHANNEL, list(organizations)],
    )
