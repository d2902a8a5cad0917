"""Moments as people type them: "30d", "2026-12-31", "never". Pure."""

import datetime as dt
import re

from accounts.errors import Refused

_SPAN = re.compile(r"([0-9]{1,6})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = 'a span such as "12h" or "30d", an ISO date or date and time, or "never"'


class InvalidMoment(Refused):
    """The text names no moment, or one that has passed."""


def expiry_parse(text: str, *, now: dt.datetime) -> dt.datetime | None:
    """The moment at which something expires; None for "never".

    A date means its first moment, and what names no zone is UTC.
    """
    words = text.strip().lower()
    if words == "never":
        return None
    moment = _span_end(words, now) if _SPAN.fullmatch(words) else _iso_moment(text.strip())
    if moment <= now:
        raise InvalidMoment(f"{text!r} is not in the future.")
    return moment


def span_parse(text: str) -> dt.timedelta:
    """A span of time such as "12h" or "30d"; "0" is none."""
    words = text.strip().lower()
    if words == "0":
        return dt.timedelta(0)
    if not _SPAN.fullmatch(words):
        raise InvalidMoment(f"{text!r} is no span of time; say 12h or 30d.")
    return _span(words)


def day_parse(text: str) -> dt.date:
    """A day in UTC, written 2026-01-31."""
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidMoment(f"{text!r} is no day; write it as 2026-01-31.") from error


def _span(text: str) -> dt.timedelta:
    return dt.timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _span_end(text: str, now: dt.datetime) -> dt.datetime:
    try:
        return now + _span(text)
    except OverflowError as error:
        raise InvalidMoment(f"{text!r} is too far away.") from error


def _iso_moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidMoment(f"{text!r} is no moment; say {_FORMS}.") from error
