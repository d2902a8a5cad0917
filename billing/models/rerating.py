"""Re-ratings: what calls of a past range would have cost, and the money moved to make it so."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization
from billing.models.price import Price
from billing.models.wallet import Grant


class Rerating(models.Model):
    """One correction of charges: previewed first, then applied once or dropped."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"  # Decided; calls are rated and money is moved, bit by bit.
        DONE = "done"
        DROPPED = "dropped"

    class Terms(models.TextChoices):
        """Of prices and discounts: those that each call had, those of now, or a given one."""

        THEN = "then"
        NOW = "now"
        GIVEN = "given"

    # UTC days; both belong to it.
    first_day = models.DateField()
    last_day = models.DateField()
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, blank=True)
    model = models.CharField(max_length=200, blank=True)
    prices = models.CharField(max_length=5, choices=Terms)
    discounts = models.CharField(max_length=5, choices=Terms)
    discount_ppm = models.BigIntegerField(null=True, blank=True)
    # Whether calls that become dearer may put an organization on standard holds into debt.
    may_owe = models.BooleanField(default=False)
    reason = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="rerating_range_is_forward", condition=Q(last_day__gte=F("first_day"))
            ),
            models.CheckConstraint(
                name="rerating_terms_are_known",
                condition=Q(prices__in=["then", "now"])
                & (
                    Q(discounts__in=["then", "now"], discount_ppm__isnull=True)
                    | Q(discounts="given", discount_ppm__isnull=False, discount_ppm__gt=0)
                ),
            ),
            models.CheckConstraint(
                name="rerating_is_decided_once",
                condition=Q(state="waiting", decided_at__isnull=True, ended_at__isnull=True)
                | Q(state="running", decided_at__isnull=False, ended_at__isnull=True)
                | Q(
                    state__in=["done", "dropped"], decided_at__isnull=False, ended_at__isnull=False
                ),
            ),
            # What a call costs by one of them is where the next one begins.
            models.UniqueConstraint(
                name="rerating_runs_alone", fields=["state"], condition=Q(state="running")
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"re-rating {self.pk}"


class ReratingLine(models.Model):
    """One organization's calls of one model: what the preview said, and what came of it."""

    rerating = models.ForeignKey(Rerating, models.PROTECT, related_name="lines")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    model = models.CharField(max_length=200)
    # As they were when it was previewed; null: those that each call had.
    price = models.ForeignKey(Price, models.PROTECT, null=True, related_name="+")
    discount_ppm = models.BigIntegerField(null=True)
    calls = models.IntegerField()
    unratable_calls = models.IntegerField()
    charged_nano_usd = models.BigIntegerField()
    rated_nano_usd = models.BigIntegerField()
    # Up to which call it has been applied, whether to all, and what it has changed.
    reached = models.UUIDField(null=True)
    rated_at = models.DateTimeField(null=True)
    changed_calls = models.IntegerField(default=0)
    difference_nano_usd = models.BigIntegerField(default=0)
    # What became cheaper is a grant; what became dearer is taken from the wallet, or given up.
    grant = models.OneToOneField(Grant, models.PROTECT, null=True, related_name="rerating_line")
    collected_nano_usd = models.BigIntegerField(default=0)
    waived_nano_usd = models.BigIntegerField(default=0)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="rerating_line_is_unique", fields=["rerating", "organization", "model"]
            ),
            models.CheckConstraint(
                name="rerating_line_amounts_are_not_negative",
                condition=Q(
                    calls__gte=0,
                    unratable_calls__gte=0,
                    charged_nano_usd__gte=0,
                    rated_nano_usd__gte=0,
                    changed_calls__gte=0,
                    collected_nano_usd__gte=0,
                    waived_nano_usd__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="rerating_line_takes_no_more_than_it_adds",
                condition=Q(collected_nano_usd=0, waived_nano_usd=0)
                | Q(difference_nano_usd__gte=F("collected_nano_usd") + F("waived_nano_usd")),
            ),
            models.CheckConstraint(
                name="rerating_line_is_settled_whole",
                condition=Q(settled_at__isnull=True, grant__isnull=True)
                | Q(
                    settled_at__isnull=False,
                    rated_at__isnull=False,
                    grant__isnull=True,
                    difference_nano_usd=F("collected_nano_usd") + F("waived_nano_usd"),
                )
                | Q(
                    settled_at__isnull=False,
                    rated_at__isnull=False,
                    grant__isnull=False,
                    difference_nano_usd__lt=0,
                ),
            ),
        ]
        indexes = [
            models.Index(
                name="rerating_line_open", fields=["rerating"], condition=Q(settled_at__isnull=True)
            )
        ]

    @override
    def __str__(self) -> str:
        return f"{self.model} of {self.organization}"

    @property
    def preview_difference_nano_usd(self) -> int:
        return self.rated_nano_usd - self.charged_nano_usd


class ReratedCall(models.Model):
    """By how much one call became dearer or (below zero) cheaper."""

    line = models.ForeignKey(ReratingLine, models.PROTECT, related_name="changed")
    # Of the usage record, which is partitioned: a foreign key would cost each of them a check.
    request_id = models.UUIDField(db_index=True)
    difference_nano_usd = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="rerated_call_once_a_line", fields=["line", "request_id"]),
            models.CheckConstraint(
                name="rerated_call_changes_something", condition=~Q(difference_nano_usd=0)
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"req_{self.request_id.hex}"
