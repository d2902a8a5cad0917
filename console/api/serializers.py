"""What the usage API answers, field by field; the OpenAPI schema is made from it."""

import datetime as dt
import uuid
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from typing_extensions import override

from billing.money import format_usd
from billing.windows import PERS


@extend_schema_field({"type": "string", "format": "decimal", "example": "0.0125"})
class UsdField(serializers.Field[int, Any, str, Any]):
    """Exact dollars, from a whole number of nano-USD."""

    @override
    def to_representation(self, value: int) -> str:
        return format_usd(value)


@extend_schema_field({"type": "string", "example": "req_0198f4b2c3d47e8f9a0b1c2d3e4f5a6b"})
class RequestIdField(serializers.Field[uuid.UUID, Any, str, Any]):
    """As the answer's `x-request-id` had it."""

    @override
    def to_representation(self, value: uuid.UUID) -> str:
        return f"req_{value.hex}"


@extend_schema_field({"type": "string", "format": "date-time"})
class MomentField(serializers.Field[dt.datetime, Any, str, Any]):
    @override
    def to_representation(self, value: dt.datetime) -> str:
        return value.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TotalsSerializer(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    official_cost_nano_usd = serializers.IntegerField()
    official_cost_usd = UsdField(source="official_cost_nano_usd")
    charge_nano_usd = serializers.IntegerField()
    charge_usd = UsdField(source="charge_nano_usd")


class GroupSerializer(TotalsSerializer):
    """The totals of one day, or of one model."""

    day = serializers.DateField(required=False)
    model = serializers.CharField(required=False)


class SpendLimitSerializer(serializers.Serializer[Any]):
    """One of the limits that bound the key's calls, in the window that is running."""

    scope = serializers.CharField(source="limit.scope")
    per = serializers.ChoiceField(source="limit.per", choices=PERS)
    limit_nano_usd = serializers.IntegerField(source="limit.cap_nano_usd")
    limit_usd = UsdField(source="limit.cap_nano_usd")
    used_nano_usd = serializers.IntegerField()
    used_usd = UsdField(source="used_nano_usd")
    left_nano_usd = serializers.IntegerField()
    left_usd = UsdField(source="left_nano_usd")
    resets_at = MomentField(allow_null=True, help_text="Null: a limit in total never resets.")


class UsageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="usage")
    start = serializers.DateField()
    end = serializers.DateField(help_text="The last UTC day that is counted.")
    balance_nano_usd = serializers.IntegerField()
    balance_usd = UsdField(source="balance_nano_usd")
    total = TotalsSerializer()
    data = GroupSerializer(many=True)  # type: ignore[assignment]  # A declared field; the metaclass takes it away.
    spend_limits = SpendLimitSerializer(
        many=True, required=False, help_text="Absent where no limit bounds the key."
    )


class RecordSerializer(serializers.Serializer[Any]):
    request_id = RequestIdField()
    created_at = MomentField()
    model = serializers.CharField()
    endpoint = serializers.CharField()
    project = serializers.CharField()
    api_key_prefix = serializers.CharField()
    stream = serializers.BooleanField()
    status = serializers.IntegerField()
    outcome = serializers.CharField()
    retry_count = serializers.IntegerField(
        help_text="Which attempt of its client it was, if that said so; each is a call of its own."
    )
    usage_source = serializers.CharField()
    prompt_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    total_tokens = serializers.SerializerMethodField()
    units = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="What was billed, each thing once: kinds of tokens, images, characters, calls.",
    )
    discount_ppm = serializers.IntegerField()
    price_id = serializers.IntegerField()
    official_cost_nano_usd = serializers.IntegerField()
    official_cost_usd = UsdField(source="official_cost_nano_usd")
    charge_nano_usd = serializers.IntegerField()
    charge_usd = UsdField(source="charge_nano_usd")

    def get_total_tokens(self, record: Any) -> int:
        return int(record.prompt_tokens + record.completion_tokens)


class RecordsSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = RecordSerializer(many=True)  # type: ignore[assignment]  # A declared field; the metaclass takes it away.
    next_cursor = serializers.CharField(allow_null=True)


class BillingUsageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    total_usage = serializers.FloatField(help_text="Cents.")


class SubscriptionSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="billing_subscription")
    has_payment_method = serializers.BooleanField()
    soft_limit_usd = serializers.FloatField()
    hard_limit_usd = serializers.FloatField(help_text="Dollars granted, less what expired.")
    system_hard_limit_usd = serializers.FloatField()
    access_until = serializers.IntegerField(help_text="When the key expires, in Unix seconds.")


class CreditGrantSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="credit_grant")
    id = serializers.CharField()
    grant_amount = serializers.FloatField()
    used_amount = serializers.FloatField()
    effective_at = serializers.IntegerField()
    expires_at = serializers.IntegerField()


class CreditGrantListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = CreditGrantSerializer(many=True)  # type: ignore[assignment]  # A declared field; the metaclass takes it away.


class CreditGrantsSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="credit_summary")
    total_granted = serializers.FloatField()
    total_used = serializers.FloatField()
    total_available = serializers.FloatField()
    grants = CreditGrantListSerializer()
