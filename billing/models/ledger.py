"""The double-entry journal of money. Rows are never updated or deleted; triggers see to it."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization


class LedgerEntry(models.Model):
    """One leg of a posting. The legs of a posting sum to zero; a trigger checks it at commit."""

    class Account(models.TextChoices):
        SOURCE = "source"
        WALLET = "wallet"
        ESCROW = "escrow"
        REVENUE = "revenue"
        EXPIRED = "expired"
        WRITE_OFF = "write_off"

    posting = models.UUIDField()
    sequence = models.PositiveSmallIntegerField()
    account = models.CharField(max_length=9, choices=Account)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    lease_id = models.UUIDField(null=True)
    grant_id = models.BigIntegerField(null=True)
    amount_nano_usd = models.BigIntegerField()
    reason = models.CharField(max_length=20)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(
                name="ledger_entry_sequence_is_unique", fields=["posting", "sequence"]
            ),
            models.CheckConstraint(
                name="ledger_entry_account_is_known",
                condition=Q(
                    account__in=["source", "wallet", "escrow", "revenue", "expired", "write_off"]
                ),
            ),
            models.CheckConstraint(
                name="ledger_entry_moves_money", condition=~Q(amount_nano_usd=0)
            ),
        ]
        indexes = [
            models.Index(name="ledger_entry_of_organization", fields=["organization", "id"]),
            models.Index(
                name="ledger_entry_late",
                fields=["created_at"],
                condition=Q(reason="late_settlement"),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.account} {self.amount_nano_usd} ({self.reason})"
