"""Stripe Checkout: events signed as Stripe signs them, and a Stripe of our own on loopback."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.core.management import CommandError
from django.test import Client
from pytest_django import Settings
from typing_extensions import override

from accounts.models import Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd
from billing.models import Grant, Payment, PaymentEvent
from gateway.checks import settings_check
from tests.commands import ask, say
from tests.committing import run_together
from tests.factories import make_organization

SECRET = "whsec_0123456789"
URL = "/webhooks/stripe"


class Stripe(ThreadingHTTPServer):
    """Answers orders of checkouts, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.orders: list[dict[str, list[str]]] = []
        self.idempotency_keys: list[str | None] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Stripe

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.orders.append(parse_qs(body))
        self.server.idempotency_keys.append(self.headers["idempotency-key"])
        assert self.headers["authorization"] == "Bearer sk_test_1"
        number = len(self.server.orders)
        answer: dict[str, Any] = {
            "id": f"cs_{number}",
            "object": "checkout.session",
            "url": f"https://checkout.example/cs_{number}",
        }
        if self.server.status != 200:
            answer = {"error": {"type": "invalid_request_error", "message": "No."}}
        data = json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stripe(settings: Settings) -> Iterator[Stripe]:
    with Stripe() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings.STRIPE_SECRET_KEY = "sk_test_1"
        settings.STRIPE_WEBHOOK_SECRET = SECRET
        settings.STRIPE_URL = server.url
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def acme(committing_db: str) -> Organization:
    return make_organization("acme")


def event(kind: str, number: int, **about: Any) -> bytes:
    """As Stripe serializes one."""
    return json.dumps(
        {
            "id": f"evt_{number}",
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "data": {"object": {"payment_intent": "pi_1", "currency": "usd", **about}},
        }
    ).encode()


def completed(number: int = 1, **about: Any) -> bytes:
    fields = {"id": "cs_1", "amount_total": 1250, "payment_status": "paid", **about}
    return event("checkout.session.completed", number, **fields)


def tell(payload: bytes, *, secret: str = SECRET, age: int = 0, signature: str = "") -> Any:
    moment = int(time.time()) - age
    signed = hmac.new(secret.encode(), f"{moment}.".encode() + payload, hashlib.sha256)
    return Client(enforce_csrf_checks=True).post(
        URL,
        payload,
        content_type="application/json",
        headers={"stripe-signature": signature or f"t={moment},v1={signed.hexdigest()}"},
    )


def test_credit_is_ordered_paid_and_refunded(stripe: Stripe, acme: Organization) -> None:
    answer = ask("payment_start", "acme", "12.50")
    assert answer["url"] == "https://checkout.example/cs_1"
    [order] = stripe.orders
    assert order["line_items[0][price_data][unit_amount]"] == ["1250"]
    assert order["metadata[payment]"] == [str(answer["payment"])]
    assert stripe.idempotency_keys == [f"tollgate-payment-{answer['payment']}"]

    assert tell(completed()).json() == {"received": True, "new": True}
    assert tell(completed()).json() == {"received": True, "new": False}
    assert balance_nano_usd(acme.pk) == 12_500_000_000

    refund = event("charge.refunded", 2, id="ch_1", amount=1250, amount_refunded=250)
    assert tell(refund).status_code == 200
    assert balance_nano_usd(acme.pk) == 10_000_000_000

    dispute = {"id": "dp_1", "amount": 1000}
    assert tell(event("charge.dispute.created", 3, **dispute)).status_code == 200
    assert balance_nano_usd(acme.pk) == 0
    assert tell(event("charge.dispute.closed", 4, status="won", **dispute)).status_code == 200
    assert balance_nano_usd(acme.pk) == 10_000_000_000


def test_a_payment_is_known_by_what_the_order_said_of_it(
    stripe: Stripe, acme: Organization
) -> None:
    payment = ask("payment_start", "acme", "12.50")["payment"]
    Payment.objects.update(reference="")  # As if we had died before it was stored.
    for metadata in (None, {}, {"payment": "x"}, {"payment": "9" * 40}, {"payment": "0"}):
        tell(completed(hash(str(metadata)), metadata=metadata))
        assert balance_nano_usd(acme.pk) == 0
    tell(completed(7, metadata={"payment": str(payment)}))
    assert balance_nano_usd(acme.pk) == 12_500_000_000


