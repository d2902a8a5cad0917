"""The windows of spend limits, in every zone, over every change of the clocks."""

import datetime as dt
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.windows import BEGINNING, END, PERS, Per, window_at

ZONES = sorted(available_timezones())
# From now on, no zone leaves out a whole day.
MOMENTS = st.integers(1_577_836_800, 2_145_830_400).map(
    lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC)
)


@given(per=st.sampled_from(PERS), moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_moment_is_in_one_window_whose_neighbours_touch_it(
    per: Per, moment: dt.datetime, zone: str
) -> None:
    where = ZoneInfo(zone)
    window = window_at(per, moment, where)
    assert window.start <= moment < window.end
    assert window_at(per, window.start, where) == window
    last = window.end - dt.timedelta(microseconds=1)
    assert window_at(per, last, where) == window
    if per != "total":
        assert window_at(per, window.end, where).start == window.end


@given(moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_windows_begin_with_the_first_moment_of_their_first_day(
    moment: dt.datetime, zone: str
) -> None:
    where = ZoneInfo(zone)
    for per in PERS[:3]:
        start = window_at(per, moment, where).start
        first, before = (
            at.astimezone(where).date() for at in (start, start - dt.timedelta(seconds=1))
        )
        assert before < first
        assert per != "week" or first.weekday() == 0
        assert per != "month" or first.day == 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-11-20", 24),
        ("America/Santiago", "2026-09-06", 23),  # Its midnight does not exist.
        ("America/Havana", "2026-11-01", 25),  # Its midnight comes twice.
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kathmandu", "2026-11-20", 24),
    ],
)
def test_days_are_as_long_as_they_are(zone: str, day: str, hours: float) -> None:
    noon = dt.datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=ZoneInfo(zone))
    window = window_at("day", noon, ZoneInfo(zone))
    assert window.end - window.start == dt.timedelta(hours=hours)


def test_a_month_and_a_total() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    december = window_at("month", dt.datetime(2026, 12, 31, 22, 59, tzinfo=dt.UTC), berlin)
    assert december.start == dt.datetime(2026, 11, 30, 23, tzinfo=dt.UTC)
    assert december.end == dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC)
    assert window_at("total", december.start, berlin) == (BEGINNING, END)
