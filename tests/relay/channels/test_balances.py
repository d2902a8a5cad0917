"""What vendors say of balances, read exactly or not at all."""

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.channels.balances import KINDS, Balance, UnreadableBalance, balance_of

ANSWERS: dict[str, list[Any]] = {
    "resold": [
        {"object": "billing_subscription", "hard_limit_usd": 20.1, "has_payment_method": True},
        {"object": "list", "total_usage": 1234.5678},
    ],
    "credit_grants": [{"object": "credit_summary", "total_available": 7.7542322}],
    "openrouter": [{"data": {"total_credits": 100.5, "total_usage": 25.75}}],
    "deepseek": [
        {
            "is_available": True,
            "balance_infos": [
                {"currency": "USD", "total_balance": "0.00", "granted_balance": "0.00"},
                {"currency": "CNY", "total_balance": "110.07", "granted_balance": "10.00"},
            ],
        }
    ],
}
EXPECTED = {
    "resold": Balance(7_754_322_000, "USD"),
    "credit_grants": Balance(7_754_232_200, "USD"),
    "openrouter": Balance(74_750_000_000, "USD"),
    "deepseek": Balance(110_070_000_000, "CNY"),
}


def read(kind: str, documents: list[Any]) -> Balance:
    return balance_of(kind, [json.dumps(document).encode() for document in documents])


@pytest.mark.parametrize("kind", KINDS)
def test_each_vendor_is_read_exactly(kind: str) -> None:
    assert read(kind, ANSWERS[kind]) == EXPECTED[kind]
    assert len(KINDS[kind].targets("/v1", dt.date(2026, 11, 21))) == len(ANSWERS[kind])


def test_a_balance_may_be_a_debt() -> None:
    assert read("openrouter", [{"data": {"total_credits": 1, "total_usage": 1.5}}]) == Balance(
        -500_000_000, "USD"
    )


@pytest.mark.parametrize("kind", KINDS)
@given(
    documents=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["data", "total_credits", "balance_infos", "total_available"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=6,
        ),
        min_size=1,
        max_size=2,
    )
)
def test_whatever_else_they_say_is_no_balance(kind: str, documents: list[Any]) -> None:
    try:
        found = read(kind, documents)
    except UnreadableBalance:
        return
    assert abs(found.nano) <= 10**18


def test_paths_stand_where_the_vendor_has_them() -> None:
    today = dt.date(2026, 11, 21)
    assert KINDS["deepseek"].targets("/v1", today) == ["/user/balance"]
    assert KINDS["deepseek"].targets("", today) == ["/user/balance"]
    assert KINDS["openrouter"].targets("/api/v1", today) == ["/api/v1/credits"]
    assert KINDS["resold"].targets("/v1", today)[1] == (
        "/v1/dashboard/billing/usage?start_date=2026-08-14&end_date=2026-11-22"
    )
