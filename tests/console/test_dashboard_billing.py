import datetime as dt
from typing import Any

import pytest

from accounts.models import Organization
from billing.models import Grant, LeaseSlice
from tests.console.conftest import Get
from tests.factories import make_grant, make_lease, make_usage_record

BILLING = "/v1/dashboard/billing"
FIRST = dt.datetime(2026, 11, 10, 12, tzinfo=dt.UTC)
NEVER = 253402214400  # 9999-12-31


def total_usage(get: Get, query: str) -> Any:
    response = get(f"{BILLING}/usage?{query}")
    assert response.status_code == 200
    assert response.json()["object"] == "list"
    return response.json()["total_usage"]


@pytest.fixture
def three_days(organization: Organization) -> None:
    """1, 2 and 4 cents on three days that follow each other."""
    for later, charge in enumerate((10_000_000, 20_000_000, 40_000_000)):
        make_usage_record(organization, at=FIRST + dt.timedelta(days=later), charge_nano_usd=charge)


@pytest.mark.usefixtures("three_days")
@pytest.mark.parametrize(
    ("query", "cents"),
    [
        ("start_date=2026-11-01&end_date=2026-11-13", 7),
        ("start_date=2026-11-11&end_date=2026-11-11", 2),
        ("start_date=2026-11-11&end_date=2026-11-12", 6),
        ("start_date=2026-11-12&end_date=2026-11-11", 6),  # Swapped.
        ("start_date=2026-11-11", 6),
        ("end_date=2026-11-11", 3),
        ("start_date=junk&end_date=2026-11-10", 1),
        ("start_date=junk&start_date=2026-11-12&end_date=9999-99-99", 4),
        ("start_date=2026-11-10&start_date=2026-11-12&end_date=2026-11-12", 7),
        ("start_date=1066-10-14", 0),  # Says nothing, like no date at all: the wallet's own sum.
    ],
)
def test_dates_are_utc_days_and_never_an_error(get: Get, query: str, cents: int) -> None:
    assert total_usage(get, query) == cents


@pytest.mark.usefixtures("three_days")
@pytest.mark.parametrize("call", ["usage", "subscription", "credit_grants"])
@pytest.mark.parametrize(
    "query",
    [
        "path=dashboard&path=billing&path=usage",
        "format=xml",
        "start_date=%FF%00&end_date[]=1&=&&limit=-1",
        "start_date=&end_date=",
    ],
)
def test_parameters_that_clients_append_change_nothing(get: Get, call: str, query: str) -> None:
    plain, odd = get(f"{BILLING}/{call}"), get(f"{BILLING}/{call}?{query}", accept="text/plain")
    assert (odd.status_code, odd.json()) == (200, plain.json())


def test_usage_is_in_cents_to_the_nano_dollar(get: Get, organization: Organization) -> None:
    make_usage_record(organization, at=FIRST, charge_nano_usd=123)
    assert get(f"{BILLING}/usage?end_date=2026-11-30").content == (
        b'{"object":"list","total_usage":1.23e-05}'
    )


def test_limit_less_usage_is_the_balance(get: Get, organization: Organization) -> None:
    grant = make_grant(organization, amount_nano_usd=5_000_000_000)
    make_lease(grant, granted_nano_usd=3_000_000_000, spent_nano_usd=1_250_000_000)
    make_grant(
        organization,
        amount_nano_usd=2_000_000_000,
        free_nano_usd=500_000_000,
        expired_nano_usd=1_500_000_000,
    )
    wallet = organization.wallet
    wallet.refresh_from_db()
    wallet.balance_nano_usd -= 1_500_000_000
    wallet.save()
    subscription = get(f"{BILLING}/subscription").json()
    assert subscription == {
        "object": "billing_subscription",
        "has_payment_method": True,
        "soft_limit_usd": 5.5,
        "hard_limit_usd": 5.5,
        "system_hard_limit_usd": 5.5,
        "access_until": NEVER,
    }
    assert total_usage(get, "") == 125
    assert get("/v1/usage").json()["balance_nano_usd"] == 4_250_000_000


def test_grants_tell_what_calls_used_also_of_open_leases(
    get: Get, organization: Organization
) -> None:
    expiry = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    made = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    first = make_grant(
        organization,
        amount_nano_usd=1_000_000_000,
        kind=Grant.Kind.FREE_QUOTA,
        expires_at=expiry,
        created_at=made,
    )
    second = make_grant(organization, amount_nano_usd=4_000_000_000, created_at=expiry)
    # One lease of both: what it spent is burnt from the front.
    lease = make_lease(first, granted_nano_usd=1_000_000_000)
    LeaseSlice.objects.create(lease=lease, position=1, grant=second, amount_nano_usd=2_000_000_000)
    lease.granted_nano_usd, lease.spent_nano_usd = 3_000_000_000, 1_500_000_000
    lease.save()
    second.free_nano_usd, second.leased_nano_usd = 2_000_000_000, 2_000_000_000
    second.save()
    organization.wallet.refresh_from_db()
    organization.wallet.balance_nano_usd = 2_000_000_000
    organization.wallet.save()
    assert get(f"{BILLING}/credit_grants").json() == {
        "object": "credit_summary",
        "total_granted": 5.0,
        "total_used": 1.5,
        "total_available": 3.5,
        "grants": {
            "object": "list",
            "data": [
                {
                    "object": "credit_grant",
                    "id": f"grant_{first.pk}",
                    "grant_amount": 1.0,
                    "used_amount": 1.0,
                    "effective_at": int(made.timestamp()),
                    "expires_at": int(expiry.timestamp()),
                },
                {
                    "object": "credit_grant",
                    "id": f"grant_{second.pk}",
                    "grant_amount": 4.0,
                    "used_amount": 0.5,
                    "effective_at": int(expiry.timestamp()),
                    "expires_at": NEVER,
                },
            ],
        },
    }


def test_a_key_without_any_money_gets_zeros(get: Get) -> None:
    assert total_usage(get, "") == 0
    assert get(f"{BILLING}/subscription").json()["hard_limit_usd"] == 0
    grants = get(f"{BILLING}/credit_grants").json()
    assert (grants["total_granted"], grants["grants"]["data"]) == (0, [])


@pytest.mark.parametrize("call", ["usage", "subscription", "credit_grants"])
def test_each_call_is_cheap(get: Get, call: str, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(3):
        assert get(f"{BILLING}/{call}").status_code == 200
