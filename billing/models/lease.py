"""Money set aside for workers. Written by the engine (billing.engine), read by everybody else."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization


class Worker(models.Model):
    """One incarnation of a serving process: it owns one journal and some leases."""

    class State(models.TextChoices):
        LIVE = "live"
        EXPIRED = "expired"
        LOST = "lost"
        COMPLETE = "complete"

    id = models.UUIDField(primary_key=True)
    node = models.CharField(max_length=100)
    pid = models.IntegerField(null=True)
    state = models.CharField(max_length=8, choices=State, default=State.LIVE)
    expires_at = models.DateTimeField()
    shipped_offset = models.BigIntegerField(default=0)
    was_lost = models.BooleanField(default=False)
    # What it said of itself with its last renewal: counters, for people; no decision rests on it.
    report = models.JSONField(default=dict)
    started_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="worker_state_is_known",
                condition=Q(state__in=["live", "expired", "lost", "complete"]),
            ),
            models.CheckConstraint(
                name="worker_offset_is_not_negative", condition=Q(shipped_offset__gte=0)
            ),
        ]
        indexes = [
            models.Index(
                name="worker_not_ended",
                fields=["expires_at"],
                condition=Q(state__in=["live", "expired"]),
            )
        ]

    @override
    def __str__(self) -> str:
        return f"worker {self.id} ({self.state})"


class Lease(models.Model):
    """Money of one wallet, with room in spend limits, that one worker may spend on its own."""

    class State(models.TextChoices):
        OPEN = "open"
        CLOSED = "closed"

    id = models.UUIDField(primary_key=True)
    worker = models.ForeignKey(Worker, models.PROTECT, related_name="leases")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="leases")
    state = models.CharField(max_length=6, choices=State, default=State.OPEN)
    version = models.BigIntegerField(default=1)
    granted_nano_usd = models.BigIntegerField()
    spent_nano_usd = models.BigIntegerField(default=0)
    usable_until = models.DateTimeField()
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True)
    # The windows of spend limits in which it takes room, as much of each as it was granted.
    limit_period_ids = ArrayField(models.BigIntegerField(), default=list, db_default=[])

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="lease_spent_within_granted",
                condition=Q(spent_nano_usd__gte=0, spent_nano_usd__lte=F("granted_nano_usd")),
            ),
            models.CheckConstraint(
                name="lease_closed_keeps_nothing",
                condition=Q(state="open") | Q(granted_nano_usd=F("spent_nano_usd")),
            ),
            models.CheckConstraint(
                name="lease_state_is_known", condition=Q(state__in=["open", "closed"])
            ),
        ]
        indexes = [
            models.Index(name="lease_open_of_worker", fields=["worker"], condition=Q(state="open")),
            models.Index(
                name="lease_open_of_organization",
                fields=["organization"],
                condition=Q(state="open"),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"lease {self.id} ({self.state})"


class LeaseSlice(models.Model):
    """Which grant funded which part of an open lease; NULL is debt. Burnt from the front."""

    lease = models.ForeignKey(Lease, models.PROTECT, related_name="slices")
    position = models.IntegerField()
    grant = models.ForeignKey("billing.Grant", models.PROTECT, null=True, related_name="+")
    amount_nano_usd = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="lease_slice_position_is_unique", fields=["lease", "position"]
            ),
            models.CheckConstraint(
                name="lease_slice_holds_money", condition=Q(amount_nano_usd__gt=0)
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.amount_nano_usd} from {self.grant_id or 'debt'}"
