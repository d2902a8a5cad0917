"""Charges that were given back."""

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from billing.models.wallet import Grant


class Refund(models.Model):
    """A part of one call's charge, given back as a grant. Together never more than the charge."""

    # Of the usage record, which is partitioned: a foreign key would cost each of them a check.
    request_id = models.UUIDField(db_index=True)
    grant = models.OneToOneField(Grant, models.PROTECT, related_name="refund")
    amount_nano_usd = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="refund_gives_something", condition=Q(amount_nano_usd__gt=0)
            )
        ]

    @override
    def __str__(self) -> str:
        assert isinstance(self.request_id, uuid.UUID)
        return f"refund of req_{self.request_id.hex}"
