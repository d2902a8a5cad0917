"""Stripe Checkout behind the port of billing.credit.payments."""

import datetime as dt
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import stripe
from typing_extensions import override

from billing.credit.payments import (
    CENT_NANO_USD,
    CURRENCY,
    DISPUTE_WON,
    DISPUTED,
    EXPIRED,
    FAILED,
    PAID,
    REFUNDED,
    Checkout,
    ForgedEvent,
    Order,
    PaymentProvider,
    ProviderEvent,
    UnableToPay,
)

logger = logging.getLogger(__name__)

SIGNATURE_HEADER = "stripe-signature"
# Stripe signs each delivery anew, so a late one is not an old one; an older signature is a replay.
TOLERANCE_SECONDS = 300
TIMEOUT_SECONDS = 20
MAX_DIGITS = 18  # Of what the database takes for an id.

_CHECKOUT_KINDS = {
    "checkout.session.completed": PAID,
    "checkout.session.async_payment_succeeded": PAID,
    "checkout.session.async_payment_failed": FAILED,
    "checkout.session.expired": EXPIRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeCheckout(PaymentProvider):
    secret_key: str
    webhook_secret: str
    api_url: str
    public_url: str
    brand: str

    name = "stripe"

    @override
    def checkout_start(self, order: Order) -> Checkout:
        client = stripe.StripeClient(
            self.secret_key,
            base_addresses={"api": self.api_url},
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
            max_network_retries=2,
        )
        try:
            session = client.v1.checkout.sessions.create(
                {
                    "mode": "payment",
                    "client_reference_id": str(order.payment_id),
                    "metadata": {
                        "payment": str(order.payment_id),
                        "organization": order.organization,
                    },
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": CURRENCY,
                                "unit_amount": order.amount_nano_usd // CENT_NANO_USD,
                                "product_data": {"name": f"{self.brand} credit"},
                            },
                        }
                    ],
                    "success_url": f"{self.public_url}/payments/thanks",
                    "cancel_url": f"{self.public_url}/payments/cancelled",
                },
                # However often it is tried, it is one order.
                {"idempotency_key": f"tollgate-payment-{order.payment_id}"},
            )
        except stripe.StripeError as error:
            logger.error("Stripe did not take payment %s: %s", order.payment_id, error)  # noqa: TRY400  Its message is enough.
            raise UnableToPay("The payment provider did not take the order. Try again.") from error
        if not session.url:
            raise UnableToPay("The payment provider named no page to pay on.")
        return Checkout(reference=session.id, url=session.url)

    @override
    def event_read(self, payload: bytes, headers: Mapping[str, str]) -> ProviderEvent | None:
        try:
            text = payload.decode()
            stripe.WebhookSignature.verify_header(
                text, headers.get(SIGNATURE_HEADER, ""), self.webhook_secret, TOLERANCE_SECONDS
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError, ValueError) as error:
            raise ForgedEvent(str(error)) from error
        return _event_of(json.loads(text))


def _event_of(event: dict[str, Any]) -> ProviderEvent | None:
    about = event["data"]["object"]
    kind = _kind_of(event["type"], about)
    if kind is None:
        return None
    is_checkout = kind in (PAID, FAILED, EXPIRED)
    amount = {
        PAID: about.get("amount_total"),
        REFUNDED: about.get("amount_refunded"),
        DISPUTED: about.get("amount"),
        DISPUTE_WON: about.get("amount"),
    }.get(kind)
    return ProviderEvent(
        event_id=event["id"],
        kind=kind,
        payment_id=_payment_id(about) if is_checkout else None,
        reference=about["id"] if is_checkout else "",
        intent=about.get("payment_intent") or "",
        dispute=about["id"] if kind in (DISPUTED, DISPUTE_WON) else "",
        amount_nano_usd=(amount or 0) * CENT_NANO_USD,
        currency=about.get("currency") or "",
        occurred_at=dt.datetime.fromtimestamp(event["created"], dt.UTC),
    )


def _payment_id(checkout: Mapping[str, Any]) -> int | None:
    """Which of our payments the order was for; None if it is none of ours."""
    text = str((checkout.get("metadata") or {}).get("payment") or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def _kind_of(event_type: str, about: Mapping[str, Any]) -> str | None:
    kind = _CHECKOUT_KINDS.get(event_type)
    if kind == PAID:
        # A completed checkout may still wait for its money: a bank transfer, a direct debit.
        return PAID if about.get("payment_status") == "paid" else None
    if kind is not None:
        return kind
    if event_type == "charge.refunded":
        return REFUNDED
    if event_type == "charge.dispute.created":
        return DISPUTED
    if event_type == "charge.dispute.closed":
        return DISPUTE_WON if about.get("status") == "won" else None
    return None
