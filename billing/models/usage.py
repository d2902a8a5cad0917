"""What was relayed: one row per admitted call, partitioned by the time in its UUIDv7 request id."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from typing_extensions import override

# What an operator counts: see billing.gauges.
ODD = (
    Q(usage_source="estimated")
    | Q(outcome__in=["lost", "expired"])
    | Q(flags__contains=["bound_exceeded"])
)


class UsageRecord(models.Model):
    """One relayed call: who, what, how much, and at which price. Inserted by the shipper, for ever.

    The ids are plain numbers, not foreign keys: a row outlives nothing it names (all of it is
    protected), and a check per shipped row would cost the database more than the row itself.
    """

    class Outcome(models.TextChoices):
        COMPLETED = "completed"  # The client was sent a complete answer.
        CLIENT_LEFT = "client_left"  # The client went away; upstream was drained or cut.
        UPSTREAM_ERROR = "upstream_error"  # Upstream failed or refused before any output.
        INTERRUPTED = "interrupted"  # Output came, then the stream broke.
        EXPIRED = "expired"  # The call passed its deadline: nothing may be charged any more.
        LOST = "lost"  # The worker died with the call open: nothing is charged.

    class UsageSource(models.TextChoices):
        UPSTREAM = "upstream"
        ESTIMATED = "estimated"
        NONE = "none"

    request_id = models.UUIDField(primary_key=True)
    worker_id = models.UUIDField()
    journal_offset = models.BigIntegerField()
    organization_id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    api_key_id = models.BigIntegerField()
    api_key_prefix = models.CharField(max_length=40)
    endpoint = models.CharField(max_length=60)
    model = models.CharField(max_length=200)
    upstream_model = models.CharField(max_length=200)
    channel = models.CharField(max_length=100)
    credential = models.CharField(max_length=100, blank=True, db_default="")  # Its label.
    route_reason = models.CharField(max_length=20, blank=True, db_default="")
    # Every channel that the call was sent to, in order, where one failed: see engine.records.
    attempts = models.JSONField(null=True, blank=True)
    stream = models.BooleanField()
    status = models.SmallIntegerField()
    outcome = models.CharField(max_length=14, choices=Outcome)
    usage_source = models.CharField(max_length=9, choices=UsageSource)
    # Names of what was odd: "bound_exceeded", "absurd_usage", "unknown_tier", ...
    flags = ArrayField(models.CharField(max_length=40), default=list)
    prompt_tokens = models.IntegerField()
    cached_tokens = models.IntegerField()
    completion_tokens = models.IntegerField()
    reasoning_tokens = models.IntegerField()
    # The billed buckets that are not zero; they add up to the totals above.
    units = models.JSONField()
    service_tier = models.CharField(max_length=30, blank=True)
    price_id = models.BigIntegerField()
    discount_ppm = models.BigIntegerField()
    lease_id = models.UUIDField()
    limit_lease_ids = ArrayField(models.UUIDField(), default=list)
    hold_nano_usd = models.BigIntegerField()
    official_cost_nano_usd = models.BigIntegerField()
    charge_nano_usd = models.BigIntegerField()
    upstream_cost_nano_usd = models.BigIntegerField()
    upstream_request_id = models.CharField(max_length=100, blank=True)
    retry_count = models.SmallIntegerField(default=0)
    first_byte_ms = models.IntegerField(null=True)
    first_token_ms = models.IntegerField(null=True)  # Of streams: until a model's first output.
    duration_ms = models.IntegerField()
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="usage_record_money_is_not_negative",
                condition=Q(
                    charge_nano_usd__gte=0,
                    official_cost_nano_usd__gte=0,
                    upstream_cost_nano_usd__gte=0,
                    hold_nano_usd__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="usage_record_tokens_are_not_negative",
                condition=Q(
                    prompt_tokens__gte=0,
                    cached_tokens__gte=0,
                    completion_tokens__gte=0,
                    reasoning_tokens__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="usage_record_unbilled_outcomes",
                condition=~Q(outcome__in=["lost", "expired", "upstream_error"])
                | Q(charge_nano_usd=0),
            ),
        ]
        indexes = [
            models.Index(
                name="usage_record_of_organization", fields=["organization_id", "request_id"]
            ),
            # Few rows are in it, so an operator's counters cost nothing however many calls there
            # were.
            models.Index(name="usage_record_odd", fields=["request_id"], condition=ODD),
            models.Index(
                name="usage_record_attempts",
                fields=["request_id"],
                condition=Q(attempts__isnull=False),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"req_{self.request_id.hex}"


class SetAsideRecord(models.Model):
    """A journal record that the database refused: kept whole, with the reason, for the operator."""

    worker_id = models.UUIDField()
    journal_offset = models.BigIntegerField()
    payload = models.BinaryField()
    reason = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="set_aside_record_once", fields=["worker_id", "journal_offset"]
            )
        ]

    @override
    def __str__(self) -> str:
        return f"record at {self.journal_offset} of {self.worker_id}"
