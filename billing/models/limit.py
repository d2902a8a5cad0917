"""Spend limits: how much may be spent in a window of time, and how much of it is gone."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import ApiKey, Organization, Project


class SpendLimit(models.Model):
    """A bound on what an organization, one of its projects or one of its keys may spend.

    Of a key, it counts for the whole family of keys that replaced each other by rotation.
    """

    class Per(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"
        TOTAL = "total"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="spend_limits")
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, blank=True, related_name="spend_limits"
    )
    # The first key of the family.
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="spend_limits"
    )
    per = models.CharField(max_length=5, choices=Per)
    cap_nano_usd = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="spend_limit_is_of_one_scope",
                condition=Q(project__isnull=True) | Q(api_key__isnull=True),
            ),
            models.CheckConstraint(
                name="spend_limit_per_is_known",
                condition=Q(per__in=["day", "week", "month", "total"]),
            ),
            models.CheckConstraint(
                name="spend_limit_cap_is_not_negative", condition=Q(cap_nano_usd__gte=0)
            ),
            models.UniqueConstraint(
                name="spend_limit_is_one_per_scope_and_window",
                fields=["organization", "project", "api_key", "per"],
                condition=Q(removed_at__isnull=True),
                nulls_distinct=False,
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.scope} per {self.per}"

    @property
    def breadth(self) -> int:
        """For lists: keys before projects, and those before organizations."""
        return 0 if self.api_key_id else 1 if self.project_id else 2

    @property
    def scope(self) -> str:
        """What it bounds, as people name it."""
        if self.api_key is not None:
            return f"API key {self.api_key.prefix}"
        if self.project is not None:
            return f"project {self.project}"
        return f"organization {self.organization}"


class SpendLimitPeriod(models.Model):
    """One window of a limit: what is set aside in leases of workers, and what was spent."""

    limit = models.ForeignKey(SpendLimit, models.PROTECT, related_name="periods")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    cap_nano_usd = models.BigIntegerField()
    leased_nano_usd = models.BigIntegerField(default=0)
    used_nano_usd = models.BigIntegerField(default=0)
    # How much is beyond the cap: calls that cost more than their holds, or a lower cap.
    over_nano_usd = models.BigIntegerField(default=0)
    # Ended before its time by a change of the organization's time zone: it counts in those windows
    # that overlap with it.
    cut_short = models.BooleanField(default=False, db_default=False)
    # When a worker last ran short of it: the stored form of a recall.
    short_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="spend_limit_period_is_unique", fields=["limit", "period_start"]
            ),
            models.CheckConstraint(
                name="spend_limit_period_parts_are_not_negative",
                condition=Q(
                    cap_nano_usd__gte=0,
                    leased_nano_usd__gte=0,
                    used_nano_usd__gte=0,
                    over_nano_usd__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="spend_limit_period_within_cap",
                condition=Q(
                    cap_nano_usd__gte=F("leased_nano_usd") + F("used_nano_usd") - F("over_nano_usd")
                ),
            ),
            models.CheckConstraint(
                name="spend_limit_period_is_forward",
                condition=Q(period_end__gt=F("period_start")),
            ),
        ]
        indexes = [
            models.Index(
                name="spend_limit_period_short",
                fields=["short_at"],
                condition=Q(short_at__isnull=False),
            )
        ]

    @override
    def __str__(self) -> str:
        return f"{self.limit_id} from {self.period_start:%Y-%m-%d %H:%M}"
