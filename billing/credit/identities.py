"""Whose free quota it is: once per verified identity, however many organizations it opens."""

import datetime as dt
import hmac

from django.conf import settings

from accounts.errors import Refused
from accounts.transactions import transaction_required
from billing.models import FreeQuotaClaim

EMAIL = "email"
MAX_LENGTH = 320
# Letters to these arrive whatever dots are in front of the @.
_DOTLESS_HOSTS = frozenset({"gmail.com", "googlemail.com"})


class InvalidIdentity(Refused):
    """The text names no identity."""


@transaction_required
def free_quota_claim(*, identity: str, organization_id: int, now: dt.datetime) -> bool:
    """Claim the free quota for the organization; False if the identity has had one.

    Raises InvalidIdentity. Of two that claim at once, the unique digest lets one through.
    """
    digest = hmac.digest(
        settings.KEY_PEPPER.encode(), f"identity:{identity_normal(identity)}".encode(), "sha256"
    )
    claim = FreeQuotaClaim(digest=digest, organization_id=organization_id, created_at=now)
    FreeQuotaClaim.objects.bulk_create([claim], ignore_conflicts=True)
    return FreeQuotaClaim.objects.filter(digest=digest, organization_id=organization_id).exists()


def identity_normal(identity: str) -> str:
    """One spelling of it: `email:ann@example.com`, or `PROVIDER:SUBJECT` as a login names it.

    Of an address what is behind a + is left out, for every such address is the same mailbox.
    """
    provider, colon, subject = identity.strip().partition(":")
    provider, subject = provider.lower(), subject.strip()
    if not colon or not provider.isalnum() or not subject or len(identity) > MAX_LENGTH:
        raise InvalidIdentity(f"{identity!r} is no identity: say email:ann@example.com.")
    if provider != EMAIL:
        return f"{provider}:{subject}"
    mailbox, at, host = subject.lower().rpartition("@")
    mailbox = mailbox.partition("+")[0]
    if host in _DOTLESS_HOSTS:
        mailbox, host = mailbox.replace(".", ""), "gmail.com"
    if not at or not mailbox or "." not in host:
        raise InvalidIdentity(f"{subject!r} is no e-mail address.")
    return f"{EMAIL}:{mailbox}@{host}"
