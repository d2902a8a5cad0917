"""Dated official prices and the discounts on them. Past rows are closed, never edited."""

from django.db import models
from django.db.models import F, Q, Value
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization
from billing.models.plan import Plan


class Price(models.Model):
    """The official price of one model from `effective_from` until `effective_to` (half-open)."""

    model = models.CharField(max_length=200)
    effective_from = models.DateTimeField()
    effective_to = models.DateTimeField(null=True, blank=True)
    # {"default": {"input_tokens": "2.50", ...}, "flex": {...}}: USD per 1M tokens. Empty where
    # the model is not sold by tokens.
    tiers = models.JSONField()
    # {"input_audio_milliseconds": "0.006", ...}: USD for what the unit is quoted by, in any tier.
    unit_rates = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    # {"above_tokens": 272000, "tiers": {...}}: rates of calls whose prompt is longer than that.
    long_context = models.JSONField(null=True, blank=True)
    context_tokens = models.PositiveIntegerField(null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True)
    output_cap_field = models.CharField(max_length=30, default="max_completion_tokens")
    endpoints = models.JSONField(default=list)
    deprecated_on = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="price_starts_once", fields=["model", "effective_from"]),
            models.UniqueConstraint(
                name="price_current_is_unique",
                fields=["model"],
                condition=Q(effective_to__isnull=True),
            ),
            models.CheckConstraint(
                name="price_period_is_forward",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gt=F("effective_from")),
            ),
            models.CheckConstraint(
                name="price_is_of_something", condition=~Q(tiers={}) | ~Q(unit_rates={})
            ),
            models.CheckConstraint(
                name="price_output_cap_field_is_known",
                condition=Q(output_cap_field__in=["max_completion_tokens", "max_tokens"]),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d}"


class Discount(models.Model):
    """The fraction of the official price that is charged; the most specific row wins."""

    organization = models.ForeignKey(Organization, models.CASCADE, null=True, blank=True)
    plan = models.ForeignKey(Plan, models.PROTECT, null=True, blank=True, related_name="discounts")
    model = models.CharField(max_length=200, blank=True, default="")
    # Parts per million to pay: 0.5 of the official price is 500000.
    fraction_ppm = models.BigIntegerField()
    effective_from = models.DateTimeField()
    effective_to = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="discount_current_is_unique",
                fields=["organization", "plan", "model"],
                condition=Q(effective_to__isnull=True),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="discount_is_of_an_organization_or_a_plan",
                condition=Q(organization__isnull=True) | Q(plan__isnull=True),
            ),
            models.CheckConstraint(
                name="discount_fraction_is_sane",
                condition=Q(fraction_ppm__gt=0, fraction_ppm__lte=100_000_000),
            ),
            models.CheckConstraint(
                name="discount_period_is_forward",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gt=F("effective_from")),
            ),
        ]

    @override
    def __str__(self) -> str:
        owner = str(self.organization or self.plan or "")
        scope = " ".join(filter(None, [owner, self.model])) or "everything"
        return f"{self.fraction_ppm / 1_000_000} on {scope}"
