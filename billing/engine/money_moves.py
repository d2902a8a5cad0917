"""Moves of money inside a transaction: between wallet, grants, slices and the ledger.

Callers hold the wallet's row lock: `wallet_lock` is the first thing they do.
"""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from billing.engine.database import Connection
from billing.engine.leases import LockedWallet, wallets_lock
from billing.identifiers import uuid7

ACCOUNTS = ("source", "wallet", "escrow", "revenue", "expired", "write_off")
Slice = tuple[int | None, int]  # Which grant funded it (None: debt), and how much of it.


class WalletMissing(Exception):
    """The organization has no wallet: it was not made by `organization_open`."""


async def wallet_lock(connection: Connection, organization_id: int) -> LockedWallet:
    """Lock the wallet's row until the transaction ends. Raises WalletMissing."""
    wallet = (await wallets_lock(connection, [organization_id])).get(organization_id)
    if wallet is None:
        raise WalletMissing(f"organization {organization_id}")
    return wallet


def burn_order(
    grant_id: int, _free: int, expires_at: dt.datetime | None, priority: int
) -> tuple[object, ...]:
    """The key by which the grants of a wallet burn, as billing.credit.grants.burn_order has it."""
    return -priority, expires_at is None, expires_at, grant_id


async def post(
    connection: Connection,
    organization_id: int,
    reason: str,
    *,
    lease_id: UUID | None = None,
    **amounts: int,
) -> None:
    """Write one posting to the ledger: an amount per account; those of 0 are left out."""
    assert sum(amounts.values()) == 0, f"the posting {reason} {amounts} does not sum to zero"
    assert set(amounts) <= set(ACCOUNTS), f"unknown accounts in {amounts}"
    legs = [(account, amount) for account, amount in amounts.items() if amount]
    if not legs:
        return
    await connection.execute(
        "INSERT INTO billing_ledgerentry (posting, sequence, account, organization_id, lease_id,"
        " amount_nano_usd, reason, created_at)"
        " SELECT %s, sequence, account, %s, %s, amount, %s, clock_timestamp()"
        " FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS leg(account, amount, sequence)",
        [
            uuid7(),
            organization_id,
            lease_id,
            reason,
            [account for account, _ in legs],
            [amount for _, amount in legs],
        ],
    )


async def grants_expire(connection: Connection, organization_id: int) -> None:
    """Take the free parts of grants whose time is over out of the wallet."""
    cursor = await connection.execute(
        "SELECT id, free_nano_usd FROM billing_grant WHERE organization_id = %s"
        " AND free_nano_usd > 0 AND expires_at <= clock_timestamp() ORDER BY id FOR UPDATE",
        [organization_id],
    )
    due = await cursor.fetchall()
    if not due:
        return
    total = sum(free for _, free in due)
    await connection.execute(
        "UPDATE billing_grant SET expired_nano_usd = expired_nano_usd + free_nano_usd,"
        " free_nano_usd = 0 WHERE id = ANY(%s)",
        [[grant_id for grant_id, _ in due]],
    )
    await _wallet_add(connection, organization_id, balance=-total, debt=0)
    await post(connection, organization_id, "grant_expiry", wallet=-total, expired=total)


async def debit(
    connection: Connection, organization_id: int, amount: int, *, may_owe: bool = False
) -> list[Slice]:
    """Take money from the wallet, in the order in which grants burn; returns its origins."""
    cursor = await connection.execute(
        "SELECT id, free_nano_usd, expires_at, priority FROM billing_grant"
        " WHERE organization_id = %s AND free_nano_usd > 0 ORDER BY id FOR UPDATE",
        [organization_id],
    )
    grants = await cursor.fetchall()
    grants.sort(key=lambda grant: burn_order(*grant))
    slices: list[Slice] = []
    rest = amount
    for grant_id, free, *_ in grants:
        part = min(rest, free)
        if part:
            slices.append((grant_id, part))
            rest -= part
    assert may_owe or not rest, f"the wallet of {organization_id} would be overdrawn by {rest}"
    await _grants_add(connection, slices, free=-1, leased=1)
    await _wallet_add(connection, organization_id, balance=-amount, debt=rest)
    if rest:
        slices.append((None, rest))
    return slices


async def slices_append(connection: Connection, lease_id: UUID, slices: Sequence[Slice]) -> None:
    await connection.execute(
        "INSERT INTO billing_leaseslice (lease_id, position, grant_id, amount_nano_usd)"
        " SELECT %s, position + (SELECT coalesce(max(position), 0) FROM billing_leaseslice"
        " WHERE lease_id = %s), grant_id, amount"
        " FROM unnest(%s::bigint[], %s::bigint[])"
        " WITH ORDINALITY AS slice(grant_id, amount, position)",
        [lease_id, lease_id, [grant for grant, _ in slices], [amount for _, amount in slices]],
    )


async def leased_burn(connection: Connection, slices: Sequence[Slice]) -> None:
    """Money that was just debited is spent at once."""
    await _grants_add(connection, slices, leased=-1, burnt=1)


async def _wallet_add(
    connection: Connection, organization_id: int, *, balance: int, debt: int
) -> None:
    await connection.execute(
        "UPDATE billing_wallet SET balance_nano_usd = balance_nano_usd + %s,"
        " debt_nano_usd = debt_nano_usd + %s WHERE organization_id = %s",
        [balance, debt, organization_id],
    )


async def _grants_add(connection: Connection, parts: Sequence[Slice], **signs: int) -> None:
    """Add each part, times its sign, to the named columns of its grant."""
    totals: dict[int, int] = {}
    for grant_id, amount in parts:
        if grant_id is not None and amount:
            totals[grant_id] = totals.get(grant_id, 0) + amount
    if not totals:
        return
    changes = ", ".join(
        f"{column}_nano_usd = {column}_nano_usd + {sign} * part.amount"
        for column, sign in signs.items()
    )
    ids = sorted(totals)
    await connection.execute(
        f"UPDATE billing_grant SET {changes}"  # noqa: S608  Column names of this file.
        " FROM unnest(%s::bigint[], %s::bigint[]) AS part(id, amount)"
        " WHERE billing_grant.id = part.id",
        [ids, [totals[grant_id] for grant_id in ids]],
    )
