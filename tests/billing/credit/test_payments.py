"""Payments against the port, with a provider of the test's own. The order of events is free."""

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from typing_extensions import override

from accounts.models import AuditEvent, Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd, credit_summary
from billing.credit.payments import (
    Checkout,
    Order,
    PaymentProvider,
    ProviderEvent,
    UnableToPay,
    payment_event_receive,
    payment_start,
    payments_collect,
)
from billing.models import Grant, LedgerEntry, Payment, PaymentEvent, Wallet
from tests.committing import run_together
from tests.factories import ACTOR, make_grant, make_lease, make_organization, now

DOLLAR = 10**9
_numbers = itertools.count(1)


class Shop(PaymentProvider):
    name = "shop"

    @override
    def checkout_start(self, order: Order) -> Checkout:
        return Checkout(reference=f"order-{order.payment_id}", url="https://shop.example/pay")

    @override
    def event_read(self, payload: bytes, headers: Mapping[str, str]) -> ProviderEvent | None:
        return None


class Customer:
    """An organization with one payment of 10 dollars, and the provider's voice."""

    def __init__(self, *, strict_always: bool = False) -> None:
        self.organization: Organization = make_organization()
        Wallet.objects.update(strict=strict_always, strict_always=strict_always)
        self.payment, self.url = payment_start(
            organization_id=self.organization.pk,
            amount_nano_usd=10 * DOLLAR,
            provider=Shop(),
            actor=ACTOR,
            now=now(),
        )

    def event(self, kind: str, dollars: int = 0, **fields: Any) -> ProviderEvent:
        if kind in ("paid", "expired", "failed"):
            fields.setdefault("reference", self.payment.reference)
        fields.setdefault("intent", "" if kind == "expired" else f"money-{self.payment.pk}")
        return ProviderEvent(
            event_id=f"event-{next(_numbers)}",
            kind=kind,
            amount_nano_usd=dollars * DOLLAR,
            occurred_at=fields.pop("occurred_at", now()),
            **fields,
        )

    def told(self, *events: ProviderEvent) -> list[bool]:
        return [
            payment_event_receive(provider="shop", event=event, actor=ACTOR, now=now())
            for event in events
        ]

    @property
    def balance(self) -> int:
        return balance_nano_usd(self.organization.pk)

    def row(self) -> Payment:
        return Payment.objects.get(pk=self.payment.pk)

    def collect(self) -> int:
        return payments_collect(actor=ACTOR, now=now())


def assert_books_are_right() -> None:
    assert audit(retain_seconds=0) == []


@pytest.fixture
def customer(committing_db: str) -> Customer:
    return Customer()


def test_a_payment_is_credited_once_however_often_it_is_told(customer: Customer) -> None:
    assert customer.url == "https://shop.example/pay"
    paid = customer.event("paid", 10)
    assert customer.told(paid, paid, customer.event("paid", 10)) == [True, False, True]
    assert customer.balance == 10 * DOLLAR
    grant = Grant.objects.get()
    assert (grant.kind, grant.amount_nano_usd) == ("top_up", 10 * DOLLAR)
    assert (customer.row().state, customer.row().grant) == ("paid", grant)
    assert_books_are_right()


def test_b43_events_that_arrive_at_once_credit_once(customer: Customer) -> None:
    paid = customer.event("paid", 10)
    answers = run_together(*(lambda: customer.told(paid) for _ in range(8)))
    assert sorted(answers) == [[False]] * 7 + [[True]]
    assert customer.balance == 10 * DOLLAR


def test_the_order_of_events_does_not_matter(committing_db: str) -> None:
    for order in itertools.permutations(range(4)):
        customer = Customer()
        events = [
            customer.event("expired"),
            customer.event("paid", 10),
            customer.event("refunded", 3),
            customer.event("refunded", 7),
        ]
        customer.told(*(events[i] for i in order))
        assert (customer.balance, customer.row().state) == (3 * DOLLAR, "paid"), order
    assert_books_are_right()


def test_a_payment_three_days_late_counts(customer: Customer) -> None:
    customer.told(customer.event("expired"))
    assert customer.row().state == "expired"
    late = now() + dt.timedelta(days=3)
    paid = customer.event("paid", 10, occurred_at=late)
    payment_event_receive(provider="shop", event=paid, actor=ACTOR, now=late)
    assert (customer.row().state, customer.balance) == ("paid", 10 * DOLLAR)


def test_an_order_whose_answer_was_never_stored_is_credited_all_the_same(
    customer: Customer,
) -> None:
    """We died between the provider's answer and the next line."""
    Payment.objects.update(reference="")
    paid = customer.event("paid", 10, reference="order-1", payment_id=customer.payment.pk)
    customer.told(paid, customer.event("refunded", 4))
    assert customer.balance == 6 * DOLLAR
    assert customer.row().reference == "order-1"
    assert_books_are_right()


@pytest.mark.parametrize("changes", [{"dollars": 9}, {"dollars": 11}, {"currency": "eur"}])
def test_what_is_not_what_was_ordered_is_left_to_a_person(
    customer: Customer, changes: dict[str, Any]
) -> None:
    customer.told(customer.event("paid", **{"dollars": 10, **changes}))
    assert (customer.row().state, customer.balance) == ("review", 0)
    assert AuditEvent.objects.filter(action="payment.review").count() == 1


