"""What spend limits have left, and the changes of it, inside the transactions of leases.

Note [One lease, many limits]: a call needs money of the wallet and room in each limit that bounds
it, always the same amount of each. So a lease of bounded calls is one row: what it was granted is
set aside in the wallet and in one window of each of its limits, and grows, returns, is exceeded and
closes in all of them by the same statement or not at all. Nothing can be half leased.

Whoever changes a window, or the terms of a limit, holds the lock of its organization's wallet.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from billing.engine.database import CHANNEL, Connection
from billing.engine.records import LimitWindow
from billing.windows import Window, window_at

SHORT_SECONDS = 2  # For how long a limit's shortness is told what comes back.


@dataclass(slots=True, kw_only=True)
class Room:
    """What a limit has left in the window that is running; below 0 where too much is gone."""

    limit_id: int
    cap_nano_usd: int
    window: Window
    period_id: int = 0  # 0: the window has no row yet.
    left: int

    @property
    def named(self) -> LimitWindow:
        return LimitWindow(self.limit_id, *(int(moment.timestamp()) for moment in self.window))


class Shortage(NamedTuple):
    """A limit that has not enough left for a lease."""

    lease_id: UUID
    organization_id: int
    room: Room


async def rooms_open(connection: Connection, limit_ids: Iterable[int]) -> dict[int, Room]:
    """The running windows of those limits that are in force, each with its row.

    What is gone of a window that a change of the organization's time zone has cut short counts in
    those that overlap with it, too: such a change gives nobody a second allowance.
    """
    cursor = await connection.execute(
        "SELECT l.id, l.per, l.cap_nano_usd, o.time_zone, clock_timestamp()"
        " FROM billing_spendlimit l JOIN accounts_organization o ON o.id = l.organization_id"
        " WHERE l.id = ANY(%s) AND l.removed_at IS NULL ORDER BY l.id",
        [sorted(set(limit_ids))],
    )
    rooms = {
        limit_id: Room(
            limit_id=limit_id,
            cap_nano_usd=cap,
            window=window_at(per, at, ZoneInfo(time_zone)),
            left=cap,
        )
        for limit_id, per, cap, time_zone, at in await cursor.fetchall()
    }
    changed = await _look(connection, rooms)
    if changed:
        await _rows_make(connection, changed)
    return rooms


async def _look(connection: Connection, rooms: Mapping[int, Room]) -> list[Room]:
    """Take off what is gone of each; returns those whose row is missing, or says otherwise."""
    cursor = await connection.execute(
        "SELECT p.limit_id, p.id, p.period_start, p.period_end, p.cap_nano_usd,"
        " p.leased_nano_usd + p.used_nano_usd"
        " FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS running(id, a, b)"
        " JOIN billing_spendlimitperiod p"
        " ON p.limit_id = running.id AND (p.period_start = running.a OR p.cut_short"
        " AND p.period_start < running.b AND p.period_end > running.a)",
        _windows(rooms.values()),
    )
    known = set()
    for limit_id, period_id, start, end, cap, gone in await cursor.fetchall():
        room = rooms[limit_id]
        room.left -= gone
        if start == room.window.start:
            room.period_id = period_id
            if (end, cap) == (room.window.end, room.cap_nano_usd):
                known.add(limit_id)
    return [room for room in rooms.values() if room.limit_id not in known]


def _windows(rooms: Iterable[Room]) -> list[list[Any]]:
    asked = list(rooms)
    return [
        [room.limit_id for room in asked],
        [room.window.start for room in asked],
        [room.window.end for room in asked],
    ]


async def _rows_make(connection: Connection, rooms: Sequence[Room]) -> None:
    """Give each its row; one that is there was ended by a change of the zone that was undone."""
    cursor = await connection.execute(
        "INSERT INTO billing_spendlimitperiod AS period (limit_id, period_start, period_end,"
        " cap_nano_usd, leased_nano_usd, used_nano_usd, over_nano_usd)"
        " SELECT *, 0, 0, 0"
        " FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::bigint[])"
        " ON CONFLICT (limit_id, period_start) DO UPDATE SET period_end = excluded.period_end,"
        " cut_short = false, cap_nano_usd = excluded.cap_nano_usd, over_nano_usd = greatest(0,"
        " period.leased_nano_usd + period.used_nano_usd - excluded.cap_nano_usd)"
        " RETURNING limit_id, id",
        [*_windows(rooms), [room.cap_nano_usd for room in rooms]],
    )
    rows: dict[int, int] = dict(await cursor.fetchall())
    for room in rooms:
        room.period_id = rows[room.limit_id]


async def rooms_take(connection: Connection, amounts: Mapping[int, int]) -> None:
    """So much of each window is in leases now. That it fits is a constraint of the table."""
    await connection.execute(
        "UPDATE billing_spendlimitperiod SET leased_nano_usd = leased_nano_usd + part.amount"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS part(id, amount)"
        " WHERE billing_spendlimitperiod.id = part.id",
        [list(amounts), list(amounts.values())],
    )


async def rooms_move(
    connection: Connection, changes: Mapping[int, tuple[int, int]]
) -> list[tuple[int, int]]:
    """Add so much to what of each window is in leases, and to what was used.

    Returns the limits of which somebody ran short just now, and what each has again.
    """
    if not changes:
        return []
    cursor = await connection.execute(
        "UPDATE billing_spendlimitperiod AS period"
        " SET leased_nano_usd = leased_nano_usd + part.leased,"
        " used_nano_usd = used_nano_usd + part.used, over_nano_usd = greatest(0,"
        " leased_nano_usd + part.leased + used_nano_usd + part.used - cap_nano_usd)"
        " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS part(id, leased, used)"
        " WHERE period.id = part.id RETURNING limit_id,"
        " cap_nano_usd - leased_nano_usd - used_nano_usd,"
        " coalesce(short_at > clock_timestamp() - make_interval(secs => %s), false)",
        [
            list(changes),
            [leased for leased, _ in changes.values()],
            [used for _, used in changes.values()],
            SHORT_SECONDS,
        ],
    )
    rows = await cursor.fetchall()
    return [(limit_id, left) for limit_id, left, is_short in rows if is_short and left > 0]


async def tell_the_short(connection: Connection, limits: Sequence[tuple[int, int]]) -> None:
    """Room came back: whoever ran short of it lately need not wait for the next try."""
    await connection.execute(
        "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
        [CHANNEL, [f"room {left} {limit_id}" for limit_id, left in limits]],
    )


async def rooms_recall(
    connection: Connection, shortages: Sequence[Shortage], *, apart_seconds: float
) -> dict[tuple[UUID, int], int]:
    """Store the recalls and notify them; returns what other leases have not spent of each limit.

    By lease and limit. A recall that was notified just now is still on its way.
    """
    organizations = {each.room.limit_id: each.organization_id for each in shortages}
    recalled = await connection.execute(
        "UPDATE billing_spendlimitperiod SET short_at = clock_timestamp() WHERE id = ANY(%s)"
        " AND coalesce(short_at NOT BETWEEN clock_timestamp() - make_interval(secs => %s)"
        " AND clock_timestamp(), true) RETURNING limit_id",
        [sorted({each.room.period_id for each in shortages}), apart_seconds],
    )
    payloads = [f"recall {row[0]} {organizations[row[0]]}" for row in await recalled.fetchall()]
    if payloads:
        await connection.execute(
            "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", [CHANNEL, payloads]
        )
    cursor = await connection.execute(
        "SELECT short.lease_id, short.limit_id,"
        " coalesce(sum(other.granted_nano_usd - other.spent_nano_usd), 0)::bigint"
        " FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::timestamptz[],"
        " %s::timestamptz[]) AS short(lease_id, organization_id, limit_id, a, b)"
        " LEFT JOIN billing_lease other ON other.organization_id = short.organization_id"
        " AND other.state = 'open' AND other.id <> short.lease_id"
        " AND EXISTS (SELECT 1 FROM billing_spendlimitperiod p"
        " WHERE p.id = ANY(other.limit_period_ids) AND p.limit_id = short.limit_id"
        " AND (p.period_start = short.a OR p.cut_short"
        " AND p.period_start < short.b AND p.period_end > short.a))"
        " GROUP BY short.lease_id, short.limit_id",
        [
            [each.lease_id for each in shortages],
            [each.organization_id for each in shortages],
            *_windows(each.room for each in shortages),
        ],
    )
    return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}


async def windows_restore(
    connection: Connection, windows: Iterable[LimitWindow]
) -> dict[tuple[int, int], int]:
    """The rows, by limit and start, of windows that a journal names; forgotten ones are made.

    Of a limit that is forgotten, too, nothing can be counted.
    """
    asked = list({(window.limit_id, window.start): window for window in windows}.values())
    cursor = await connection.execute(
        "INSERT INTO billing_spendlimitperiod AS period (limit_id, period_start, period_end,"
        " cap_nano_usd, leased_nano_usd, used_nano_usd, over_nano_usd)"
        " SELECT named.id, named.a, named.b, cap_nano_usd, 0, 0, 0"
        " FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS named(id, a, b)"
        " JOIN billing_spendlimit USING (id)"
        " ON CONFLICT (limit_id, period_start) DO UPDATE SET period_end = period.period_end"
        " RETURNING limit_id, period_start, id",
        [
            [window.limit_id for window in asked],
            [dt.datetime.fromtimestamp(window.start, dt.UTC) for window in asked],
            [dt.datetime.fromtimestamp(window.end, dt.UTC) for window in asked],
        ],
    )
    return {(row[0], int(row[1].timestamp())): row[2] for row in await cursor.fetchall()}
