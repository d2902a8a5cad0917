"""What organizations have left, and where each grant went. Reads only.

The balance is the wallet plus the unspent parts of open leases: it moves only with grants and
charges, never with the leases that come and go between them.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, F, OuterRef, Subquery, Sum
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce

from billing.models import Lease

_SUMMARY = """
    SELECT
        coalesce((SELECT balance_nano_usd FROM billing_wallet
                  WHERE organization_id = %(organization)s), 0)
        + coalesce((SELECT sum(granted_nano_usd - spent_nano_usd) FROM billing_lease
                    WHERE organization_id = %(organization)s AND state = 'open'), 0),
        coalesce(sum(amount_nano_usd), 0),
        coalesce(sum(expired_nano_usd), 0),
        coalesce((SELECT reversed_nano_usd FROM billing_wallet
                  WHERE organization_id = %(organization)s), 0)
    FROM billing_grant WHERE organization_id = %(organization)s
"""
# What an open lease spent is burnt from the front of its slices; the grants hear of it only when
# the lease closes, so that part is worked out here.
_GRANTS = """
    WITH slice AS (
        SELECT s.grant_id, s.amount_nano_usd, l.spent_nano_usd - coalesce(sum(s.amount_nano_usd)
            OVER (PARTITION BY s.lease_id ORDER BY s.position
                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS reaching
        FROM billing_leaseslice s JOIN billing_lease l ON l.id = s.lease_id
        WHERE l.organization_id = %(organization)s AND l.state = 'open'
    ), spent AS (
        SELECT grant_id, sum(greatest(0, least(amount_nano_usd, reaching))) AS nano_usd
        FROM slice WHERE grant_id IS NOT NULL GROUP BY grant_id
    )
    SELECT g.id, g.kind, g.amount_nano_usd, g.burnt_nano_usd + coalesce(spent.nano_usd, 0),
        g.expired_nano_usd, g.created_at, g.expires_at
    FROM billing_grant g LEFT JOIN spent ON spent.grant_id = g.id
    WHERE g.organization_id = %(organization)s
    ORDER BY g.created_at, g.id
"""


@dataclass(frozen=True, slots=True)
class CreditSummary:
    """granted = used + expired + reversed + balance, always: it is one snapshot of the ledger."""

    balance_nano_usd: int
    granted_nano_usd: int
    expired_nano_usd: int
    reversed_nano_usd: int

    @property
    def used_nano_usd(self) -> int:
        """What calls took from the wallet. An operator's write-off is not in it."""
        gone = self.expired_nano_usd + self.reversed_nano_usd
        return self.granted_nano_usd - gone - self.balance_nano_usd


@dataclass(frozen=True, slots=True)
class GrantUse:
    """How much of one grant calls have used up."""

    grant_id: int
    kind: str
    amount_nano_usd: int
    used_nano_usd: int
    expired_nano_usd: int
    created_at: dt.datetime
    expires_at: dt.datetime | None


def unspent_of_leases(organization: str) -> Combinable:
    """For lists: what open leases hold unspent, of the organization whose id that field has."""
    leases = Lease.objects.filter(organization_id=OuterRef(organization), state=Lease.State.OPEN)
    unspent = leases.values("organization_id").annotate(
        nano_usd=Sum(F("granted_nano_usd") - F("spent_nano_usd"))
    )
    return Coalesce(Subquery(unspent.values("nano_usd")), 0, output_field=BigIntegerField())


def balance_nano_usd(organization_id: int) -> int:
    return credit_summary(organization_id).balance_nano_usd


def credit_summary(organization_id: int) -> CreditSummary:
    [row] = _rows(_SUMMARY, organization_id)
    return CreditSummary(*(int(value) for value in row))


def grant_uses(organization_id: int) -> list[GrantUse]:
    """The organization's grants, oldest first."""
    return [
        GrantUse(row[0], row[1], row[2], int(row[3]), *row[4:])
        for row in _rows(_GRANTS, organization_id)
    ]


def _rows(statement: str, organization_id: int) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"organization": organization_id})
        rows: list[Any] = cursor.fetchall()
    return rows
