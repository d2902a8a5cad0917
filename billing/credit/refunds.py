"""Giving a charge back, never more of it than was charged."""

import datetime as dt
import uuid

from django.db.models import Sum

from accounts.audit_trail import Actor
from accounts.errors import Refused
from accounts.transactions import durable
from billing.credit.balance import balance_nano_usd
from billing.credit.grants import Credit, Credited, grant_add, wallet_lock
from billing.models import Grant, Refund, UsageRecord
from billing.money import format_usd
from billing.rerating import charge_now

_PREFIX = "req_"


class UnableToRefund(Refused):
    """There is no such call, or not so much left of its charge."""


@durable
def charge_refund(
    *,
    request_id: uuid.UUID,
    amount_nano_usd: int | None,
    reason: str,
    actor: Actor,
    now: dt.datetime,
) -> Credited:
    """Give back so much of a call's charge, or (None) all that is left of it."""
    record = UsageRecord.objects.filter(pk=request_id).first()
    if record is None:
        raise UnableToRefund("There is no record of that call.")
    # Refunds of one call come one after the other, by the lock of the wallet that they fill.
    wallet_lock(record.organization_id)
    refunds = Refund.objects.filter(request_id=request_id)
    given = refunds.aggregate(total=Sum("amount_nano_usd"))["total"] or 0
    charged = charge_now(record)
    left = charged - given
    amount = left if amount_nano_usd is None else amount_nano_usd
    if not 0 < amount <= left:
        raise UnableToRefund(f"Of {format_usd(charged)} USD charged, {format_usd(left)} are left.")
    credit = Credit(
        organization_id=record.organization_id,
        amount_nano_usd=amount,
        kind=Grant.Kind.ADJUSTMENT,
        reason=f"refund of {record}" + (f": {reason}" if reason else ""),
        given_back=True,
    )
    grant = grant_add(credit=credit, actor=actor, now=now)
    Refund.objects.create(
        request_id=request_id, grant=grant, amount_nano_usd=amount, created_at=now
    )
    return Credited(grant=grant, balance_nano_usd=balance_nano_usd(record.organization_id))


def request_id_parse(text: str) -> uuid.UUID:
    """The id of `x-request-id`. Raises UnableToRefund."""
    try:
        return uuid.UUID(hex=text.strip().removeprefix(_PREFIX))
    except ValueError:
        raise UnableToRefund(f"{text!r} is no request id: it looks like req_0198f4b2...") from None
