"""Dated rows: each is in force from `effective_from` until before `effective_to`, then the next.

A row that has begun is closed, never edited. Writers take turns (`writers_take_turns`), so what one
of them has read stays true until it commits; readers are not held up.
"""

import datetime as dt
from typing import TypeVar

from django.db import connection
from django.db.models import Q, QuerySet

from accounts.transactions import transaction_required
from billing.models import Discount, Price, RateLimit

Row = TypeVar("Row", Price, Discount)

# What the database can tell apart.
_INSTANT = dt.timedelta(microseconds=1)


@transaction_required
def writers_take_turns(model: type[Price] | type[Discount] | type[RateLimit]) -> None:
    with connection.cursor() as cursor:
        # The mode that excludes every other writer, this one's like included, and no reader.
        cursor.execute(f"LOCK TABLE {model._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")  # noqa: SLF001  Django's own way to a model's table.


def present_and_future(rows: QuerySet[Row], now: dt.datetime) -> QuerySet[Row]:
    """The rows that are, or will be, in force, soonest first."""
    unended = rows.filter(Q(effective_to__isnull=True) | Q(effective_to__gt=now))
    return unended.order_by("effective_from")


@transaction_required
def period_begin(
    rows: QuerySet[Row], now: dt.datetime
) -> tuple[Row | None, dt.datetime, dt.datetime | None]:
    """Make room for a row that begins now: close the one in force.

    Returns that one (None if there was none) and the new one's period. What was planned for later
    stays planned: the new row ends where it begins. Two changes at one instant follow each other.
    """
    unended = list(present_and_future(rows, now))
    begun = {row.effective_from for row in unended}
    begins_at = now
    while begins_at in begun:
        begins_at += _INSTANT
    for row in unended:
        if row.effective_from > begins_at:
            return None, begins_at, row.effective_from
        if row.effective_to is None or row.effective_to > begins_at:
            ends_at = row.effective_to
            row.effective_to = begins_at
            row.save(update_fields=["effective_to"])
            return row, begins_at, ends_at
    return None, begins_at, None
