"""What an hour of calls came to, by channel and model: for margins and health, long after."""

from django.db import models
from django.db.models import Q
from typing_extensions import override


class CallHour(models.Model):
    """A sum of usage records, made from them by billing.usage.call_hours and never by hand.

    A call counts where its record says that it was served; attempts of it that failed before, and
    their cost, count where they were made. Histograms are of calls that were served.
    """

    hour = models.DateTimeField()
    channel = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    calls = models.BigIntegerField()
    served = models.BigIntegerField()
    failed = models.BigIntegerField()  # Not those that upstream refused for what was in them.
    attempts_failed = models.BigIntegerField()
    official_cost_nano_usd = models.BigIntegerField()
    charge_nano_usd = models.BigIntegerField()
    upstream_cost_nano_usd = models.BigIntegerField()
    # The part of it for which nobody was charged.
    unearned_cost_nano_usd = models.BigIntegerField()
    duration_counts = models.JSONField(default=dict)
    first_token_counts = models.JSONField(default=dict)

    class Meta:
        verbose_name = "hour of calls"
        verbose_name_plural = "margins"
        constraints = [
            models.UniqueConstraint(
                name="call_hour_is_one_per_channel_and_model", fields=["hour", "channel", "model"]
            ),
            models.CheckConstraint(
                name="call_hour_numbers_are_not_negative",
                condition=Q(
                    calls__gte=0,
                    served__gte=0,
                    failed__gte=0,
                    attempts_failed__gte=0,
                    official_cost_nano_usd__gte=0,
                    charge_nano_usd__gte=0,
                    upstream_cost_nano_usd__gte=0,
                    unearned_cost_nano_usd__gte=0,
                ),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.channel} {self.model}"
