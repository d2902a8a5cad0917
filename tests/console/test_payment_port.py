"""The port for payments, filled by another provider: forms instead of JSON, its own signature."""

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from django.test import Client
from typing_extensions import override

from accounts.models import Organization
from billing.audit import audit
from billing.credit.balance import balance_nano_usd
from billing.credit.payments import (
    DISPUTE_WON,
    DISPUTED,
    EXPIRED,
    PAID,
    REFUNDED,
    Checkout,
    ForgedEvent,
    Order,
    PaymentProvider,
    ProviderEvent,
)
from billing.models import Payment
from billing.money import parse_usd
from console.payments import PROVIDERS
from tests.commands import ask
from tests.factories import make_organization

SECRET = b"shared with the kiosk"
KINDS = {
    "sold": PAID,
    "gone": EXPIRED,
    "returned": REFUNDED,
    "claimed": DISPUTED,
    "kept": DISPUTE_WON,
}


class Kiosk(PaymentProvider):
    """It knows no intents: one voucher number names the order, the money and every claim."""

    name = "kiosk"

    @override
    def checkout_start(self, order: Order) -> Checkout:
        return Checkout(f"voucher-{order.payment_id}", f"https://kiosk.example/{order.payment_id}")

    @override
    def event_read(self, payload: bytes, headers: Mapping[str, str]) -> ProviderEvent | None:
        seal = hmac.new(SECRET, payload, hashlib.sha1).hexdigest()
        if not hmac.compare_digest(seal, headers.get("kiosk-seal", "")):
            raise ForgedEvent("another seal")
        told = {name: values[0] for name, values in parse_qs(payload.decode()).items()}
        kind = KINDS.get(told["what"])
        if kind is None:
            return None
        return ProviderEvent(
            event_id=told["number"],
            kind=kind,
            reference=told["voucher"] if kind in (PAID, EXPIRED) else "",
            intent=told["voucher"],
            dispute=told["voucher"] if kind in (DISPUTED, DISPUTE_WON) else "",
            amount_nano_usd=parse_usd(told.get("usd", "0")),
            occurred_at=dt.datetime.fromisoformat(told["at"]),
        )


@pytest.fixture
def acme(committing_db: str, monkeypatch: pytest.MonkeyPatch) -> Organization:
    monkeypatch.setitem(PROVIDERS, Kiosk.name, Kiosk)
    return make_organization("acme")


def tell(number: int, what: str, usd: str = "", *, seal: str = "") -> Any:
    fields = {"number": number, "what": what, "voucher": "voucher-1", "usd": usd}
    body = urlencode({**fields, "at": f"2026-11-20T12:00:{number:02}+00:00"}).encode()
    seal = seal or hmac.new(SECRET, body, hashlib.sha1).hexdigest()
    return Client().post(
        "/webhooks/kiosk",
        body,
        content_type="application/x-www-form-urlencoded",
        headers={"kiosk-seal": seal},
    )


def test_another_provider_sells_refunds_and_disputes(acme: Organization) -> None:
    answer = ask("payment_start", "acme", "10")
    Payment.objects.update(reference="voucher-1")
    assert answer["url"].startswith("https://kiosk.example/")
    assert tell(1, "sold", "10", seal="0" * 40).status_code == 400
    assert tell(9, "weather").json() == {"received": True, "new": False}
    # In the wrong order, and twice.
    for number, what, usd in ((3, "returned", "2"), (2, "sold", "10"), (3, "returned", "2")):
        assert tell(number, what, usd).status_code == 200
    assert balance_nano_usd(acme.pk) == 8 * 10**9
    tell(4, "claimed", "8")
    assert balance_nano_usd(acme.pk) == 0
    tell(5, "kept", "8")
    assert balance_nano_usd(acme.pk) == 8 * 10**9
    assert (Payment.objects.get().state, Payment.objects.get().provider) == ("paid", "kiosk")
    assert audit(retain_seconds=0) == []


def test_a_provider_that_is_not_configured_is_not_there(
    acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROVIDERS, Kiosk.name, lambda: None)
    assert tell(1, "sold", "10").status_code == 404
