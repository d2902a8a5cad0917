"""Where calls go: channels, the upstream base URLs and credentials that the operator owns."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone
from typing_extensions import override


class Channel(models.Model):
    """One upstream base URL, its credentials, and how calls get there."""

    class Kind(models.TextChoices):
        """Whose manners an upstream has; `provider` says who it is."""

        OPENAI = "openai", "OpenAI compatible"
        AZURE = "azure", "Azure OpenAI"

    name = models.SlugField(max_length=60, unique=True)
    provider = models.CharField(max_length=20, default="openai")
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.OPENAI)
    base_url = models.URLField(max_length=300)
    api_version = models.CharField(
        max_length=40, blank=True, help_text="Azure's; empty for its v1 API."
    )
    # Where this is false, the channel serves just the models of its map (ChannelModel).
    serves_all_models = models.BooleanField(default=True)
    priority = models.IntegerField(default=0, help_text="Higher is tried first.")
    weight = models.PositiveIntegerField(
        default=1, help_text="Its share of the calls among channels of the same priority."
    )
    concurrency = models.PositiveIntegerField(
        default=0, help_text="Calls at once in each serving process; 0: no limit."
    )
    # Null: as the installation has it.
    connect_seconds = models.FloatField(null=True, blank=True)
    first_byte_seconds = models.FloatField(null=True, blank=True)
    idle_seconds = models.FloatField(null=True, blank=True)
    http2 = models.BooleanField(default=False, help_text="Speak HTTP/2 where upstream can.")
    # Both may hold secrets: only their names, and the proxy without its password, are readable.
    proxy = models.CharField(max_length=300, blank=True)
    proxy_encrypted = models.BinaryField(null=True, editable=False)
    header_names = models.JSONField(default=list, blank=True)
    headers_encrypted = models.BinaryField(null=True, editable=False)
    # Reads upstream's own books of usage and costs; no call is made with it.
    admin_key_encrypted = models.BinaryField(null=True, editable=False)
    # What the operator pays of the official price, in parts per million; for the margin page.
    cost_ppm = models.BigIntegerField(default=1_000_000)
    # How upstream is asked for the money that is left there (empty: not at all), and when that is
    # an alarm: in billionths of upstream's own currency.
    balance = models.CharField(max_length=20, blank=True, db_default="")
    balance_low_nano = models.BigIntegerField(null=True, blank=True)
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
            models.CheckConstraint(
                name="channel_kind_is_known", condition=Q(kind__in=["openai", "azure"])
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.name


class ChannelCredential(models.Model):
    """What a channel proves itself with: encrypted at rest and never shown again."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="credentials")
    label = models.CharField(max_length=100, help_text="Tells it from the others.")
    encrypted = models.BinaryField(editable=False)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    # Upstream has refused it: the alarm of the console's first page, until it is enabled or goes.
    refused_at = models.DateTimeField(null=True, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="channel_label_is_unique", fields=["channel", "label"]),
            models.CheckConstraint(
                name="credential_is_disabled_at_a_time",
                condition=Q(enabled=True, disabled_at__isnull=True)
                | Q(enabled=False, disabled_at__isnull=False),
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.label


class CredentialCheck(models.Model):
    """What the last regular check of a credential found; the workers do not read it."""

    credential = models.OneToOneField(
        ChannelCredential, models.CASCADE, primary_key=True, related_name="check_made"
    )
    checked_at = models.DateTimeField()
    status = models.SmallIntegerField(null=True)  # Null: there was no answer.
    duration_ms = models.IntegerField()
    error = models.CharField(max_length=200, blank=True)
    balance_nano = models.BigIntegerField(null=True)  # In the currency beside it.
    balance_currency = models.CharField(max_length=8, blank=True)
    balance_error = models.CharField(max_length=200, blank=True)
    low_since = models.DateTimeField(null=True)  # The alarm, as long as it lasts.

    @override
    def __str__(self) -> str:
        return f"check of {self.credential_id}"


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


class Reconciliation(models.Model):
    """A day's calls of one model by upstream's books and by ours; without a model, the day's costs.

    Null: that side does not tell.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="reconciliations")
    day = models.DateField()
    model = models.CharField(max_length=200, blank=True)
    requests = models.BigIntegerField(null=True)
    upstream_requests = models.BigIntegerField(null=True)
    input_tokens = models.BigIntegerField(null=True)
    upstream_input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    upstream_output_tokens = models.BigIntegerField(null=True)
    cost_nano_usd = models.BigIntegerField(null=True)
    upstream_cost_nano_usd = models.BigIntegerField(null=True)
    # The figures that are further apart than they may be.
    drifts = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    compared_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="reconciliation_is_unique", fields=["channel", "day", "model"]
            )
        ]
        indexes = [
            models.Index(name="reconciliation_drifts", fields=["day"], condition=~Q(drifts=[]))
        ]

    @override
    def __str__(self) -> str:
        return f"{self.channel} on {self.day}: {self.model or 'all'}"


class UpstreamId(models.Model):
    """An id that upstream handed out, whose it is, and the channel that it lives on.

    The ids are plain numbers, as in usage records: what they name is never deleted.
    """

    pk = models.CompositePrimaryKey("organization_id", "upstream_id")
    organization_id = models.BigIntegerField()
    upstream_id = models.CharField(max_length=200)
    channel_id = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        # Rows are written as time goes on, so a few pages of index tell where the old ones are.
        indexes = [BrinIndex(fields=["created_at"], name="relay_upstreamid_by_age")]

    @override
    def __str__(self) -> str:
        return self.upstream_id


class IdempotencyKey(models.Model):
    """An Idempotency-Key that an organization used at an endpoint, and the answer to its call.

    Without a status the call may still run; with a status and no body its answer was too large.
    """

    pk = models.CompositePrimaryKey("organization_id", "endpoint", "key")
    organization_id = models.BigIntegerField()
    endpoint = models.CharField(max_length=60)
    key = models.CharField(max_length=255)
    request_id = models.UUIDField()
    body_digest = models.BinaryField()
    status = models.SmallIntegerField(null=True)
    headers = models.JSONField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="idempotency_answer_has_a_head",
                condition=Q(status__isnull=False, headers__isnull=False)
                | Q(status__isnull=True, headers__isnull=True, body__isnull=True),
            )
        ]

    @override
    def __str__(self) -> str:
        return self.key
