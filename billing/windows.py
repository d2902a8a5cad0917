"""The window of time in which a spend limit counts: a day, a week, a month, or for ever. Pure.

Windows begin and end at midnight in the organization's time zone. So a day may have 23 or 25 hours,
and where a clock change skips midnight itself, the day begins with the first moment there is.
"""

import datetime as dt
from typing import Final, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

Per = Literal["day", "week", "month", "total"]
PERS: Final[tuple[Per, ...]] = get_args(Per)

BEGINNING: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
END: Final = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_DECEMBER: Final = 12


class Window(NamedTuple):
    """Half-open, in UTC."""

    start: dt.datetime
    end: dt.datetime


def window_at(per: Per, moment: dt.datetime, zone: ZoneInfo) -> Window:
    """The window that the moment is in."""
    if per == "total":
        return Window(BEGINNING, END)
    first = _first_day(per, moment.astimezone(zone).date())
    window = Window(_midnight(first, zone), _midnight(_next_first_day(per, first), zone))
    assert window.start <= moment < window.end, f"{moment} is not in {window} of {zone}"
    return window


def _first_day(per: Per, day: dt.date) -> dt.date:
    if per == "week":
        return day - dt.timedelta(days=day.weekday())
    return day.replace(day=1) if per == "month" else day


def _next_first_day(per: Per, first: dt.date) -> dt.date:
    if per == "week":
        return first + dt.timedelta(days=7)
    if per == "day":
        return first + dt.timedelta(days=1)
    is_last = first.month == _DECEMBER
    return dt.date(first.year + is_last, 1 if is_last else first.month + 1, 1)


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    """The day's first moment.

    Of a midnight that comes twice it is the first. One that is skipped is read with the offset
    before the gap, which names the moment at which the clocks jump, or one behind it.
    """
    midnight = dt.datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(dt.UTC)
    local = midnight.astimezone(zone)
    if local.date() == day and local.time() == dt.time():
        return midnight
    # The clocks jumped over it, so the first moment of the day is that of the jump.
    low, high = midnight - dt.timedelta(days=1), midnight
    while high - low > dt.timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).date() < day:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
