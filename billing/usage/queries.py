"""What organizations used: the reads behind the usage API and the console. No HTTP here.

A day is a UTC day, and a range includes both of its days. A call belongs to the day on which it
began, by the time inside its UUIDv7 request id; so ranges are ranges of the primary key, and the
index on (organization_id, request_id) serves every query.
"""

import base64
import binascii
import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

from django.db import connection
from django.db.models import OuterRef, QuerySet, Subquery

from accounts.models import Project
from billing.identifiers import uuid7_floor
from billing.models import UsageRecord

FIRST_DAY = dt.date(2000, 1, 1)
LAST_DAY = dt.date(2999, 12, 31)

_SUMS = """
    count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0),
    coalesce(sum(completion_tokens), 0), coalesce(sum(reasoning_tokens), 0),
    coalesce(sum(official_cost_nano_usd), 0), coalesce(sum(charge_nano_usd), 0)
"""
_FROM = """
    FROM billing_usagerecord
    WHERE organization_id = %(organization)s AND request_id >= %(lower)s AND request_id < %(upper)s
    AND (%(project)s::bigint IS NULL OR project_id = %(project)s)
"""
# The first 48 bits of a UUIDv7 are milliseconds. The days come from them, never from a column that
# was set a moment later, so that a call next to midnight cannot fall out of its own range.
_DAYS_SINCE_1970 = """
    ('x' || left(encode(uuid_send(request_id), 'hex'), 12))::bit(48)::bigint / 86400000
"""


class InvalidCursorError(ValueError):
    """The cursor was not made here."""


@dataclass(frozen=True, slots=True)
class UsageScope:
    """Whose usage: an organization's, or only one project's of it."""

    organization_id: int
    project_id: int | None = None


@dataclass(frozen=True, slots=True)
class DayRange:
    """UTC days from `start` to `end`; both belong to it."""

    start: dt.date
    end: dt.date

    def __post_init__(self) -> None:
        assert FIRST_DAY <= self.start <= self.end <= LAST_DAY

    @property
    def lower(self) -> uuid.UUID:
        return uuid7_floor(self.start)

    @property
    def upper(self) -> uuid.UUID:
        return uuid7_floor(self.end + dt.timedelta(days=1))


ALL_DAYS = DayRange(FIRST_DAY, LAST_DAY)


@dataclass(frozen=True, slots=True)
class Totals:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    official_cost_nano_usd: int = 0
    charge_nano_usd: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class RecordsPage:
    """Usage records, newest first; each has an extra attribute `project`, the project's slug."""

    records: list[UsageRecord]
    next_cursor: str | None


def usage_totals(scope: UsageScope, days: DayRange = ALL_DAYS) -> Totals:
    rows = _rows(f"SELECT {_SUMS} {_FROM}", scope, days)
    return _totals(rows[0])


def usage_by_day(scope: UsageScope, days: DayRange) -> list[tuple[dt.date, Totals]]:
    """The days that have calls, in their order."""
    rows = _rows(f"SELECT {_DAYS_SINCE_1970}, {_SUMS} {_FROM} GROUP BY 1 ORDER BY 1", scope, days)
    return [(dt.date(1970, 1, 1) + dt.timedelta(days=row[0]), _totals(row[1:])) for row in rows]


def usage_by_model(scope: UsageScope, days: DayRange) -> list[tuple[str, Totals]]:
    """The models that were called, the one that cost most first."""
    rows = _rows(f"SELECT model, {_SUMS} {_FROM} GROUP BY 1", scope, days)
    groups = [(row[0], _totals(row[1:])) for row in rows]
    return sorted(groups, key=lambda group: (-group[1].charge_nano_usd, group[0]))


def channel_usage(channel: str, days: DayRange) -> list[tuple[dt.date, str, Totals, int]]:
    """What went to an upstream: by day and upstream's model, with what it costs the operator.

    Calls that it refused or failed before any output are not among them: it does not count them.
    """
    statement = f"""
        SELECT {_DAYS_SINCE_1970}, upstream_model, coalesce(sum(upstream_cost_nano_usd), 0), {_SUMS}
        FROM billing_usagerecord
        WHERE channel = %(channel)s AND request_id >= %(lower)s AND request_id < %(upper)s
        AND outcome <> 'upstream_error' GROUP BY 1, 2 ORDER BY 1, 2
    """  # noqa: S608  Constants of this file.
    with connection.cursor() as cursor:
        cursor.execute(statement, {"channel": channel, "lower": days.lower, "upper": days.upper})
        return [
            (dt.date(1970, 1, 1) + dt.timedelta(days=day), model, _totals(sums), int(cost))
            for day, model, cost, *sums in cursor.fetchall()
        ]


def totals_sum(parts: Iterable[Totals]) -> Totals:
    """The total of groups, so that groups and total come from one snapshot of the database."""
    columns = zip(*(astuple(part) for part in parts), strict=True)
    return Totals(*(sum(column) for column in columns))


def usage_records_page(scope: UsageScope, *, limit: int, cursor: str | None = None) -> RecordsPage:
    """One page of records; raises InvalidCursorError.

    Request ids are unique, so a cursor is a place between two records, however many calls share a
    millisecond. A walk never sees a record twice; calls that end while it goes on may be missed.
    """
    assert limit > 0
    records = usage_records(scope)
    if cursor is not None:
        records = records.filter(request_id__lt=cursor_decode(cursor))
    found = list(records[: limit + 1])
    more = len(found) > limit
    return RecordsPage(
        records=found[:limit],
        next_cursor=cursor_encode(found[limit - 1].request_id) if more else None,
    )


def usage_records(scope: UsageScope) -> QuerySet[UsageRecord]:
    project = Project.objects.filter(pk=OuterRef("project_id")).values("slug")
    records = UsageRecord.objects.filter(organization_id=scope.organization_id)
    if scope.project_id is not None:
        records = records.filter(project_id=scope.project_id)
    return records.annotate(project=Subquery(project)).order_by("-request_id")


def cursor_encode(request_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(request_id.bytes).rstrip(b"=").decode()


def cursor_decode(cursor: str) -> uuid.UUID:
    """The request id that a page ended with.

    It needs no signature: whoever invents one only chooses where in their own records to begin.
    """
    try:
        request_id = uuid.UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidCursorError(cursor) from error
    if cursor_encode(request_id) != cursor:
        raise InvalidCursorError(cursor)
    return request_id


def _rows(statement: str, scope: UsageScope, days: DayRange) -> list[Any]:
    parameters = {
        "organization": scope.organization_id,
        "project": scope.project_id,
        "lower": days.lower,
        "upper": days.upper,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[Any] = cursor.fetchall()
    return rows


def _totals(columns: Iterable[Any]) -> Totals:
    # PostgreSQL sums BIGINT as NUMERIC, which arrives as Decimal.
    return Totals(*(int(value) for value in columns))
