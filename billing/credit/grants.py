"""Money that comes in, and money that expires. See Note [Locks] in `wallet_lock`."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db.models import F

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable, transaction_required
from billing.credit.balance import balance_nano_usd
from billing.credit.ledger import Leg, posting_create
from billing.models import Grant, LedgerEntry, Wallet
from billing.money import format_usd, parse_usd

# A billion dollars: everything that is ever summed stays far inside a BIGINT.
MAX_BALANCE_NANO_USD = 10**18
MAX_REASON_LENGTH = 300
MAX_PRIORITY = 1000

Account = LedgerEntry.Account


class UnableToGrant(Refused):
    """The grant makes no sense, or was given before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """Money for an organization's wallet."""

    organization_id: int
    amount_nano_usd: int
    kind: Grant.Kind = Grant.Kind.TOP_UP
    expires_at: dt.datetime | None = None
    priority: int = 0
    reason: str = ""
    # What the operator had charged is given back: no new money, so it does not end the free tier.
    given_back: bool = False
    # Where it comes from: what was charged and then corrected was revenue.
    account: LedgerEntry.Account = LedgerEntry.Account.SOURCE


@dataclass(frozen=True, slots=True)
class Credited:
    """A new grant, and the organization's balance with it."""

    grant: Grant
    balance_nano_usd: int


@dataclass(frozen=True, slots=True)
class Expired:
    """How many grants expired, and how much money with them."""

    grants: int = 0
    amount_nano_usd: int = 0


def free_quota(
    organization_id: int, *, amount_nano_usd: int | None, now: dt.datetime
) -> Credit | None:
    """The free quota of a new organization: as given, else as the settings say; None if it is 0."""
    if amount_nano_usd is None:
        amount_nano_usd = parse_usd(settings.FREE_QUOTA_USD)
    if not amount_nano_usd:
        return None
    days = settings.FREE_QUOTA_DAYS
    return Credit(
        organization_id=organization_id,
        amount_nano_usd=amount_nano_usd,
        kind=Grant.Kind.FREE_QUOTA,
        expires_at=now + dt.timedelta(days=days) if days else None,
    )


@durable
def grant_credit(*, credit: Credit, actor: Actor, now: dt.datetime) -> Credited:
    """Put money into the wallet; what the organization owes is repaid first."""
    grant = grant_add(credit=credit, actor=actor, now=now)
    return Credited(grant=grant, balance_nano_usd=balance_nano_usd(credit.organization_id))


@transaction_required
def grant_add(*, credit: Credit, actor: Actor, now: dt.datetime) -> Grant:
    """The same as a part of a larger transaction."""
    wallet = wallet_lock(credit.organization_id)
    _credit_check(credit, wallet, now)
    repaid_nano_usd = min(credit.amount_nano_usd, wallet.debt_nano_usd)
    grant = Grant.objects.create(
        organization_id=credit.organization_id,
        kind=credit.kind,
        amount_nano_usd=credit.amount_nano_usd,
        free_nano_usd=credit.amount_nano_usd - repaid_nano_usd,
        burnt_nano_usd=repaid_nano_usd,
        priority=credit.priority,
        expires_at=credit.expires_at,
        reason=credit.reason,
        created_at=now,
    )
    wallet.balance_nano_usd += credit.amount_nano_usd
    wallet.debt_nano_usd -= repaid_nano_usd
    if credit.kind != Grant.Kind.FREE_QUOTA and not credit.given_back:
        # The free tier, and its strict holds, end with the first other money.
        wallet.strict = wallet.strict_always
    wallet.save(update_fields=["balance_nano_usd", "debt_nano_usd", "strict"])
    posting_create(
        organization_id=credit.organization_id,
        reason="grant",
        legs=[
            Leg(credit.account, -credit.amount_nano_usd, grant.pk),
            Leg(Account.WALLET, credit.amount_nano_usd, grant.pk),
        ],
        now=now,
    )
    _audit(grant, actor)
    return grant


def burn_order(grant: Grant) -> tuple[int, bool, dt.datetime | None, int]:
    """What to sort grants by, so that the one whose money goes first is first."""
    return -grant.priority, grant.expires_at is None, grant.expires_at, grant.pk


