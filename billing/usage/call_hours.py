"""Hours of calls by channel and model, gathered from the usage records.

The hour that runs and the one before are gathered anew each time, since records arrive after their
calls; those of workers that died arrive later still, so the last days are gathered once more each
night. Whoever reads gets what is not gathered yet from the records themselves.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import OperationalError, connection, transaction

from billing.identifiers import uuid7_floor, uuid7_time
from billing.models import CallHour, UsageRecord
from billing.usage.histograms import GROWTH

HOUR = dt.timedelta(hours=1)
# What one run gathers at most, when there is much to catch up with.
HOURS_AT_ONCE = 200
# Whoever opens a page waits so long at most for what is not gathered yet.
PATIENCE_MILLISECONDS = 3000
QUERY_CANCELED = "57014"

COLUMNS = (
    "hour, channel, model, calls, served, failed, attempts_failed, official_cost_nano_usd,"
    " charge_nano_usd, upstream_cost_nano_usd, unearned_cost_nano_usd, duration_counts,"
    " first_token_counts"
)
# A call fails its customer when upstream or the gateway could not do it, not when upstream refused
# what was asked; a stream that failed after its head has the status 200.
_FAILED = """(outcome IN ('interrupted', 'expired', 'lost')
    OR (outcome = 'upstream_error' AND (status >= 500 OR status IN (0, 200, 408, 429))))"""
_LAST_COST = "coalesce((attempts->-1->>'upstream_cost_nano_usd')::bigint, upstream_cost_nano_usd)"
_GATHER = f"""
WITH record AS (
    SELECT to_timestamp(('x' || left(encode(uuid_send(request_id), 'hex'), 12))::bit(48)::bigint
                / 3600000 * 3600) AS hour, channel, model, attempts, duration_ms, first_token_ms,
           outcome IN ('completed', 'client_left') AS served, {_FAILED} AS failed,
           official_cost_nano_usd, charge_nano_usd, {_LAST_COST} AS cost
      FROM billing_usagerecord WHERE request_id >= %(since)s AND request_id < %(until)s
), part AS (
    SELECT hour, channel, model, 1 AS calls, served::int AS served, failed::int AS failed,
           0 AS attempts_failed, official_cost_nano_usd AS official, charge_nano_usd AS charge,
           cost, CASE WHEN charge_nano_usd = 0 THEN cost ELSE 0 END AS unearned,
           CASE WHEN served THEN duration_ms END AS duration,
           CASE WHEN served THEN first_token_ms END AS first_token
      FROM record
    UNION ALL
    SELECT hour, made->>'channel', model, 0, 0, 0, 1, 0, 0,
           (made->>'upstream_cost_nano_usd')::bigint, (made->>'upstream_cost_nano_usd')::bigint,
           NULL, NULL
      FROM record CROSS JOIN LATERAL jsonb_array_elements(attempts - -1) made
     WHERE attempts IS NOT NULL
), counted AS (
    SELECT hour, channel, model, kind, jsonb_object_agg(class, times) AS counts
      FROM (SELECT hour, channel, model, kind, floor(ln(ms + 1) / ln({GROWTH}))::int AS class,
                   count(*) AS times
              FROM part CROSS JOIN LATERAL
                   (VALUES ('duration', duration), ('first_token', first_token)) one(kind, ms)
             WHERE ms IS NOT NULL GROUP BY 1, 2, 3, 4, 5) classes
     GROUP BY 1, 2, 3, 4
)
SELECT hour, channel, model, calls, served, failed, attempts_failed, official, charge, cost,
       unearned, coalesce(duration.counts, '{{}}'), coalesce(first_token.counts, '{{}}')
  FROM (SELECT hour, channel, model, sum(calls)::bigint AS calls, sum(served)::bigint AS served,
               sum(failed)::bigint AS failed, sum(attempts_failed)::bigint AS attempts_failed,
               sum(official)::bigint AS official, sum(charge)::bigint AS charge,
               sum(cost)::bigint AS cost, sum(unearned)::bigint AS unearned
          FROM part GROUP BY hour, channel, model) total
  LEFT JOIN (SELECT * FROM counted WHERE kind = 'duration') duration
            USING (hour, channel, model)
  LEFT JOIN (SELECT * FROM counted WHERE kind = 'first_token') first_token
            USING (hour, channel, model)
"""  # noqa: S608  Constants.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('billing.call_hours'))"


class Gathered(NamedTuple):
    """Rows that are not saved but add up to the records; and whether all of them are in."""

    rows: Sequence[CallHour]
    is_complete: bool


def hour_of(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def hours_gather(*, now: dt.datetime) -> int:
    """Gather what is new since the last time; returns how many hours were."""
    last = CallHour.objects.order_by("-hour").values_list("hour", flat=True).first()
    hour: dt.datetime | None = hour_of(now) - HOUR
    if last is None or last < hour_of(now) - HOUR:
        hour = _next_with_calls(uuid7_floor(last or dt.datetime.fromtimestamp(0, dt.UTC)))
    done = 0
    while hour is not None and done < HOURS_AT_ONCE:
        _hour_gather(hour)
        done += 1
        hour = _next_with_calls(uuid7_floor(hour + HOUR))
    return done


def hours_gather_again(*, since: dt.datetime, until: dt.datetime) -> None:
    """Gather the hours in between once more: for records that came long after their calls."""
    hour = hour_of(since)
    while hour < until:
        _hour_gather(hour)
        hour += HOUR


def _hour_gather(hour: dt.datetime) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK)
        cursor.execute("DELETE FROM billing_callhour WHERE hour = %s", [hour])
        cursor.execute(
            f"INSERT INTO billing_callhour ({COLUMNS}) {_GATHER}",
            {"since": uuid7_floor(hour), "until": uuid7_floor(hour + HOUR)},
        )


def _next_with_calls(since: Any) -> dt.datetime | None:
    """The first hour from there on in which there was a call."""
    rows = UsageRecord.objects.filter(request_id__gte=since).order_by("request_id")
    first = rows.values_list("request_id", flat=True).first()
    return None if first is None else hour_of(uuid7_time(first))


def call_hours(*, since: dt.datetime, until: dt.datetime) -> Gathered:
    """All hours from the one to before the other, of which the newest come from the records."""
    last = CallHour.objects.order_by("-hour").values_list("hour", flat=True).first()
    tail = max(since, min(until, last or since))
    rows = list(CallHour.objects.filter(hour__gte=since, hour__lt=tail))
    recent = calls_now(since=tail, until=until)
    if recent is not None:
        return Gathered(rows + recent, is_complete=True)
    stale = CallHour.objects.filter(hour__gte=tail, hour__lt=until)
    return Gathered(rows + list(stale), is_complete=False)


def calls_now(*, since: dt.datetime, until: dt.datetime) -> list[CallHour] | None:
    """The same straight from the records; None if there are too many while somebody waits."""
    bounds = {"since": uuid7_floor(since), "until": uuid7_floor(until)}
    names = COLUMNS.replace(" ", "").split(",")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MILLISECONDS}")
            cursor.execute(
                f"SELECT row_to_json(r) FROM ({_GATHER}) r({COLUMNS})",  # noqa: S608  Constants.
                bounds,
            )
            found = [row for (row,) in cursor.fetchall()]
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == QUERY_CANCELED:
            return None
        raise
    return [_row({name: one[name] for name in names}) for one in found]


def _row(values: dict[str, Any]) -> CallHour:
    return CallHour(**{**values, "hour": dt.datetime.fromisoformat(values["hour"])})
