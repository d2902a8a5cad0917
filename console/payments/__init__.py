"""The providers through which customers pay: those that the operator has configured.

To add one, fill the port (`billing.credit.payments.PaymentProvider`) and name it in `PROVIDERS`:
its webhook is then `/webhooks/NAME`.
"""

from collections.abc import Callable

from django.conf import settings

from billing.credit.payments import PaymentProvider
from console.payments.stripe_checkout import StripeCheckout


def _stripe() -> PaymentProvider | None:
    # The start is refused without one of them; here, an empty secret would verify every forgery.
    if not settings.STRIPE_SECRET_KEY or not settings.STRIPE_WEBHOOK_SECRET:
        return None
    return StripeCheckout(
        secret_key=settings.STRIPE_SECRET_KEY,
        webhook_secret=settings.STRIPE_WEBHOOK_SECRET,
        api_url=settings.STRIPE_URL,
        public_url=settings.PUBLIC_URL,
        brand=settings.BRAND,
    )


# The preferred one first; each is None where it is not configured.
PROVIDERS: dict[str, Callable[[], PaymentProvider | None]] = {StripeCheckout.name: _stripe}


def payment_provider(name: str) -> PaymentProvider | None:
    """None where it is unknown or not configured: then nothing of it may be reached."""
    configured = PROVIDERS.get(name)
    return None if configured is None else configured()


def payment_providers() -> list[PaymentProvider]:
    """All that are configured, the preferred one first."""
    return [found for name in PROVIDERS if (found := payment_provider(name)) is not None]
