"""Growing leases: one transaction for all that a worker's waiting calls need, of any organizations.

What each organization gets is decided here, under the locks; one statement then writes it all.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.engine import money_moves
from billing.engine.database import CHANNEL, Connection
from billing.engine.leases import LeaseView, LockedWallet, leases_lock, view_in, wallets_lock
from billing.engine.money_moves import Slice, WalletMissing
from billing.engine.timing import Timing
from billing.identifiers import uuid7

RECALL_SECONDS = 0.03  # Of one organization, so many apart; who waits asks again after 50 ms.


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


@dataclass(slots=True)
class Purse:
    """The free parts of one wallet's grants, in the order in which they burn."""

    grants: list[tuple[int, int, Any]] = field(default_factory=list)  # Id, free, expiry.

    @property
    def available(self) -> int:
        return sum(free for _, free, _ in self.grants)

    def take(self, amount: int) -> tuple[list[Slice], Any]:
        """The origins of so much money, and when the first of them expires (None: never)."""
        slices: list[Slice] = []
        ends, rest = [], amount
        while rest:
            grant_id, free, expires_at = self.grants[0]
            part = min(rest, free)
            rest -= part
            slices.append((grant_id, part))
            if expires_at is not None:
                ends.append(expires_at)
            if part == free:
                del self.grants[0]
            else:
                self.grants[0] = (grant_id, free - part, expires_at)
        return slices, min(ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What one lease gets."""

    want: Want
    amount: int
    slices: list[Slice]
    ends_at: Any  # With the first of its grants to expire: no call may spend expired money.


async def grow(
    connection: Connection, *, worker_id: UUID, wants: Sequence[Want], timing: Timing
) -> list[GrowAnswer | WalletMissing] | None:
    """Open or extend leases, each as far as its wallet allows; None: the worker is fenced."""
    alive = await connection.execute(
        "SELECT 1 FROM billing_worker WHERE id = %s AND state = 'live' FOR SHARE", [worker_id]
    )
    if await alive.fetchone() is None:
        return None
    wallets = await wallets_lock(connection, [want.organization_id for want in wants])
    leases = await leases_lock(connection, [want.lease_id for want in wants])
    purses = await _purses(connection, wallets)
    takings: dict[UUID, Taking] = {}
    shorts: list[Want] = []
    for want in wants:
        lease, purse = leases.get(want.lease_id), purses[want.organization_id]
        if want.organization_id not in wallets:
            continue
        if (lease.version if lease else 0) != want.version or (lease and lease.state != "open"):
            continue  # An earlier copy of this operation was applied after all.
        amount = _amount(want, purse.available)
        if amount is None:
            shorts.append(want)
        elif amount > 0 or lease is None:
            # Also an empty one: calls that cost nothing need a lease, though no money.
            slices, ends_at = purse.take(amount)
            takings[want.lease_id] = Taking(
                want=want, amount=amount, slices=slices, ends_at=ends_at
            )
    leases |= await _write(connection, takings.values(), wallets, timing) if takings else {}
    reachable = await _recall(connection, shorts) if shorts else {}
    return [_answer(want, wallets, leases, purses, reachable) for want in wants]


def _amount(want: Want, available: int) -> int | None:
    """How much of what is available the lease gets; None: less than is of use to anybody."""
    if available < want.minimum_nano_usd:
        return None
    desired = max(want.minimum_nano_usd, want.desired_nano_usd, available // 4)
    return min(max(want.wanted_nano_usd, want.desired_nano_usd), desired, available)


def _answer(
    want: Want,
    wallets: dict[int, LockedWallet],
    leases: dict[UUID, LeaseView],
    purses: dict[int, Purse],
    reachable: dict[UUID, int],
) -> GrowAnswer | WalletMissing:
    wallet = wallets.get(want.organization_id)
    if wallet is None:
        return WalletMissing(f"organization {want.organization_id}")
    elsewhere = reachable.get(want.lease_id)
    return GrowAnswer(
        short=elsewhere is not None,
        strict=wallet.strict,
        free_tier=wallet.free_tier,
        view=leases.get(want.lease_id),
        reachable_nano_usd=purses[want.organization_id].available + (elsewhere or 0),
    )


async def _purses(connection: Connection, organizations: Iterable[int]) -> dict[int, Purse]:
    """Lock what the wallets have; what has expired leaves them first."""
    asked = sorted(organizations)
    rows = await _free_grants(connection, asked)
    due = {row[0] for row in rows if row[-1]}
    for organization_id in sorted(due):
        await money_moves.grants_expire(connection, organization_id)
    if due:
        rows = [row for row in rows if not row[-1]]
    rows.sort(key=lambda row: money_moves.burn_order(*row[1:5]))
    purses: dict[int, Purse] = defaultdict(Purse)
    for organization_id, grant_id, free, expires_at, *_ in rows:
        purses[organization_id].grants.append((grant_id, free, expires_at))
    return purses


async def _free_grants(connection: Connection, organizations: list[int]) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(
        "SELECT organization_id, id, free_nano_usd, expires_at, priority,"
        " coalesce(expires_at <= clock_timestamp(), false) FROM billing_grant"
        " WHERE organization_id = ANY(%s) AND free_nano_usd > 0 ORDER BY id FOR UPDATE",
        [organizations],
    )
    return await cursor.fetchall()


async def _recall(connection: Connection, shorts: Sequence[Want]) -> dict[UUID, int]:
    """Store the recalls and notify them; returns how much each could bring at best."""
    # One that was notified just now is still on its way: another one would tell nothing new. One
    # of the future is from before a step of the clock.
    recalled = await connection.execute(
        "UPDATE billing_wallet SET short_at = clock_timestamp() WHERE organization_id = ANY(%s)"
        " AND coalesce(short_at NOT BETWEEN clock_timestamp() - make_interval(secs => %s)"
        " AND clock_timestamp(), true) RETURNING organization_id",
        [sorted({want.organization_id for want in shorts}), RECALL_SECONDS],
    )
    payloads = [f"recall 0 {row[0]}" for row in await recalled.fetchall()]
    if payloads:
        await connection.execute(
            "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", [CHANNEL, payloads]
        )
    cursor = await connection.execute(
        "SELECT short.lease_id,"
        " coalesce(sum(other.granted_nano_usd - other.spent_nano_usd), 0)::bigint"
        " FROM unnest(%s::uuid[], %s::bigint[]) AS short(lease_id, organization_id)"
        " LEFT JOIN billing_lease other ON other.organization_id = short.organization_id"
        " AND other.state = 'open' AND other.id <> short.lease_id GROUP BY short.lease_id",
        [[want.lease_id for want in shorts], [want.organization_id for want in shorts]],
    )
    return {row[0]: int(row[1]) for row in await cursor.fetchall()}


# The rows are locked, so the order of the parts is of no consequence. A lease that does not exist
# is opened with version 1; one that does must have the version before.
_GROW = """
WITH granting AS (
    UPDATE billing_grant SET free_nano_usd = free_nano_usd - part.amount,
           leased_nano_usd = leased_nano_usd + part.amount
      FROM (SELECT grant_id, sum(amount)::bigint AS amount
              FROM unnest(%(grants)s::bigint[], %(parts)s::bigint[]) AS slice(grant_id, amount)
             GROUP BY grant_id) AS part
     WHERE billing_grant.id = part.grant_id
), paying AS (
    UPDATE billing_wallet SET balance_nano_usd = balance_nano_usd - payment.amount
      FROM (SELECT organization_id, sum(amount)::bigint AS amount
              FROM unnest(%(organizations)s::bigint[], %(amounts)s::bigint[])
                   AS taking(organization_id, amount) GROUP BY organization_id) AS payment
     WHERE billing_wallet.organization_id = payment.organization_id
), slicing AS (
    INSERT INTO billing_leaseslice (lease_id, position, grant_id, amount_nano_usd)
    SELECT slice.lease_id, slice.position + coalesce((SELECT max(older.position)
             FROM billing_leaseslice older WHERE older.lease_id = slice.lease_id), 0),
           slice.grant_id, slice.amount
      FROM unnest(%(slice_leases)s::uuid[], %(grants)s::bigint[], %(parts)s::bigint[])
           WITH ORDINALITY AS slice(lease_id, grant_id, amount, position)
), posting AS (
    INSERT INTO billing_ledgerentry (posting, sequence, account, organization_id, lease_id,
           amount_nano_usd, reason, created_at)
    SELECT taking.posting, leg.sequence, leg.account, taking.organization_id, taking.lease_id,
           leg.sign * taking.amount, 'lease_grow', clock_timestamp()
      FROM unnest(%(postings)s::uuid[], %(organizations)s::bigint[], %(leases)s::uuid[],
                  %(amounts)s::bigint[]) AS taking(posting, organization_id, lease_id, amount),
           (VALUES (1, 'wallet', -1), (2, 'escrow', 1)) AS leg(sequence, account, sign)
     WHERE taking.amount > 0
)
INSERT INTO billing_lease AS lease (id, worker_id, organization_id, kind, state, version,
       granted_nano_usd, spent_nano_usd, usable_until, opened_at)
SELECT taking.id, %(worker)s, taking.organization_id, 'wallet', 'open', taking.version + 1,
       taking.amount, 0,
       least(clock_timestamp() + make_interval(secs => %(age)s), taking.ends_at), clock_timestamp()
  FROM unnest(%(leases)s::uuid[], %(organizations)s::bigint[], %(versions)s::bigint[],
              %(amounts)s::bigint[], %(ends)s::timestamptz[])
       AS taking(id, organization_id, version, amount, ends_at)
    ON CONFLICT (id) DO UPDATE
   SET granted_nano_usd = lease.granted_nano_usd + excluded.granted_nano_usd,
       version = excluded.version,
       usable_until = least(lease.usable_until, excluded.usable_until)
 WHERE lease.version = excluded.version - 1 AND lease.state = 'open'
RETURNING id, organization_id, state, version, granted_nano_usd, spent_nano_usd,
       extract(epoch FROM usable_until - clock_timestamp())::float8
"""


async def _write(
    connection: Connection,
    takings: Iterable[Taking],
    wallets: dict[int, LockedWallet],
    timing: Timing,
) -> dict[UUID, LeaseView]:
    taken = list(takings)
    slices = [(taking.want.lease_id, *each) for taking in taken for each in taking.slices]
    cursor = await connection.execute(
        _GROW,
        {
            "worker": taken[0].want.worker_id,
            "age": timing.lease_age,
            "leases": [taking.want.lease_id for taking in taken],
            "organizations": [taking.want.organization_id for taking in taken],
            "versions": [taking.want.version for taking in taken],
            "amounts": [taking.amount for taking in taken],
            "ends": [taking.ends_at for taking in taken],
            "postings": [uuid7() for _ in taken],
            "slice_leases": [lease_id for lease_id, _, _ in slices],
            "grants": [grant_id for _, grant_id, _ in slices],
            "parts": [amount for _, _, amount in slices],
        },
    )
    grown = {}
    for row in await cursor.fetchall():
        grown[row[0]] = view_in(wallets[row[1]], row)
    assert len(grown) == len(taken), "a lease has changed although it was locked"
    return grown
