"""Prices from a feed, waiting for somebody to approve them."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override


class PriceImport(models.Model):
    """A feed as it was read: what it would change, kept until it is decided and for ever after."""

    class State(models.TextChoices):
        WAITING = "waiting"
        APPROVED = "approved"
        REJECTED = "rejected"

    source = models.CharField(max_length=300)
    form = models.CharField(max_length=10)
    # Rows that would change something, as billing.prices.book files them.
    rows = models.JSONField(default=list)
    # By model: whether it is new, its changes as texts, and a preview of what a call costs.
    changes = models.JSONField(default=list)
    # By model: the reason.
    refused = models.JSONField(default=list)
    unchanged = models.IntegerField(default=0)
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="price_import_is_decided_once",
                condition=Q(state="waiting", decided_at__isnull=True)
                | Q(state__in=["approved", "rejected"], decided_at__isnull=False),
            )
        ]

    @override
    def __str__(self) -> str:
        return f"price import {self.pk}"
