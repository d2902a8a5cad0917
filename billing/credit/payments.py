"""Payments: an order at a provider, the credit that it becomes, and what is taken back of it.

Providers tell twice, late, and in any order. So an event is only noted, once by its id; the
payment's state is then worked out anew from all that was noted, and money moves by the difference.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from django.conf import settings
from django.db import connection

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable, transaction_required
from billing.credit.grants import Credit, grant_add
from billing.credit.reversals import reverse, write_off_recover
from billing.models import Grant, Payment, PaymentEvent
from billing.money import format_usd, parse_usd

CURRENCY = "usd"
CENT_NANO_USD = 10_000_000

# What an event says, in words that every provider's can be put into.
PAID, FAILED, EXPIRED = "paid", "failed", "expired"
REFUNDED = "refunded"  # The amount is all that was refunded until then.
DISPUTED, DISPUTE_WON = "disputed", "dispute_won"


class UnableToPay(Refused):
    """The order makes no sense, or the provider did not take it."""


class ForgedEvent(Exception):
    """The event does not come from the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the provider is asked to collect."""

    payment_id: int
    organization: str
    amount_nano_usd: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """The provider's id of the order, and the page on which the customer pays it."""

    reference: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """One thing that a provider told, in our words; empty fields are not known."""

    event_id: str
    kind: str
    payment_id: int | None = None  # Ours, where the provider repeats what the order said.
    reference: str = ""
    intent: str = ""
    dispute: str = ""
    amount_nano_usd: int = 0
    currency: str = CURRENCY
    occurred_at: dt.datetime


class PaymentProvider(Protocol):
    """The port that a provider fills; it alone speaks HTTP."""

    name: str

    def checkout_start(self, order: Order) -> Checkout:
        """Raises UnableToPay."""

    def event_read(self, payload: bytes, headers: Mapping[str, str]) -> ProviderEvent | None:
        """None for what does not concern us. Raises ForgedEvent."""


def payment_start(
    *,
    organization_id: int,
    amount_nano_usd: int,
    provider: PaymentProvider,
    actor: Actor,
    now: dt.datetime,
) -> tuple[Payment, str]:
    """Order credit; returns the payment and the page to pay it on. Raises UnableToPay.

    The order is committed before the provider hears of it, and names our payment: what the provider
    tells is known even if we die before its answer is stored.
    """
    payment = _payment_open(
        organization_id=organization_id,
        amount_nano_usd=amount_nano_usd,
        provider=provider.name,
        actor=actor,
        now=now,
    )
    order = Order(
        payment_id=payment.pk,
        organization=payment.organization.slug,
        amount_nano_usd=amount_nano_usd,
    )
    checkout = provider.checkout_start(order)
    # Of an order that was paid meanwhile, the event has told it.
    Payment.objects.filter(pk=payment.pk, reference="").update(reference=checkout.reference)
    payment.reference = checkout.reference
    return payment, checkout.url


@durable
def payment_event_receive(
    *, provider: str, event: ProviderEvent, actor: Actor, now: dt.datetime
) -> bool:
    """Note the event and let it have its effect; False if it was noted before."""
    _one_at_a_time(provider)
    noted, is_new = PaymentEvent.objects.get_or_create(
        provider=provider,
        event_id=event.event_id,
        defaults={
            "kind": event.kind,
            "payment": _payment_of(provider, event),
            "intent": event.intent,
            "dispute": event.dispute,
            "amount_nano_usd": event.amount_nano_usd,
            "currency": event.currency,
            "occurred_at": event.occurred_at,
            "received_at": now,
        },
    )
    if is_new and noted.payment is not None:
        _payment_update(noted.payment, event, actor, now)
    return is_new


def payments_collect(*, actor: Actor, now: dt.datetime) -> int:
    """Take back what could not be taken at once; returns of how many payments something was due."""
    due = [payment.pk for payment in Payment.objects.filter(state="paid") if payment.due_nano_usd]
    for payment_id in due:
        _payment_collect(payment_id, actor, now)
    return len(due)


@durable
def _payment_open(
    *, organization_id: int, amount_nano_usd: int, provider: str, actor: Actor, now: dt.datetime
) -> Payment:
    least, most = parse_usd(settings.PAYMENT_LEAST_USD), parse_usd(settings.PAYMENT_MOST_USD)
    if not least <= amount_nano_usd <= most:
        raise UnableToPay(f"A payment is {format_usd(least)} to {format_usd(most)} USD.")
    if amount_nano_usd % CENT_NANO_USD:
        raise UnableToPay("A payment is a whole number of cents.")
    payment = Payment.objects.create(
        organization_id=organization_id,
        provider=provider,
        amount_nano_usd=amount_nano_usd,
        created_at=now,
    )
    _audit(payment, "payment.start", actor, {"amount_nano_usd": amount_nano_usd})
    return payment


