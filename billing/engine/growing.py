"""Growing leases: one transaction for all that a worker's waiting calls need, of any organizations.

What each organization gets is decided here, under the locks; one statement then writes it all.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from billing.engine import limit_rooms, money_moves
from billing.engine.database import CHANNEL, Connection
from billing.engine.funds import Funds, Purse, Taking, Want
from billing.engine.leases import (
    LeaseView,
    LockedWallet,
    leases_lock,
    view_in,
    wallets_lock,
)
from billing.engine.limit_rooms import Room, Shortage
from billing.engine.money_moves import WalletMissing
from billing.engine.timing import Timing
from billing.identifiers import uuid7

RECALL_SECONDS = 0.03  # Of one organization, so many apart; who waits asks again after 50 ms.


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowAnswer:
    short: bool
    strict: bool
    free_tier: bool
    view: LeaseView | None
    # On short: what the wallet has, with what other workers' open leases have not spent. Of the
    # limit that is short, if that is the reason: there it may be below 0.
    reachable_nano_usd: int = 0
    short_limit: Room | None = None
    # The window of one of its limits is over: it takes no more calls, another lease shall.
    rolled: bool = False


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
    limit_ids = {limit for want in wants for limit in want.limit_ids}
    funds = Funds(
        wallets=wallets,
        purses=await _purses(connection, wallets),
        rooms=await limit_rooms.rooms_open(connection, limit_ids) if limit_ids else {},
    )
    takings: dict[UUID, Taking] = {}
    shorts: list[Want] = []
    rolled: set[UUID] = set()
    for want in wants:
        lease = leases.get(want.lease_id)
        if want.organization_id not in wallets:
            continue
        if (lease.version if lease else 0) != want.version or (lease and lease.state != "open"):
            continue  # An earlier copy of this operation was applied after all.
        if lease is not None and _is_over(lease, funds.rooms_of(want)):
            rolled.add(want.lease_id)
            continue
        amount = funds.amount(want)
        if amount is None:
            shorts.append(want)
        elif amount > 0 or lease is None:
            # Also an empty one: calls that cost nothing need a lease, though no money.
            takings[want.lease_id] = funds.take(want, amount)
    leases |= await _write(connection, takings.values(), wallets, timing) if takings else {}
    shortages = await _recall(connection, shorts, funds) if shorts else {}
    answers = [_answer(want, funds, leases, shortages) for want in wants]
    return [
        replace(answer, rolled=True)
        if isinstance(answer, GrowAnswer) and want.lease_id in rolled
        else answer
        for want, answer in zip(wants, answers, strict=True)
    ]


def _is_over(lease: LeaseView, rooms: Sequence[Room]) -> bool:
    """Whether other windows are running than those in which the lease takes room."""
    taken = {(window.limit_id, window.start) for window in lease.limits.values()}
    return taken != {(room.limit_id, room.named.start) for room in rooms}


def _answer(
    want: Want,
    funds: Funds,
    leases: dict[UUID, LeaseView],
    shortages: dict[UUID, tuple[int, Room | None]],
) -> GrowAnswer | WalletMissing:
    wallet = funds.wallets.get(want.organization_id)
    if wallet is None:
        return WalletMissing(f"organization {want.organization_id}")
    reachable, short_limit = shortages.get(want.lease_id, (0, None))
    return GrowAnswer(
        short=want.lease_id in shortages,
        strict=wallet.strict,
        free_tier=wallet.free_tier,
        view=leases.get(want.lease_id),
        reachable_nano_usd=reachable,
        short_limit=short_limit,
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


async def _recall(
    connection: Connection, shorts: Sequence[Want], funds: Funds
) -> dict[UUID, tuple[int, Room | None]]:
    """Recall what is short from other leases; returns how much each could get at best.

    And by which limit that is, where it is a limit that has the least of what it is short of.
    """
    poor = [w for w in shorts if funds.purses[w.organization_id].available < w.minimum_nano_usd]
    found: dict[UUID, tuple[int, Room | None]] = {
        lease_id: (funds.purses[organization_id].available + elsewhere, None)
        for (lease_id, organization_id), elsewhere in (
            await _wallets_recall(connection, poor) if poor else {}
        ).items()
    }
    full = [
        Shortage(want.lease_id, want.organization_id, room)
        for want in shorts
        for room in funds.rooms_of(want)
        if max(0, room.left) < want.minimum_nano_usd
    ]
    elsewhere = (
        await limit_rooms.rooms_recall(connection, full, apart_seconds=RECALL_SECONDS)
        if full
        else {}
    )
    for lease_id, _, room in full:
        reachable = room.left + elsewhere[lease_id, room.limit_id]
        if lease_id not in found or reachable < found[lease_id][0]:
            found[lease_id] = reachable, room
    return found


async def _wallets_recall(
    connection: Connection, shorts: Sequence[Want]
) -> dict[tuple[UUID, int], int]:
    """What other leases of its organization have not spent, for each."""
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
        "SELECT short.lease_id, short.organization_id,"
        " coalesce(sum(other.granted_nano_usd - other.spent_nano_usd), 0)::bigint"
        " FROM unnest(%s::uuid[], %s::bigint[]) AS short(lease_id, organization_id)"
        " LEFT JOIN billing_lease other ON other.organization_id = short.organization_id"
        " AND other.state = 'open' AND other.id <> short.lease_id GROUP BY 1, 2",
        [[want.lease_id for want in shorts], [want.organization_id for want in shorts]],
    )
    return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}


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
INSERT INTO billing_lease AS lease (id, worker_id, organization_id, state, version,
       granted_nano_usd, spent_nano_usd, usable_until, opened_at, limit_period_ids)
SELECT taking.id, %(worker)s, taking.organization_id, 'open', taking.version + 1,
       taking.amount, 0,
       least(clock_timestamp() + make_interval(secs => %(age)s), taking.ends_at),
       clock_timestamp(), taking.period_ids::bigint[]
  FROM unnest(%(leases)s::uuid[], %(organizations)s::bigint[], %(versions)s::bigint[],
              %(amounts)s::bigint[], %(ends)s::timestamptz[], %(period_ids)s::text[])
       AS taking(id, organization_id, version, amount, ends_at, period_ids)
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
            # Arrays of arrays would all have to be of one length.
            "period_ids": [_array(taking.limits) for taking in taken],
            "postings": [uuid7() for _ in taken],
            "slice_leases": [lease_id for lease_id, _, _ in slices],
            "grants": [grant_id for _, grant_id, _ in slices],
            "parts": [amount for _, _, amount in slices],
        },
    )
    limits = {taking.want.lease_id: taking.limits for taking in taken}
    rows = await cursor.fetchall()
    assert len(rows) == len(taken), "a lease has changed although it was locked"
    rooms: dict[int, int] = defaultdict(int)
    for taking in taken:
        for period_id in taking.limits:
            rooms[period_id] += taking.amount
    if rooms:
        await limit_rooms.rooms_take(connection, rooms)
    return {row[0]: view_in(wallets[row[1]], row, limits[row[0]]) for row in rows}


def _array(period_ids: Iterable[int]) -> str:
    return "{" + ",".join(map(str, period_ids)) + "}"
