"""The one place where postings are made (the engine has its own, in raw SQL, beside its locks)."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from accounts.transactions import transaction_required
from billing.identifiers import uuid7
from billing.models import LedgerEntry


@dataclass(frozen=True, slots=True)
class Leg:
    """What one account gains (or, below zero, gives) by a posting."""

    account: LedgerEntry.Account
    amount_nano_usd: int
    grant_id: int | None = None


@transaction_required
def posting_create(
    *, organization_id: int, reason: str, legs: Sequence[Leg], now: dt.datetime
) -> UUID:
    """Write the legs as one posting; returns its id.

    The legs sum to zero and each moves money: a caller that says otherwise has a defect, which
    neither this process nor (by its trigger) the database lets through.
    """
    assert len(legs) > 1, f"the posting {reason!r} has {len(legs)} legs"
    assert all(leg.amount_nano_usd for leg in legs), f"a leg of {reason!r} moves nothing"
    assert not sum(leg.amount_nano_usd for leg in legs), f"the posting {reason!r} is not balanced"
    posting = uuid7()
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            posting=posting,
            sequence=sequence,
            account=leg.account,
            organization_id=organization_id,
            grant_id=leg.grant_id,
            amount_nano_usd=leg.amount_nano_usd,
            reason=reason,
            created_at=now,
        )
        for sequence, leg in enumerate(legs, start=1)
    )
    return posting
