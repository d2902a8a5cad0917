"""Amounts, fractions and rates: exact or refused."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.money import (
    BIGINT_MAX,
    InvalidMoney,
    format_ppm,
    format_usd,
    parse_fraction_ppm,
    parse_usd,
    rate_pico_usd,
)


@pytest.mark.parametrize(
    ("value", "nano_usd"),
    [
        ("0", 0),
        ("-0.0", 0),
        ("5", 5_000_000_000),
        ("0.02", 20_000_000),
        ("00.02", 20_000_000),
        ("0.000000001", 1),
        ("-1.5", -1_500_000_000),
        ("9223372036.854775807", BIGINT_MAX),
        (7, 7_000_000_000),
        (Decimal("0.10"), 100_000_000),
        (Decimal("1E+2"), 100_000_000_000),
        (Decimal("1E-9"), 1),
        (Decimal("0E+999999999"), 0),
        (Decimal("2.50000000000000"), 2_500_000_000),
    ],
)
def test_dollars_become_nano_usd(value: str | Decimal | int, nano_usd: int) -> None:
    assert parse_usd(value) == nano_usd


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        True,
        None,
        b"1",
        "",
        " 1",
        "1\n",
        "+1",
        ".5",
        "1.",
        "1,5",
        "1_000",
        "1e3",
        "$1",
        "NaN",
        "Infinity",
        "٣",
        "1.5.0",
        "0.0000000001",
        "1." + "0" * 40,
        "9223372036.854775808",
        "-9223372036.854775808",
        10**400,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("1E-10"),
        Decimal("1E+10"),
        Decimal("1E+999999999"),
        Decimal("1E-999999999"),
    ],
)
def test_what_is_no_exact_amount_is_refused(value: Any) -> None:
    with pytest.raises(InvalidMoney):
        parse_usd(value)


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.00"),
        (20_000_000, "0.02"),
        (5_000_000_000, "5.00"),
        (12_500, "0.0000125"),
        (1, "0.000000001"),
        (-1_500_000_000, "-1.50"),
        (-1, "-0.000000001"),
        (BIGINT_MAX, "9223372036.854775807"),
    ],
)
def test_nano_usd_are_written_exactly(nano_usd: int, text: str) -> None:
    assert format_usd(nano_usd) == text


@settings(deadline=None)
@given(st.integers(min_value=-BIGINT_MAX, max_value=BIGINT_MAX))
def test_what_is_written_is_read_back(nano_usd: int) -> None:
    assert parse_usd(format_usd(nano_usd)) == nano_usd


@pytest.mark.parametrize(
    ("value", "ppm"),
    [("0.5", 500_000), ("1", 1_000_000), ("0.000001", 1), (1, 1_000_000), ("1.000000", 1_000_000)],
)
def test_a_fraction_becomes_parts_per_million(value: str | int, ppm: int) -> None:
    assert parse_fraction_ppm(value) == ppm


@pytest.mark.parametrize("value", ["0", "-0.5", "0.0000001", "1.000001", "5", 5, "50%", 0.5])
def test_what_is_no_discount_is_refused(value: Any) -> None:
    with pytest.raises(InvalidMoney):
        parse_fraction_ppm(value)


def test_a_surcharge_has_to_be_asked_for() -> None:
    assert parse_fraction_ppm("1.25", allow_surcharge=True) == 1_250_000
    assert parse_fraction_ppm("100", allow_surcharge=True) == 100_000_000
    with pytest.raises(InvalidMoney):
        parse_fraction_ppm("100.000001", allow_surcharge=True)
    with pytest.raises(InvalidMoney):
        parse_fraction_ppm("0", allow_surcharge=True)


@pytest.mark.parametrize(
    ("ppm", "text"),
    [(500_000, "0.5"), (1_000_000, "1"), (1, "0.000001"), (100_000_000, "100"), (0, "0")],
)
def test_parts_per_million_are_written_as_a_fraction(ppm: int, text: str) -> None:
    assert format_ppm(ppm) == text


@pytest.mark.parametrize(
    ("usd_per_million", "pico_usd"),
    [("2.5", 2_500_000), ("0.005", 5_000), ("0", 0), ("0.000001", 1), ("600", 600_000_000)],
)
def test_a_rate_per_million_is_pico_usd_each(usd_per_million: str, pico_usd: int) -> None:
    assert rate_pico_usd(usd_per_million) == pico_usd


@pytest.mark.parametrize("value", ["-1", "0.0000001", "", "2,5", 2.5, "8e-7"])
def test_what_is_no_whole_pico_usd_is_refused(value: Any) -> None:
    with pytest.raises(InvalidMoney):
        rate_pico_usd(value)
