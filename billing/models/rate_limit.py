"""Rate limits: how much may be called in a minute, and at once."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override

from accounts.models import ApiKey, Organization, Project

# Far beyond what one gateway can do; the counters add it up without an overflow.
MAX_RATE_LIMIT = 10**12


def _is_sane(name: str) -> Q:
    return Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 1, f"{name}__lte": MAX_RATE_LIMIT})


class RateLimit(models.Model):
    """Bounds on the calls of an organization, a project, a key, or on those of a model.

    Of a key, it counts for the whole family of keys that replaced each other by rotation. Where a
    number is missing, there is no bound; without any number there is no row.
    """

    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="rate_limits"
    )
    project = models.ForeignKey(
        Project, models.PROTECT, null=True, blank=True, related_name="rate_limits"
    )
    # The first key of the family.
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="rate_limits"
    )
    model = models.CharField(max_length=200, blank=True, default="")
    calls_per_minute = models.BigIntegerField(null=True, blank=True)
    tokens_per_minute = models.BigIntegerField(null=True, blank=True)
    concurrency = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="rate_limit_is_of_one_scope",
                condition=(
                    Q(organization__isnull=True, project__isnull=True, api_key__isnull=True)
                    & ~Q(model="")
                )
                | (
                    Q(organization__isnull=False, model="")
                    & (Q(project__isnull=True) | Q(api_key__isnull=True))
                ),
            ),
            models.CheckConstraint(
                name="rate_limit_limits_something",
                condition=Q(calls_per_minute__isnull=False)
                | Q(tokens_per_minute__isnull=False)
                | Q(concurrency__isnull=False),
            ),
            models.CheckConstraint(
                name="rate_limit_numbers_are_sane",
                condition=_is_sane("calls_per_minute")
                & _is_sane("tokens_per_minute")
                & _is_sane("concurrency"),
            ),
            models.UniqueConstraint(
                fields=["organization", "project", "api_key", "model"],
                name="rate_limit_is_one_per_scope",
                nulls_distinct=False,
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.scope

    @property
    def scope(self) -> str:
        """What it bounds, as people name it."""
        if self.api_key is not None:
            return f"API key {self.api_key.prefix}"
        if self.project is not None:
            return f"project {self.project}"
        if self.organization is not None:
            return f"organization {self.organization}"
        return f"model {self.model}"
