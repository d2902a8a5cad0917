"""Plans: named sets of discounts that organizations subscribe to."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization


class Plan(models.Model):
    """What its discounts say; who subscribes to it pays by them."""

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="plan_slug_is_a_slug", condition=Q(slug__regex=r"^[a-z0-9][a-z0-9-]*$")
            )
        ]

    @override
    def __str__(self) -> str:
        return self.name


class PlanSubscription(models.Model):
    """Which plan an organization is on now; the audit trail knows the earlier ones."""

    organization = models.OneToOneField(
        Organization, models.PROTECT, primary_key=True, related_name="plan_subscription"
    )
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    since = models.DateTimeField(default=timezone.now, editable=False)

    @override
    def __str__(self) -> str:
        return f"{self.organization} on {self.plan}"
