"""Who has had the free quota: digests of identities, never the identities."""

from django.db import models
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization


class FreeQuotaClaim(models.Model):
    digest = models.BinaryField(max_length=32, unique=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    @override
    def __str__(self) -> str:
        return f"claim of {self.organization}"
