"""Taking credit back, when the money behind it went back to whoever paid.

What is still in the wallet is taken at once: the grant's own money first, then the others' in the
order in which they burn. What calls have spent, or workers have leased, cannot be taken: on
standard holds it becomes a debt that the next money repays; on strict ones it waits for the leases
to come back, and what was spent is the operator's write-off.
"""

import datetime as dt
from dataclasses import dataclass

from django.db.models import F

from accounts.transactions import transaction_required
from billing.credit.grants import burn_order, wallet_lock
from billing.credit.ledger import Leg, posting_create
from billing.models import Grant, Lease, LedgerEntry, Wallet

Account = LedgerEntry.Account


@dataclass(frozen=True, slots=True)
class Reversed:
    """What was taken from the wallet (some of it perhaps as debt), and what was given up."""

    collected_nano_usd: int = 0
    written_off_nano_usd: int = 0


@transaction_required
def reverse(
    *, organization_id: int, grant_id: int, amount_nano_usd: int, now: dt.datetime
) -> Reversed:
    """Take the amount back as far as that is possible now; the rest has to be asked for again."""
    wallet = wallet_lock(organization_id)
    taken = _taken(organization_id, grant_id, amount_nano_usd)
    rest = amount_nano_usd - sum(taken.values())
    owed = 0 if wallet.strict else rest
    has_leases = Lease.objects.filter(
        organization_id=organization_id, state=Lease.State.OPEN, kind=Lease.Kind.WALLET
    ).exists()
    written_off = 0 if has_leases else rest - owed
    for grant, part in taken.items():
        Grant.objects.filter(pk=grant).update(
            free_nano_usd=F("free_nano_usd") - part, reversed_nano_usd=F("reversed_nano_usd") + part
        )
    collected = amount_nano_usd - rest + owed
    Wallet.objects.filter(pk=wallet.pk).update(
        balance_nano_usd=F("balance_nano_usd") - collected,
        debt_nano_usd=F("debt_nano_usd") + owed,
        reversed_nano_usd=F("reversed_nano_usd") + collected,
        # Whoever holds more than it needs is to give it back.
        short_at=now if rest > owed + written_off else F("short_at"),
    )
    legs = [Leg(Account.WALLET, -part, grant) for grant, part in taken.items()]
    legs += [Leg(Account.WALLET, -owed)] if owed else []
    legs += [Leg(Account.WRITE_OFF, -written_off)] if written_off else []
    if legs:
        legs.append(Leg(Account.SOURCE, collected + written_off, grant_id))
        posting_create(organization_id=organization_id, reason="reversal", legs=legs, now=now)
    return Reversed(collected, written_off)


@transaction_required
def write_off_recover(*, organization_id: int, amount_nano_usd: int, now: dt.datetime) -> None:
    """Money that had been given up came after all; the customer has had its worth already."""
    posting_create(
        organization_id=organization_id,
        reason="recovery",
        legs=[Leg(Account.SOURCE, -amount_nano_usd), Leg(Account.WRITE_OFF, amount_nano_usd)],
        now=now,
    )


def _taken(organization_id: int, grant_id: int, amount_nano_usd: int) -> dict[int, int]:
    """How much of which grants, the one that was paid back first."""
    rows = Grant.objects.select_for_update().filter(
        organization_id=organization_id, free_nano_usd__gt=0
    )
    grants = sorted(rows.order_by("id"), key=burn_order)
    grants.sort(key=lambda grant: grant.pk != grant_id)
    taken: dict[int, int] = {}
    for grant in grants:
        part = min(grant.free_nano_usd, amount_nano_usd - sum(taken.values()))
        if part:
            taken[grant.pk] = part
    return taken
