"""A lease as the database has it, and the row locks that every operation on leases begins with.

Locks are taken in this order: worker, wallets, leases, grants, each sorted by id.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from billing.engine.database import Connection
from billing.engine.records import LimitWindow

SHORT_SECONDS = 2  # For how long a wallet's shortness is told what comes back.


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
    # The windows of spend limits that it takes room in, by the ids of their rows.
    limits: Mapping[int, LimitWindow] = field(default_factory=dict)


class LockedWallet(NamedTuple):
    strict: bool
    free_tier: bool
    balance_nano_usd: int
    debt_nano_usd: int
    is_short: bool  # A worker ran short of its money just now.


VIEW = """
SELECT lease.id, lease.organization_id, lease.state, lease.version, lease.granted_nano_usd,
       lease.spent_nano_usd, extract(epoch FROM lease.usable_until - clock_timestamp())::float8,
       wallet.strict, wallet.strict AND NOT wallet.strict_always,
       CASE WHEN lease.limit_period_ids <> '{}' THEN
            (SELECT jsonb_agg(jsonb_build_array(period.id, period.limit_id,
                    extract(epoch FROM period.period_start)::bigint,
                    extract(epoch FROM period.period_end)::bigint))
               FROM billing_spendlimitperiod period
              WHERE period.id = ANY(lease.limit_period_ids)) END
  FROM billing_lease lease JOIN billing_wallet wallet USING (organization_id)
"""


def view_of(row: Sequence[Any]) -> LeaseView:
    lease_id, organization_id, state, version, granted, spent, usable_for, *policy, periods = row
    strict, free_tier = policy
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
        limits={period_id: LimitWindow(*window) for period_id, *window in periods or ()},
    )


def view_in(
    wallet: LockedWallet, row: Sequence[Any], limits: Mapping[int, LimitWindow]
) -> LeaseView:
    """As `view_of`, of a row that a change has returned."""
    periods = [(period_id, *window) for period_id, window in limits.items()]
    return view_of([*row, wallet.strict, wallet.free_tier, periods])


async def wallets_lock(
    connection: Connection, organizations: Iterable[int]
) -> dict[int, LockedWallet]:
    """Lock the wallets that there are; the others are missing in the answer."""
    cursor = await connection.execute(
        "SELECT organization_id, strict, strict AND NOT strict_always, balance_nano_usd,"
        " debt_nano_usd,"
        " coalesce(short_at > clock_timestamp() - make_interval(secs => %s), false)"
        " FROM billing_wallet WHERE organization_id = ANY(%s)"
        " ORDER BY organization_id FOR UPDATE",
        [SHORT_SECONDS, sorted(set(organizations))],
    )
    return {row[0]: LockedWallet(*row[1:]) for row in await cursor.fetchall()}


async def leases_lock(connection: Connection, leases: Iterable[UUID]) -> dict[UUID, LeaseView]:
    """Lock the leases that there are; the others are missing in the answer."""
    cursor = await connection.execute(
        f"{VIEW} WHERE lease.id = ANY(%s) ORDER BY lease.id FOR UPDATE OF lease",
        [sorted(set(leases))],
    )
    return {row[0]: view_of(row) for row in await cursor.fetchall()}
