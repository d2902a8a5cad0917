"""Grants burn, expire and come back as a simple list of their coins says they should."""

import datetime as dt
import itertools
from dataclasses import dataclass

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing.credit.balance import balance_nano_usd
from billing.credit.collecting import Demand, collect
from billing.credit.grants import Credit, burn_order, grant_credit, grants_expire
from billing.credit.refunds import UnableToRefund, charge_refund
from billing.engine.money_moves import burn_order as engine_order
from billing.models import Grant, LedgerEntry, Wallet
from billing.organizations import organization_open
from tests.factories import ACTOR, make_usage_record

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
_names = (f"Ordered {number}" for number in itertools.count())

AMOUNTS = st.integers(1, 1000)
STEPS = st.lists(
    st.one_of(
        # Amount, priority, and after how many hours it expires.
        st.tuples(st.just("grant"), AMOUNTS, st.integers(-2, 2), st.none() | st.integers(1, 6)),
        st.tuples(st.just("burn"), AMOUNTS, st.just(0), st.none()),
        st.tuples(st.just("hours"), st.integers(1, 4), st.just(0), st.none()),
        st.tuples(st.just("refund"), AMOUNTS, st.just(0), st.none()),
    ),
    min_size=1,
    max_size=14,
)


@dataclass
class Pile:
    """What is left of one grant, by the oracle."""

    number: int
    left: int
    priority: int
    expires_at: dt.datetime | None


class Oracle:
    """A wallet as one would keep it on paper."""

    def __init__(self) -> None:
        self.piles: list[Pile] = []
        self.expired = 0

    def grant(self, amount: int, priority: int, expires_at: dt.datetime | None) -> None:
        self.piles.append(Pile(len(self.piles), amount, priority, expires_at))

    def burn(self, amount: int) -> int:
        """Priority, then the earliest expiry (never comes last), then the oldest."""
        taken = 0
        for pile in sorted(
            self.piles,
            key=lambda p: (
                -p.priority,
                p.expires_at or dt.datetime.max.replace(tzinfo=dt.UTC),
                p.number,
            ),
        ):
            part = min(pile.left, amount - taken)
            pile.left -= part
            taken += part
        return taken

    def expire(self, now: dt.datetime) -> None:
        for pile in self.piles:
            if pile.expires_at is not None and pile.expires_at <= now:
                self.expired += pile.left
                pile.left = 0


@pytest.mark.django_db
@settings(
    deadline=None,
    max_examples=40,
    # The database is shared by the examples: each has an organization of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_grants_burn_in_their_order_and_refunds_stay_within_the_charge(
    steps: list[tuple[str, int, int, int | None]],
) -> None:
    now, oracle = START, Oracle()
    organization = organization_open(
        name=next(_names), quota_nano_usd=0, strict=True, actor=ACTOR, now=now
    ).organization
    record = make_usage_record(organization, at=now, charge_nano_usd=1500)
    refunded = 0
    for step, amount, priority, hours in steps:
        if step == "grant":
            expires_at = None if hours is None else now + hours * HOUR
            credit = Credit(
                organization_id=organization.pk,
                amount_nano_usd=amount,
                priority=priority,
                expires_at=expires_at,
            )
            grant_credit(credit=credit, actor=ACTOR, now=now)
            oracle.grant(amount, priority, expires_at)
        elif step == "burn":
            assert _burn(organization, amount, now) == oracle.burn(amount)
        elif step == "hours":
            now += amount * HOUR
            grants_expire(now=now)
            oracle.expire(now)
        elif refunded + amount <= record.charge_nano_usd:
            _refund(record.request_id, amount, now)
            refunded += amount
            oracle.grant(amount, 0, None)
        else:
            with pytest.raises(UnableToRefund):
                _refund(record.request_id, amount, now)
        _compare(organization, oracle)
    grants_expire(now=now + 10_000 * HOUR)


def _burn(organization: Organization, amount: int, now: dt.datetime) -> int:
    demand = Demand(
        organization_id=organization.pk,
        amount_nano_usd=amount,
        account=LedgerEntry.Account.REVENUE,
        part="burnt",
        reason="test",
    )
    with transaction.atomic():
        return collect(demand, now=now).collected_nano_usd


def _refund(request_id: object, amount: int, now: dt.datetime) -> None:
    charge_refund(request_id=request_id, amount_nano_usd=amount, reason="", actor=ACTOR, now=now)  # type: ignore[arg-type]  # A record's own id.


def _compare(organization: Organization, oracle: Oracle) -> None:
    grants = Grant.objects.filter(organization=organization).order_by("id")
    assert [grant.free_nano_usd for grant in grants] == [pile.left for pile in oracle.piles]
    assert sum(grant.expired_nano_usd for grant in grants) == oracle.expired
    left = sum(pile.left for pile in oracle.piles)
    assert balance_nano_usd(organization.pk) == left
    wallet = Wallet.objects.get(organization=organization)
    assert (wallet.balance_nano_usd, wallet.debt_nano_usd) == (left, 0)


@given(
    rows=st.lists(
        st.tuples(st.integers(-3, 3), st.none() | st.integers(0, 5)), min_size=1, max_size=12
    )
)
def test_workers_burn_in_the_order_in_which_the_console_does(
    rows: list[tuple[int, int | None]],
) -> None:
    grants = [
        Grant(id=number, priority=priority, expires_at=None if at is None else START + at * HOUR)
        for number, (priority, at) in enumerate(rows)
    ]
    by_workers = sorted(
        grants, key=lambda one: engine_order(one.pk, 1, one.expires_at, one.priority)
    )
    assert by_workers == sorted(grants, key=burn_order)
