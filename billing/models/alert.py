"""Who wants to be told what, and what there was to tell: an outbox."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization


class AlertRule(models.Model):
    """One thing that an organization wants to be told, by e-mail or by webhook."""

    class Kind(models.TextChoices):
        LOW_BALANCE = "low_balance"
        FREE_QUOTA_USED = "free_quota_used"
        SPEND_LIMIT = "spend_limit"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="alert_rules")
    kind = models.CharField(max_length=15, choices=Kind)
    # Of a low balance: below which one.
    below_nano_usd = models.BigIntegerField(null=True, blank=True)
    email = models.EmailField(blank=True)
    webhook_url = models.URLField(max_length=500, blank=True)
    # How often the line was crossed, and whether it is crossed now: each time is told once.
    crossings = models.PositiveIntegerField(default=0)
    is_crossed = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="alert_rule_kind_is_known",
                condition=Q(kind__in=["low_balance", "free_quota_used", "spend_limit"]),
            ),
            models.CheckConstraint(
                name="alert_rule_tells_one_way",
                condition=Q(email="") ^ Q(webhook_url=""),
            ),
            models.CheckConstraint(
                name="alert_rule_of_balance_has_its_line",
                condition=Q(kind="low_balance", below_nano_usd__isnull=False, below_nano_usd__gt=0)
                | (~Q(kind="low_balance") & Q(below_nano_usd__isnull=True)),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.kind} to {self.email or self.webhook_url}"


class Alert(models.Model):
    """Something to tell, until it was told or given up."""

    rule = models.ForeignKey(AlertRule, models.PROTECT, related_name="alerts")
    # Which crossing it is about; the same one is never told twice.
    crossing = models.CharField(max_length=100)
    facts = models.JSONField(default=dict)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="alert_crossing_is_told_once", fields=["rule", "crossing"]
            ),
            models.CheckConstraint(
                name="alert_is_sent_or_waits",
                condition=Q(sent_at__isnull=True) | Q(next_attempt_at__isnull=True),
            ),
        ]
        indexes = [
            models.Index(
                name="alert_to_send",
                fields=["next_attempt_at"],
                condition=Q(next_attempt_at__isnull=False),
            )
        ]

    @override
    def __str__(self) -> str:
        return f"alert {self.pk} of {self.rule}"
