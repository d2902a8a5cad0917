"""No money appears or vanishes, whatever comes in, is leased, owed, or expires."""

import datetime as dt
import itertools

import pytest
from django.db import transaction
from django.db.models import F, Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing.credit.grants import Credit, grant_credit, grants_expire, wallet_lock
from billing.credit.ledger import Leg, posting_create
from billing.models import Grant, LedgerEntry, Wallet
from billing.organizations import organization_open
from tests.factories import ACTOR

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
Account = LedgerEntry.Account

_names = (f"Conserved {number}" for number in itertools.count())

AMOUNTS = st.one_of(st.integers(1, 100), st.integers(1, 10**15))
STEPS = st.lists(
    st.one_of(
        # A grant, and after how many hours it expires.
        st.tuples(st.just("grant"), AMOUNTS, st.one_of(st.none(), st.integers(1, 12))),
        st.tuples(st.just("expire"), st.just(0), st.integers(0, 12)),
        # What calls do: money leaves the wallet, and more than it has if the holds allow it.
        st.tuples(st.just("lease"), AMOUNTS, st.none()),
    ),
    max_size=12,
)


def lease(organization: Organization, amount_nano_usd: int) -> int:
    """Move money to escrow as a worker does; returns how much of it came out of the wallet."""
    with transaction.atomic():
        wallet = wallet_lock(organization.pk)
        rest = amount_nano_usd
        for grant in Grant.objects.filter(organization=organization).order_by("id"):
            part = min(rest, grant.free_nano_usd)
            Grant.objects.filter(pk=grant.pk).update(
                free_nano_usd=F("free_nano_usd") - part, leased_nano_usd=F("leased_nano_usd") + part
            )
            rest -= part
        owed = 0 if wallet.strict else rest
        taken = amount_nano_usd - rest + owed
        wallet.balance_nano_usd -= taken
        wallet.debt_nano_usd += owed
        wallet.save()
        if taken:
            legs = [Leg(Account.WALLET, -taken), Leg(Account.ESCROW, taken)]
            posting_create(organization_id=organization.pk, reason="test", legs=legs, now=START)
    return taken


def account_sum(organization: Organization, account: Account) -> int:
    entries = LedgerEntry.objects.filter(organization=organization, account=account)
    return int(entries.aggregate(sum=Sum("amount_nano_usd"))["sum"] or 0)


def check(organization: Organization, *, granted: int, expired: int, leased: int) -> None:
    wallet = Wallet.objects.get(organization=organization)
    grants = list(Grant.objects.filter(organization=organization))
    free = sum(grant.free_nano_usd for grant in grants)
    assert wallet.balance_nano_usd == free - wallet.debt_nano_usd
    assert wallet.balance_nano_usd == account_sum(organization, Account.WALLET)
    assert wallet.balance_nano_usd == granted - expired - leased
    assert account_sum(organization, Account.SOURCE) == -granted
    assert account_sum(organization, Account.EXPIRED) == expired
    assert account_sum(organization, Account.ESCROW) == leased
    assert sum(grant.expired_nano_usd for grant in grants) == expired
    assert not (wallet.debt_nano_usd and free), "debt is repaid before money is free"
    assert not (wallet.strict and wallet.debt_nano_usd)
    postings = LedgerEntry.objects.filter(organization=organization).values("posting")
    odd = postings.annotate(sum=Sum("amount_nano_usd")).exclude(sum=0)
    assert not odd.exists()


@pytest.mark.django_db
@settings(
    deadline=None,
    max_examples=60,
    # The database is shared by the examples: each has an organization of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(quota=st.integers(0, 10**12), strict=st.sampled_from([None, True, False]), steps=STEPS)
def test_money_is_conserved(
    quota: int, strict: bool | None, steps: list[tuple[str, int, int | None]]
) -> None:
    now = START
    opened = organization_open(
        name=next(_names), quota_nano_usd=quota, strict=strict, actor=ACTOR, now=now
    )
    organization = opened.organization
    granted, expired, leased = quota, 0, 0
    check(organization, granted=granted, expired=expired, leased=leased)
    for step, amount, hours in steps:
        if step == "grant":
            expires_at = None if hours is None else now + hours * HOUR
            credit = Credit(
                organization_id=organization.pk, amount_nano_usd=amount, expires_at=expires_at
            )
            grant_credit(credit=credit, actor=ACTOR, now=now)
            granted += amount
        elif step == "expire":
            now += (hours or 0) * HOUR
            expired += grants_expire(now=now).amount_nano_usd
            due = Grant.objects.filter(organization=organization, expires_at__lte=now)
            assert not due.filter(free_nano_usd__gt=0).exists()
        else:
            leased += lease(organization, amount)
        check(organization, granted=granted, expired=expired, leased=leased)
    # Nothing of this example is left for the next one's expiries.
    grants_expire(now=now + 10_000 * HOUR)