@transaction_required
def _one_at_a_time(provider: str) -> None:
    """Two events of one payment must see each other; there are never many."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"payments {provider}"])


def _payment_of(provider: str, event: ProviderEvent) -> Payment | None:
    """The payment that the event names; None if it is not known yet, or none of ours."""
    payments = Payment.objects.select_for_update().filter(provider=provider)
    for name, value in (
        ("reference", event.reference),
        ("intent", event.intent),
        ("pk", event.payment_id),
    ):
        if value:
            found = payments.filter(**{name: value}).first()
            if found is not None:
                return found
    return None


def _payment_update(payment: Payment, event: ProviderEvent, actor: Actor, now: dt.datetime) -> None:
    payment.reference = payment.reference or event.reference
    if event.intent and not payment.intent:
        payment.intent = event.intent
        # What came before anybody could know whose it is.
        PaymentEvent.objects.filter(
            provider=payment.provider, intent=event.intent, payment=None
        ).update(payment=payment)
    events = list(payment.events.order_by("occurred_at", "id"))
    _conclude(payment, events, actor, now)
    payment.refunded_nano_usd = max(_amounts(events, REFUNDED), default=0)
    payment.disputed_nano_usd = sum(_open_disputes(events).values())
    payment.save()
    _settle(payment, actor, now)


def _conclude(
    payment: Payment, events: Iterable[PaymentEvent], actor: Actor, now: dt.datetime
) -> None:
    """Credit a payment that was made; it counts, however late it comes."""
    kinds = {event.kind for event in events}
    if payment.state == Payment.State.PAID:
        return
    if PAID not in kinds:
        if FAILED in kinds:
            payment.state = Payment.State.FAILED
        elif EXPIRED in kinds:
            payment.state = Payment.State.EXPIRED
        return
    [paid, *_] = [event for event in events if event.kind == PAID]
    if (paid.amount_nano_usd, paid.currency) != (payment.amount_nano_usd, CURRENCY):
        payment.state = Payment.State.REVIEW
        _audit(payment, "payment.review", actor, {"paid_nano_usd": paid.amount_nano_usd})
        return
    credit = Credit(
        organization_id=payment.organization_id,
        amount_nano_usd=payment.amount_nano_usd,
        kind=Grant.Kind.TOP_UP,
        reason=f"{payment} by {payment.provider}",
    )
    payment.grant = grant_add(credit=credit, actor=actor, now=now)
    payment.state, payment.paid_at = Payment.State.PAID, paid.occurred_at


def _amounts(events: Iterable[PaymentEvent], kind: str) -> list[int]:
    return [event.amount_nano_usd for event in events if event.kind == kind]


def _open_disputes(events: Iterable[PaymentEvent]) -> dict[str, int]:
    """What each dispute keeps from us. Won is won, in whatever order it was told."""
    disputes: dict[str, int] = {}
    won = {event.dispute for event in events if event.kind == DISPUTE_WON}
    for event in events:
        if event.kind == DISPUTED and event.dispute not in won:
            disputes[event.dispute] = max(disputes.get(event.dispute, 0), event.amount_nano_usd)
    return disputes


@durable
def _payment_collect(payment_id: int, actor: Actor, now: dt.datetime) -> None:
    _settle(Payment.objects.select_for_update().get(pk=payment_id), actor, now)


def _settle(payment: Payment, actor: Actor, now: dt.datetime) -> None:
    """Move the money that refunds and disputes have made due, in either direction."""
    due = payment.due_nano_usd
    if not due:
        return
    assert payment.grant_id is not None, "money is due of a payment that was credited"
    if due > 0:
        taken = reverse(
            organization_id=payment.organization_id,
            grant_id=payment.grant_id,
            amount_nano_usd=due,
            now=now,
        )
        payment.collected_nano_usd += taken.collected_nano_usd
        payment.written_off_nano_usd += taken.written_off_nano_usd
    else:
        _give_back(payment, -due, actor, now)
    payment.save(update_fields=["collected_nano_usd", "written_off_nano_usd"])
    _audit(
        payment,
        "payment.reverse",
        actor,
        {
            "refunded_nano_usd": payment.refunded_nano_usd,
            "disputed_nano_usd": payment.disputed_nano_usd,
            "collected_nano_usd": payment.collected_nano_usd,
            "written_off_nano_usd": payment.written_off_nano_usd,
        },
    )


def _give_back(payment: Payment, amount_nano_usd: int, actor: Actor, now: dt.datetime) -> None:
    """A dispute was won: first what the operator had given up, then what was taken."""
    recovered = min(amount_nano_usd, payment.written_off_nano_usd)
    if recovered:
        write_off_recover(
            organization_id=payment.organization_id, amount_nano_usd=recovered, now=now
        )
        payment.written_off_nano_usd -= recovered
    returned = amount_nano_usd - recovered
    if returned:
        credit = Credit(
            organization_id=payment.organization_id,
            amount_nano_usd=returned,
            kind=Grant.Kind.ADJUSTMENT,
            reason=f"{payment}: a dispute was won",
        )
        grant_add(credit=credit, actor=actor, now=now)
        payment.collected_nano_usd -= returned


def _audit(payment: Payment, action: str, actor: Actor, details: dict[str, int]) -> None:
    audit_event_record(
        actor=actor,
        action=action,
        subject=f"{payment} of {format_usd(payment.amount_nano_usd)} USD",
        organization=payment.organization,
        details={"payment": payment.pk, **details},
    )
