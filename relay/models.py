"""Where calls go: channels, the upstream base URLs and credentials that the operator owns."""

from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override


class Channel(models.Model):
    """One upstream base URL with one credential, encrypted at rest and never shown again."""

    name = models.SlugField(max_length=60, unique=True)
    provider = models.CharField(max_length=20, default="openai")
    base_url = models.URLField(max_length=300)
    credential_encrypted = models.BinaryField(editable=False)
    # Where the models are not listed (ChannelModel), the channel serves every priced model.
    serves_all_models = models.BooleanField(default=True)
    priority = models.IntegerField(default=0, help_text="Higher is tried first.")
    weight = models.PositiveIntegerField(default=1)
    # What the operator pays of the official price, in parts per million; for the margin page.
    cost_ppm = models.BigIntegerField(default=1_000_000)
    insecure = models.BooleanField(default=False, help_text="Allow plain HTTP off this machine.")
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="channel_cost_is_not_negative", condition=Q(cost_ppm__gte=0)
            ),
            models.CheckConstraint(name="channel_weight_is_positive", condition=Q(weight__gte=1)),
        ]

    @override
    def __str__(self) -> str:
        return self.name


class ChannelModel(models.Model):
    """A public model that a channel serves, and the name that its upstream knows it by."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="models")
    model = models.CharField(max_length=200)
    upstream_model = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="channel_model_is_unique", fields=["channel", "model"])
        ]

    @override
    def __str__(self) -> str:
        return f"{self.model} -> {self.upstream_model}"


class UpstreamId(models.Model):
    """An id that upstream handed out, whose it is, and the channel that it lives on.

    The ids are plain numbers, as in usage records: what they name is never deleted.
    """

    pk = models.CompositePrimaryKey("organization_id", "upstream_id")
    organization_id = models.BigIntegerField()
    upstream_id = models.CharField(max_length=200)
    channel_id = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    @override
    def __str__(self) -> str:
        return self.upstream_id