def grants_expire(*, now: dt.datetime) -> Expired:
    """Take the free parts of all due grants out of their wallets.

    One transaction per organization, so that no wallet waits for another. Running it again, or
    beside a worker that does the same to one organization, changes nothing more.
    """
    due = Grant.objects.filter(free_nano_usd__gt=0, expires_at__lte=now)
    organizations = due.order_by("organization_id").values_list("organization_id", flat=True)
    each = [_organization_expire(organization, now) for organization in organizations.distinct()]
    return Expired(
        grants=sum(expired.grants for expired in each),
        amount_nano_usd=sum(expired.amount_nano_usd for expired in each),
    )


@transaction_required
def wallet_lock(organization_id: int) -> Wallet:
    """Lock and return the organization's wallet; raises UnableToGrant if there is none.

    Note [Locks]: whoever changes a wallet, its grants or its leases holds the wallet's row lock
    first, then locks grants in the order of their ids; so do the workers (billing.engine).
    """
    wallet = Wallet.objects.select_for_update().filter(organization_id=organization_id).first()
    if wallet is None:
        raise UnableToGrant(f"Organization {organization_id} was not opened: it has no wallet.")
    return wallet


def _credit_check(credit: Credit, wallet: Wallet, now: dt.datetime) -> None:
    if credit.amount_nano_usd <= 0:
        raise UnableToGrant("A grant is more than 0.")
    if wallet.balance_nano_usd + credit.amount_nano_usd > MAX_BALANCE_NANO_USD:
        raise UnableToGrant(f"No wallet holds more than {format_usd(MAX_BALANCE_NANO_USD)} USD.")
    if credit.expires_at is not None and credit.expires_at <= now:
        raise UnableToGrant("A grant that has expired already is of no use.")
    if not -MAX_PRIORITY <= credit.priority <= MAX_PRIORITY:
        raise UnableToGrant(f"A priority is between -{MAX_PRIORITY} and {MAX_PRIORITY}.")
    if len(credit.reason) > MAX_REASON_LENGTH:
        raise UnableToGrant(f"A reason is at most {MAX_REASON_LENGTH} characters long.")
    if credit.kind == Grant.Kind.FREE_QUOTA and _has_free_quota(credit.organization_id):
        raise UnableToGrant("The free quota is given once, and this organization had it.")


def _has_free_quota(organization_id: int) -> bool:
    grants = Grant.objects.filter(organization_id=organization_id, kind=Grant.Kind.FREE_QUOTA)
    return grants.exists()


def _audit(grant: Grant, actor: Actor) -> None:
    audit_event_record(
        actor=actor,
        action="grant.credit",
        subject=f"{grant.kind} {format_usd(grant.amount_nano_usd)} USD",
        organization=grant.organization,
        details={
            "grant": grant.pk,
            "amount_nano_usd": grant.amount_nano_usd,
            "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
            "reason": grant.reason,
        },
    )


@durable
def _organization_expire(organization_id: int, now: dt.datetime) -> Expired:
    wallet_lock(organization_id)
    due = Grant.objects.filter(
        organization_id=organization_id, free_nano_usd__gt=0, expires_at__lte=now
    )
    grants = list(due.select_for_update().order_by("id"))
    if not grants:  # A worker of the organization was first.
        return Expired()
    total_nano_usd = sum(grant.free_nano_usd for grant in grants)
    # What was read under the locks is what is moved: the sums cannot differ from the rows.
    Grant.objects.filter(pk__in=[grant.pk for grant in grants]).update(
        expired_nano_usd=F("expired_nano_usd") + F("free_nano_usd"), free_nano_usd=0
    )
    Wallet.objects.filter(organization_id=organization_id).update(
        balance_nano_usd=F("balance_nano_usd") - total_nano_usd
    )
    posting_create(
        organization_id=organization_id,
        reason="grant_expiry",
        legs=_expiry_legs(grants),
        now=now,
    )
    return Expired(grants=len(grants), amount_nano_usd=total_nano_usd)


def _expiry_legs(grants: Sequence[Grant]) -> list[Leg]:
    return [
        leg
        for grant in grants
        for leg in (
            Leg(Account.WALLET, -grant.free_nano_usd, grant.pk),
            Leg(Account.EXPIRED, grant.free_nano_usd, grant.pk),
        )
    ]
