"""The providers through which customers pay: those that the operator has configured."""

from django.conf import settings

from billing.credit.payments import PaymentProvider
from console.payments.stripe_checkout import StripeCheckout


def payment_provider(name: str) -> PaymentProvider | None:
    """None where it is unknown or not configured: then nothing of it may be reached."""
    # The start is refused without one of them; here, an empty secret would verify every forgery.
    is_configured = settings.STRIPE_SECRET_KEY and settings.STRIPE_WEBHOOK_SECRET
    if name != StripeCheckout.name or not is_configured:
        return None
    return StripeCheckout(
        secret_key=settings.STRIPE_SECRET_KEY,
        webhook_secret=settings.STRIPE_WEBHOOK_SECRET,
        api_url=settings.STRIPE_URL,
        public_url=settings.PUBLIC_URL,
        brand=settings.BRAND,
    )


def payment_providers() -> list[PaymentProvider]:
    """All that are configured, the preferred one first."""
    return [found for name in (StripeCheckout.name,) if (found := payment_provider(name))]
