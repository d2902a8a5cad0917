"""Reading query parameters: strictly for our own API, leniently for the shapes of old clients."""

import datetime as dt
import re

from django.http import QueryDict

from billing.usage.queries import FIRST_DAY, LAST_DAY, DayRange
from console.errors import invalid_parameter

MAX_LIMIT = 100
DEFAULT_LIMIT = 20

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


def text_parameter(query: QueryDict, name: str) -> str | None:
    """The parameter's one value; None where it is missing or empty."""
    values = [value for value in query.getlist(name) if value]
    if len(values) > 1:
        raise invalid_parameter(name, "it was sent more than once.")
    return values[0] if values else None


def limit_parameter(query: QueryDict) -> int:
    text = text_parameter(query, "limit")
    if text is None:
        return DEFAULT_LIMIT
    if not _WHOLE_NUMBER.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise invalid_parameter("limit", f"it must be a whole number from 1 to {MAX_LIMIT}.")
    return int(text)


def choice_parameter(query: QueryDict, name: str, choices: tuple[str, ...]) -> str:
    """One of the choices; the first is the default."""
    text = text_parameter(query, name)
    if text is not None and text not in choices:
        raise invalid_parameter(name, f"it must be one of {', '.join(choices)}.")
    return text or choices[0]


def days_parameter(query: QueryDict, *, today: dt.date) -> DayRange:
    """`start` to `end`, both included. Missing: this month so far, or the rest of what is given."""
    start = _strict_day(query, "start")
    end = _strict_day(query, "end")
    if end is None:
        end = today if start is None else max(today, start)
    if start is None:
        start = end.replace(day=1)
    if start > end:
        raise invalid_parameter("start", "it must not be after 'end'.")
    return DayRange(start, end)


def lenient_days(query: QueryDict) -> DayRange | None:
    """What `start_date` and `end_date` can be read as; None where neither says anything.

    Clients send them swapped, repeated or as junk, and stop working on an error.
    """
    start = _first_day(query.getlist("start_date"))
    end = _first_day(query.getlist("end_date"))
    if start is None and end is None:
        return None
    first, last = start or FIRST_DAY, end or LAST_DAY
    return DayRange(min(first, last), max(first, last))


def _strict_day(query: QueryDict, name: str) -> dt.date | None:
    text = text_parameter(query, name)
    if text is None:
        return None
    day = parse_day(text)
    if day is None:
        raise invalid_parameter(
            name, f"it must be a UTC day from {FIRST_DAY} to {LAST_DAY}, written YYYY-MM-DD."
        )
    return day


def _first_day(texts: list[str]) -> dt.date | None:
    return next((day for text in texts if (day := parse_day(text)) is not None), None)


def parse_day(text: str) -> dt.date | None:
    """A UTC day written YYYY-MM-DD; None for all else, and for days that no call can have."""
    if not _DAY.fullmatch(text):
        return None
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return None
    return day if FIRST_DAY <= day <= LAST_DAY else None