def test_events_of_strangers_change_nothing(customer: Customer) -> None:
    customer.told(
        customer.event("paid", 10, reference="another", intent="theirs"),
        customer.event("refunded", 10, intent="theirs"),
    )
    assert (customer.row().state, customer.balance) == ("open", 0)
    assert PaymentEvent.objects.filter(payment=None).count() == 2


@pytest.mark.parametrize(
    ("strict", "spent", "balance", "written_off"),
    [
        (False, 0, 0, 0),
        (False, 4, -4, 0),  # A debt, which the next money repays.
        (True, 0, 0, 0),
        (True, 4, 0, 4),
    ],
)
def test_a_refund_takes_back_what_it_can(
    committing_db: str, strict: bool, spent: int, balance: int, written_off: int
) -> None:
    customer = Customer(strict_always=strict)
    customer.told(customer.event("paid", 10))
    _spend(spent)
    customer.told(customer.event("refunded", 10))
    assert customer.balance == balance * DOLLAR
    assert customer.row().written_off_nano_usd == written_off * DOLLAR
    assert customer.row().due_nano_usd == 0
    summary = credit_summary(customer.organization.pk)
    gone = (summary.expired_nano_usd, summary.reversed_nano_usd, summary.used_nano_usd)
    assert gone == (0, (10 - written_off) * DOLLAR, spent * DOLLAR)


def test_other_money_pays_for_a_refund_in_the_order_in_which_it_burns(customer: Customer) -> None:
    customer.told(customer.event("paid", 10))
    _spend(10)
    soon = make_grant(
        customer.organization, amount_nano_usd=DOLLAR, expires_at=now() + dt.timedelta(days=1)
    )
    first = make_grant(customer.organization, amount_nano_usd=DOLLAR, priority=5)
    customer.told(customer.event("refunded", 1))
    soon.refresh_from_db()
    first.refresh_from_db()
    assert (first.reversed_nano_usd, soon.reversed_nano_usd) == (DOLLAR, 0)


def test_on_strict_holds_leased_money_is_taken_when_it_comes_back(committing_db: str) -> None:
    customer = Customer(strict_always=True)
    customer.told(customer.event("paid", 10))
    grant = Grant.objects.get()
    lease = make_lease(grant, granted_nano_usd=6 * DOLLAR)
    customer.told(customer.event("refunded", 10))
    assert (customer.row().collected_nano_usd, customer.row().due_nano_usd) == (
        4 * DOLLAR,
        6 * DOLLAR,
    )
    assert Wallet.objects.get().short_at is not None
    assert customer.collect() == 1
    assert customer.row().due_nano_usd == 6 * DOLLAR
    # It comes back with one dollar spent.
    lease.slices.all().delete()
    type(lease).objects.update(state="closed", granted_nano_usd=0)
    Grant.objects.update(leased_nano_usd=0, free_nano_usd=5 * DOLLAR, burnt_nano_usd=DOLLAR)
    Wallet.objects.update(balance_nano_usd=5 * DOLLAR)
    assert (customer.collect(), customer.collect()) == (1, 0)
    row = customer.row()
    assert (row.collected_nano_usd, row.written_off_nano_usd) == (9 * DOLLAR, DOLLAR)
    assert customer.balance == 0


def test_a_dispute_that_is_won_gives_the_money_back(committing_db: str) -> None:
    for order in itertools.permutations(range(3)):
        customer = Customer()
        events = [
            customer.event("paid", 10),
            customer.event("disputed", 10, dispute="d1"),
            customer.event("dispute_won", 10, dispute="d1"),
        ]
        customer.told(*(events[i] for i in order))
        assert customer.balance == 10 * DOLLAR, order
    assert_books_are_right()


def test_a_won_dispute_first_repays_the_operator(committing_db: str) -> None:
    customer = Customer(strict_always=True)
    customer.told(customer.event("paid", 10))
    _spend(4)
    customer.told(customer.event("disputed", 10, dispute="d1"))
    assert (customer.balance, customer.row().written_off_nano_usd) == (0, 4 * DOLLAR)
    customer.told(customer.event("dispute_won", 10, dispute="d1"))
    assert (customer.balance, customer.row().written_off_nano_usd) == (6 * DOLLAR, 0)
    accounts = LedgerEntry.objects.filter(account="write_off").values_list("amount_nano_usd")
    assert sum(amount for (amount,) in accounts) == 0


def test_a_refund_and_a_dispute_never_take_more_than_was_paid(customer: Customer) -> None:
    customer.told(
        customer.event("paid", 10),
        customer.event("refunded", 8),
        customer.event("disputed", 10, dispute="d1"),
    )
    assert customer.balance == 0
    assert customer.row().collected_nano_usd == 10 * DOLLAR
    assert_books_are_right()


@pytest.mark.parametrize("amount", [0, -DOLLAR, DOLLAR, 10_001 * DOLLAR, 10 * DOLLAR + 1])
def test_an_order_that_makes_no_sense_is_refused(committing_db: str, amount: int) -> None:
    organization = make_organization()
    with pytest.raises(UnableToPay):
        payment_start(
            organization_id=organization.pk,
            amount_nano_usd=amount,
            provider=Shop(),
            actor=ACTOR,
            now=now(),
        )
    assert not Payment.objects.exists()


def _spend(dollars: int) -> None:
    """As if calls had used up so much of the one grant."""
    grant = Grant.objects.get()
    grant.free_nano_usd -= dollars * DOLLAR
    grant.burnt_nano_usd += dollars * DOLLAR
    grant.save()
    wallet = Wallet.objects.get()
    wallet.balance_nano_usd -= dollars * DOLLAR
    wallet.save()
