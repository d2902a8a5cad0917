"""Taking credit back, when the money behind it went back to whoever paid.

As far as billing.credit.collecting can take it; what was spent is the operator's write-off.
"""

import datetime as dt
from dataclasses import dataclass

from accounts.transactions import transaction_required
from billing.credit.collecting import Demand, collect
from billing.credit.ledger import Leg, posting_create
from billing.models import LedgerEntry

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
    demand = Demand(
        organization_id=organization_id,
        amount_nano_usd=amount_nano_usd,
        account=Account.SOURCE,
        part="reversed",
        reason="reversal",
        grant_id=grant_id,
    )
    taken = collect(demand, now=now)
    written_off = taken.hopeless_nano_usd
    if written_off:
        posting_create(
            organization_id=organization_id,
            reason="reversal",
            legs=[Leg(Account.WRITE_OFF, -written_off), Leg(Account.SOURCE, written_off, grant_id)],
            now=now,
        )
    return Reversed(taken.collected_nano_usd, written_off)


@transaction_required
def write_off_recover(*, organization_id: int, amount_nano_usd: int, now: dt.datetime) -> None:
    """Money that had been given up came after all; the customer has had its worth already."""
    posting_create(
        organization_id=organization_id,
        reason="recovery",
        legs=[Leg(Account.SOURCE, -amount_nano_usd), Leg(Account.WRITE_OFF, amount_nano_usd)],
        now=now,
    )