def test_a_bank_transfer_counts_when_its_money_has_come(stripe: Stripe, acme: Organization) -> None:
    ask("payment_start", "acme", "12.50")
    assert tell(completed(payment_status="unpaid")).json()["new"] is False
    assert balance_nano_usd(acme.pk) == 0
    about = {"id": "cs_1", "amount_total": 1250, "payment_status": "paid"}
    tell(event("checkout.session.async_payment_succeeded", 2, **about))
    assert balance_nano_usd(acme.pk) == 12_500_000_000


@pytest.mark.parametrize(
    "forgery",
    [
        {"secret": "whsec_another"},
        {"age": 301},
        {"signature": "t=1,v1=00"},
        {"signature": "nonsense"},
        {"signature": "t=,v1="},
    ],
)
def test_forged_and_replayed_events_are_refused(
    stripe: Stripe, acme: Organization, forgery: dict[str, Any]
) -> None:
    ask("payment_start", "acme", "12.50")
    assert tell(completed(), **forgery).status_code == 400
    assert not PaymentEvent.objects.exists()
    assert balance_nano_usd(acme.pk) == 0


def test_without_its_secrets_there_is_no_webhook(settings: Settings, acme: Organization) -> None:
    settings.STRIPE_SECRET_KEY = ""
    assert tell(completed()).status_code == 404
    assert Client().post("/webhooks/nobody").status_code == 404
    with pytest.raises(CommandError, match="No payment provider"):
        ask("payment_start", "acme", "10")


@pytest.mark.parametrize("secret", ["", "   "])
def test_b44_without_a_webhook_secret_nothing_can_be_forged(
    stripe: Stripe, settings: Settings, acme: Organization, secret: str
) -> None:
    payment = Payment.objects.create(
        organization=acme, provider="stripe", reference="cs_1", amount_nano_usd=12_500_000_000
    )
    settings.STRIPE_WEBHOOK_SECRET = secret.strip()
    for signed_with in ("", " ", SECRET):
        assert tell(completed(), secret=signed_with).status_code == 404
    payment.refresh_from_db()
    assert (payment.state, PaymentEvent.objects.count()) == ("open", 0)
    [problem] = settings_check()
    assert "STRIPE_WEBHOOK_SECRET belong together" in problem.msg


def test_f42_events_of_one_payment_credit_it_once_whatever_happens_to_them(
    stripe: Stripe, acme: Organization
) -> None:
    """Five times, at once, forged, after a refund of it, and three days late."""
    ask("payment_start", "acme", "12.50")
    refund = event("charge.refunded", 2, id="ch_1", amount=1250, amount_refunded=250)
    late = json.loads(completed()) | {"created": int(time.time()) - 3 * 86_400}
    paid = json.dumps(late).encode()
    forged: dict[str, Any] = {"secret": "whsec_another"}
    answers = run_together(
        *(partial(tell, paid) for _ in range(5)),
        *(partial(tell, refund) for _ in range(2)),
        *(partial(tell, completed(99), **forged) for _ in range(2)),
    )
    assert [answer.status_code for answer in answers] == [200] * 7 + [400] * 2
    assert tell(event("checkout.session.expired", 3, id="cs_1")).status_code == 200
    assert tell(completed(4)).status_code == 200  # The same payment, told by another event.
    assert balance_nano_usd(acme.pk) == 10_000_000_000
    assert Grant.objects.count() == 1
    assert audit(retain_seconds=0) == []


def test_what_does_not_concern_us_is_taken_and_forgotten(
    stripe: Stripe, acme: Organization
) -> None:
    assert tell(event("customer.created", 1, id="cus_1")).json()["new"] is False
    assert not PaymentEvent.objects.exists()


def test_an_order_that_the_provider_refuses_is_refused(stripe: Stripe, acme: Organization) -> None:
    stripe.status = 400
    with pytest.raises(CommandError, match="did not take the order"):
        ask("payment_start", "acme", "10")
    assert Payment.objects.get().state == "open"


def test_a_person_gets_the_page_to_pay_on(stripe: Stripe, acme: Organization) -> None:
    assert "paid at https://checkout.example/cs_1" in say("payment_start", "acme", "10")


def test_the_customer_comes_back_to_a_page(db: None) -> None:
    for page, words in (("thanks", "Thank you"), ("cancelled", "Nothing was paid")):
        response = Client().get(f"/payments/{page}")
        assert response.status_code == 200
        assert words in response.content.decode()
