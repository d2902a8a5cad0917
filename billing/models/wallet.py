"""Prepaid money: a wallet per organization, filled by grants."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import Organization


class Wallet(models.Model):
    """What an organization has outside its leases: the free parts of its grants less its debt."""

    organization = models.OneToOneField(
        Organization, models.PROTECT, primary_key=True, related_name="wallet"
    )
    # On strict holds a call is never charged more than its hold. True on the free tier and where
    # the operator wants it; `strict_always` keeps it after other money than the free quota came.
    strict = models.BooleanField(default=True)
    strict_always = models.BooleanField(default=False)
    balance_nano_usd = models.BigIntegerField(default=0)
    debt_nano_usd = models.BigIntegerField(default=0)
    # All that was ever taken back of it, because the payments behind it were.
    reversed_nano_usd = models.BigIntegerField(default=0, db_default=0)
    # When a worker last ran short of this wallet's money: the stored form of a recall.
    short_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="wallet_debt_is_not_negative", condition=Q(debt_nano_usd__gte=0)
            ),
            models.CheckConstraint(
                name="wallet_strict_has_no_debt", condition=Q(strict=False) | Q(debt_nano_usd=0)
            ),
            models.CheckConstraint(
                name="wallet_balance_at_least_minus_debt",
                condition=Q(balance_nano_usd__gte=-F("debt_nano_usd")),
            ),
            models.CheckConstraint(
                name="wallet_strict_always_is_strict",
                condition=Q(strict_always=False) | Q(strict=True),
            ),
        ]
        indexes = [
            models.Index(
                name="wallet_short", fields=["short_at"], condition=Q(short_at__isnull=False)
            )
        ]

    @override
    def __str__(self) -> str:
        return f"wallet of {self.organization_id}"


class Grant(models.Model):
    """Money that came in once, and where each part of it is now."""

    class Kind(models.TextChoices):
        FREE_QUOTA = "free_quota"
        TOP_UP = "top_up"
        CODE = "code"
        ADJUSTMENT = "adjustment"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="grants")
    kind = models.CharField(max_length=10, choices=Kind)
    amount_nano_usd = models.BigIntegerField()
    free_nano_usd = models.BigIntegerField()
    leased_nano_usd = models.BigIntegerField(default=0)
    burnt_nano_usd = models.BigIntegerField(default=0)
    expired_nano_usd = models.BigIntegerField(default=0)
    reversed_nano_usd = models.BigIntegerField(default=0, db_default=0)  # Paid back, so taken back.
    # Grants burn by priority (the higher first), then the earliest expiry, then the oldest.
    priority = models.SmallIntegerField(default=0, db_default=0)
    expires_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="grant_parts_are_not_negative",
                condition=Q(
                    amount_nano_usd__gt=0,
                    free_nano_usd__gte=0,
                    leased_nano_usd__gte=0,
                    burnt_nano_usd__gte=0,
                    expired_nano_usd__gte=0,
                    reversed_nano_usd__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="grant_parts_sum_to_amount",
                condition=Q(
                    amount_nano_usd=F("free_nano_usd")
                    + F("leased_nano_usd")
                    + F("burnt_nano_usd")
                    + F("expired_nano_usd")
                    + F("reversed_nano_usd")
                ),
            ),
            models.CheckConstraint(
                name="grant_kind_is_known",
                condition=Q(kind__in=["free_quota", "top_up", "code", "adjustment"]),
            ),
            models.UniqueConstraint(
                name="grant_free_quota_once_per_organization",
                fields=["organization"],
                condition=Q(kind="free_quota"),
            ),
        ]
        indexes = [
            models.Index(
                name="grant_to_expire",
                fields=["expires_at"],
                condition=Q(free_nano_usd__gt=0, expires_at__isnull=False),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.pk} of {self.organization_id}"
