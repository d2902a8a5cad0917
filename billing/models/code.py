"""Codes that turn into credit: printed, sold or given away, each good for one organization once."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization
from billing.models.wallet import Grant


class CodeBatch(models.Model):
    """Codes that were made together: worth the same, and revoked together."""

    amount_nano_usd = models.BigIntegerField()
    count = models.PositiveIntegerField()
    note = models.CharField(max_length=300, blank=True)
    # After it, none of the codes can be redeemed; what was redeemed before stays.
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "code batches"
        constraints = [
            models.CheckConstraint(
                name="code_batch_is_worth_something",
                condition=Q(amount_nano_usd__gt=0, count__gt=0),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"batch {self.pk}"


class RedemptionCode(models.Model):
    """One code, as its digest; once redeemed, its row is never changed again (a trigger)."""

    batch = models.ForeignKey(CodeBatch, models.PROTECT, related_name="codes")
    digest = models.BinaryField(max_length=32, unique=True)
    last4 = models.CharField(max_length=4)
    redeemed_at = models.DateTimeField(null=True, blank=True)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="+"
    )
    grant = models.OneToOneField(Grant, models.PROTECT, null=True, blank=True, related_name="code")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="redemption_code_is_redeemed_whole",
                condition=Q(redeemed_at__isnull=True, organization__isnull=True, grant__isnull=True)
                | Q(redeemed_at__isnull=False, organization__isnull=False, grant__isnull=False),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"…{self.last4}"
