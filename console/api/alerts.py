"""Alerts that customers choose for themselves, with a key of the scope `admin`."""

import json
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.audit_trail import Actor
from billing.alerts import (
    RuleTerms,
    UnableToAlert,
    alert_rule_add,
    alert_rule_remove,
    webhook_secret,
)
from billing.models import AlertRule
from billing.money import InvalidMoney, parse_usd
from console.api.serializers import MomentField, UsdField
from console.api.views import ApiView
from console.authentication import ADMIN_SCOPES
from console.errors import invalid_parameter
from relay.errors import RelayError

FIELDS = frozenset({"kind", "below_usd", "email", "webhook_url"})
MAX_BODY_BYTES = 16_384


class AlertSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    object = serializers.CharField(default="alert")
    kind = serializers.CharField()
    below_nano_usd = serializers.IntegerField(allow_null=True)
    below_usd = UsdField(source="below_nano_usd", allow_null=True)
    email = serializers.CharField()
    webhook_url = serializers.CharField()
    webhook_secret = serializers.SerializerMethodField(
        help_text="What its calls are signed with (Standard Webhooks); null for an e-mail."
    )
    is_crossed = serializers.BooleanField()
    crossings = serializers.IntegerField()
    created_at = MomentField()

    def get_webhook_secret(self, rule: AlertRule) -> str | None:
        return webhook_secret(rule) if rule.webhook_url else None


class NewAlertSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=AlertRule.Kind.values)
    below_usd = serializers.CharField(
        required=False, help_text="Of a low balance: below which one, as a decimal text."
    )
    email = serializers.CharField(required=False)
    webhook_url = serializers.CharField(required=False, help_text="One of the two.")


class AlertListSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = AlertSerializer(many=True)  # type: ignore[assignment]  # A declared field; the metaclass takes it away.


class AdminView(ApiView):
    """What only keys of the scope `admin` may do."""

    scopes = ADMIN_SCOPES

    @property
    def actor(self) -> Actor:
        return Actor(user_id=None, label=f"key:{self.holder.key.prefix}")

    def rules(self) -> Any:
        organization = self.scope.organization_id
        return AlertRule.objects.filter(organization_id=organization, removed_at__isnull=True)


class AlertsView(AdminView):
    @extend_schema(
        operation_id="alerts_list", summary="The alerts that are on", responses=AlertListSerializer
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002  REST framework passes it.
        rules = self.rules().order_by("id")
        return Response({"object": "list", "data": AlertSerializer(rules, many=True).data})

    @extend_schema(
        operation_id="alerts_create",
        summary="Be told, once each time that a line is crossed",
        request=NewAlertSerializer,
        responses=AlertSerializer,
    )
    def post(self, request: Request) -> Response:
        terms = _terms(request)
        try:
            rule = alert_rule_add(
                organization=self.holder.key.organization,
                terms=terms,
                actor=self.actor,
                now=timezone.now(),
            )
        except UnableToAlert as refusal:
            raise RelayError(400, str(refusal), code="invalid_alert") from refusal
        return Response(AlertSerializer(rule).data)


class AlertView(AdminView):
    @extend_schema(
        operation_id="alerts_delete",
        summary="Be told no more",
        responses={200: OpenApiTypes.OBJECT},
    )
    def delete(self, request: Request, alert_id: int) -> Response:  # noqa: ARG002  See above.
        # Of another organization it is not there, as one that nobody has.
        if not self.rules().filter(pk=alert_id).exists():
            raise RelayError(404, f"There is no alert {alert_id}.", code="not_found")
        alert_rule_remove(rule_id=alert_id, actor=self.actor, now=timezone.now())
        return Response({"id": alert_id, "object": "alert", "deleted": True})


def _terms(request: Request) -> RuleTerms:
    """What the body asks for. Raises RelayError."""
    given = _body(request)
    for name, value in given.items():
        if name not in FIELDS:
            raise RelayError(400, f"Unknown '{name}'.", code="unknown_parameter", param=name)
        if not isinstance(value, str):
            raise invalid_parameter(name, "it must be a text.")
    below = given.get("below_usd")
    try:
        below_nano_usd = None if below is None else parse_usd(below)
    except InvalidMoney as error:
        raise invalid_parameter("below_usd", str(error)) from error
    return RuleTerms(
        kind=given.get("kind", ""),
        below_nano_usd=below_nano_usd,
        email=given.get("email", ""),
        webhook_url=given.get("webhook_url", ""),
    )


def _body(request: Request) -> dict[str, Any]:
    body = request._request.read(MAX_BODY_BYTES + 1)  # noqa: SLF001  Its parsers would follow the content type.
    try:
        document = json.loads(body) if len(body) <= MAX_BODY_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RelayError(400, "The body is no JSON object, or too large.", code="invalid_type")
    return document
