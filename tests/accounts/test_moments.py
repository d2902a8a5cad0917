import datetime as dt

import pytest

from accounts.moments import InvalidMoment, expiry_parse

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", NOW + dt.timedelta(days=30)),
        ("12h", NOW + dt.timedelta(hours=12)),
        ("45m", NOW + dt.timedelta(minutes=45)),
        ("2w", NOW + dt.timedelta(weeks=2)),
        (" 30D ", NOW + dt.timedelta(days=30)),
        ("1 d", NOW + dt.timedelta(days=1)),
        ("2026-06-01", dt.datetime(2026, 6, 1, tzinfo=dt.UTC)),
        ("2026-06-01T12:00", dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)),
        ("2026-06-01 12:00:30", dt.datetime(2026, 6, 1, 12, 0, 30, tzinfo=dt.UTC)),
        ("2026-06-01T12:00Z", dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)),
        ("2026-06-01T12:00+08:00", dt.datetime(2026, 6, 1, 4, tzinfo=dt.UTC)),
        ("never", None),
        ("Never", None),
    ],
)
def test_what_people_type(text: str, moment: dt.datetime | None) -> None:
    assert expiry_parse(text, now=NOW) == moment


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no moment"),
        ("tomorrow", "is no moment"),
        ("30", "is no moment"),
        ("d", "is no moment"),
        ("-3d", "is no moment"),
        ("1.5d", "is no moment"),
        ("30y", "is no moment"),
        ("2026-13-01", "is no moment"),
        ("2026-02-30", "is no moment"),
        ("0001-01-01T00:00+14:00", "is no moment"),
        ("999999w", "too far away"),
        ("1234567d", "is no moment"),
        ("0d", "not in the future"),
        ("2026-05-17", "not in the future"),
        ("2020-01-01", "not in the future"),
    ],
)
def test_what_is_no_expiry_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidMoment, match=complaint):
        expiry_parse(text, now=NOW)
