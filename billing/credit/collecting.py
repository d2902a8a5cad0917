"""Taking money out of a wallet otherwise than by calls: all that is there, and some of it as debt.

What is still in the wallet is taken at once: the money of one grant first if that is asked for,
then the others' in the order in which they burn. What calls have spent, or workers have leased,
cannot be taken: on standard holds it may become a debt that the next money repays; otherwise it
waits for the leases to come back, and where there are none, nothing is left to hope for.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from django.db.models import F

from accounts.transactions import transaction_required
from billing.credit.grants import burn_order, wallet_lock
from billing.credit.ledger import Leg, posting_create
from billing.models import Grant, Lease, LedgerEntry, Wallet

Account = LedgerEntry.Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to be taken of a wallet, and where it goes."""

    organization_id: int
    amount_nano_usd: int
    account: LedgerEntry.Account
    # What becomes of the grants' money: it was paid back, or it was spent.
    part: Literal["reversed", "burnt"]
    reason: str
    may_owe: bool = True
    # Whose money goes first, and what the other leg of the posting names.
    grant_id: int | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What was taken (some of it perhaps as debt), and what nobody will ever be able to take.

    The rest has to be asked for again, when leases have come back.
    """

    collected_nano_usd: int
    hopeless_nano_usd: int


@transaction_required
def collect(demand: Demand, *, now: dt.datetime) -> Collected:
    wallet = wallet_lock(demand.organization_id)
    taken = _taken(demand)
    rest = demand.amount_nano_usd - sum(taken.values())
    owed = rest if demand.may_owe and not wallet.strict else 0
    has_leases = Lease.objects.filter(
        organization_id=demand.organization_id, state=Lease.State.OPEN
    ).exists()
    hopeless = 0 if has_leases else rest - owed
    column = f"{demand.part}_nano_usd"
    for grant, part in taken.items():
        Grant.objects.filter(pk=grant).update(
            free_nano_usd=F("free_nano_usd") - part, **{column: F(column) + part}
        )
    collected = demand.amount_nano_usd - rest + owed
    Wallet.objects.filter(pk=wallet.pk).update(
        balance_nano_usd=F("balance_nano_usd") - collected,
        debt_nano_usd=F("debt_nano_usd") + owed,
        reversed_nano_usd=F("reversed_nano_usd") + (collected if demand.part == "reversed" else 0),
        # Whoever holds more than it needs is to give it back.
        short_at=now if rest > owed + hopeless else F("short_at"),
    )
    legs = [Leg(Account.WALLET, -part, grant) for grant, part in taken.items()]
    legs += [Leg(Account.WALLET, -owed)] if owed else []
    if legs:
        legs.append(Leg(demand.account, collected, demand.grant_id))
        posting_create(
            organization_id=demand.organization_id, reason=demand.reason, legs=legs, now=now
        )
    return Collected(collected, hopeless)


def _taken(demand: Demand) -> dict[int, int]:
    """How much of which grants, the one that is named first."""
    rows = Grant.objects.select_for_update().filter(
        organization_id=demand.organization_id, free_nano_usd__gt=0
    )
    grants = sorted(rows.order_by("id"), key=burn_order)
    grants.sort(key=lambda grant: grant.pk != demand.grant_id)
    taken: dict[int, int] = {}
    for grant in grants:
        part = min(grant.free_nano_usd, demand.amount_nano_usd - sum(taken.values()))
        if part:
            taken[grant.pk] = part
    return taken
