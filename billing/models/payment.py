"""Payments through a provider, and everything that the provider told about them."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization
from billing.models.wallet import Grant


class Payment(models.Model):
    """One order of credit: open until the provider says how it ended."""

    class State(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        EXPIRED = "expired"
        FAILED = "failed"
        REVIEW = "review"  # What was paid is not what was ordered: a person has to look.

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="payments")
    provider = models.CharField(max_length=20)
    # The provider's id of the order; empty until it has answered.
    reference = models.CharField(max_length=200, blank=True)
    # The provider's id of the money, by which refunds and disputes name the payment.
    intent = models.CharField(max_length=200, blank=True)
    amount_nano_usd = models.BigIntegerField()
    state = models.CharField(max_length=7, choices=State, default=State.OPEN)
    grant = models.OneToOneField(
        Grant, models.PROTECT, null=True, blank=True, related_name="payment"
    )
    refunded_nano_usd = models.BigIntegerField(default=0)
    disputed_nano_usd = models.BigIntegerField(default=0)
    # Of what was refunded or disputed: taken from the wallet again, or given up.
    collected_nano_usd = models.BigIntegerField(default=0)
    written_off_nano_usd = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    paid_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="payment_amounts_are_not_negative",
                condition=Q(
                    amount_nano_usd__gt=0,
                    refunded_nano_usd__gte=0,
                    disputed_nano_usd__gte=0,
                    collected_nano_usd__gte=0,
                    written_off_nano_usd__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="payment_takes_back_no_more_than_it_gave",
                condition=Q(
                    amount_nano_usd__gte=F("collected_nano_usd") + F("written_off_nano_usd")
                ),
            ),
            models.CheckConstraint(
                name="payment_is_paid_by_one_grant",
                condition=Q(state="paid", grant__isnull=False)
                | (~Q(state="paid") & Q(grant__isnull=True)),
            ),
            models.UniqueConstraint(
                name="payment_reference_is_unique",
                fields=["provider", "reference"],
                condition=~Q(reference=""),
            ),
        ]
        indexes = [models.Index(name="payment_of_intent", fields=["provider", "intent"])]

    @override
    def __str__(self) -> str:
        return f"payment {self.pk}"

    @property
    def due_nano_usd(self) -> int:
        """What is still to be taken back; below zero where the provider returned something."""
        if self.state != self.State.PAID:
            return 0
        owed = min(self.amount_nano_usd, self.refunded_nano_usd + self.disputed_nano_usd)
        return owed - self.collected_nano_usd - self.written_off_nano_usd


class PaymentEvent(models.Model):
    """What a provider told, once, whatever order it came in."""

    provider = models.CharField(max_length=20)
    event_id = models.CharField(max_length=200)
    kind = models.CharField(max_length=20)
    payment = models.ForeignKey(
        Payment, models.PROTECT, null=True, blank=True, related_name="events"
    )
    intent = models.CharField(max_length=200, blank=True)
    dispute = models.CharField(max_length=200, blank=True)
    amount_nano_usd = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=10, blank=True)
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="payment_event_is_taken_once", fields=["provider", "event_id"]
            ),
            models.CheckConstraint(
                name="payment_event_amount_is_not_negative", condition=Q(amount_nano_usd__gte=0)
            ),
        ]
        indexes = [models.Index(name="payment_event_of_intent", fields=["provider", "intent"])]

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.event_id}"
