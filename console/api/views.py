"""The usage API: each view reads parameters, asks billing once or twice, and translates back.

A key sees its organization's numbers. Where the URL names a project, usage is that project's
alone; the balance and the grants are always the organization's, for it has one wallet.
"""

import datetime as dt
from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from typing_extensions import override

from billing.credit.balance import GrantUse, balance_nano_usd, credit_summary, grant_uses
from billing.limits import LimitState, limit_states, limits_of_key
from billing.usage.queries import (
    ALL_DAYS,
    InvalidCursorError,
    UsageScope,
    totals_sum,
    usage_by_day,
    usage_by_model,
    usage_records_page,
    usage_totals,
)
from console.api import serializers as shapes
from console.api.parameters import (
    choice_parameter,
    days_parameter,
    lenient_days,
    limit_parameter,
    text_parameter,
)
from console.authentication import KeyHolder
from console.errors import invalid_parameter

CENTS_DECIMALS = 7  # Of a whole number of nano-USD.
DOLLARS_DECIMALS = 9
# For clients that make a date of it; a grant or a key without an end has to have one there.
FAR_FUTURE = int(dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp())

_DAY_PARAMETERS = [
    OpenApiParameter("start", dt.date, description="First UTC day; default: of this month."),
    OpenApiParameter("end", dt.date, description="Last UTC day, included; default: today."),
]
_LENIENT_PARAMETERS = [
    OpenApiParameter(
        "start_date", dt.date, description="First UTC day; what is no day is ignored."
    ),
    OpenApiParameter("end_date", dt.date, description="Last UTC day, included."),
]


class OnlyJson(BaseContentNegotiation):
    """There is one format: neither an Accept header nor `?format=` may end in an error."""

    @override
    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    @override
    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    content_negotiation_class = OnlyJson

    @property
    def holder(self) -> KeyHolder:
        holder: Any = self.request.user
        assert isinstance(holder, KeyHolder)
        return holder

    @property
    def scope(self) -> UsageScope:
        return self.holder.scope


class UsageView(ApiView):
    @extend_schema(
        operation_id="usage",
        summary="Calls, tokens and money, by day or by model",
        parameters=[
            *_DAY_PARAMETERS,
            OpenApiParameter("group_by", str, enum=["day", "model"], default="day"),
        ],
        responses=shapes.UsageSerializer,
    )
    def get(self, request: Request) -> Response:
        days = days_parameter(request.query_params, today=_today())
        group_by = choice_parameter(request.query_params, "group_by", ("day", "model"))
        read: Any = usage_by_day if group_by == "day" else usage_by_model
        groups = read(self.scope, days)
        balance = balance_nano_usd(self.scope.organization_id)
        head = {
            "object": "usage",
            "start": days.start,
            "end": days.end,
            "balance_nano_usd": balance,
            "balance_usd": shapes.UsdField().to_representation(balance),
            "total": shapes.TotalsSerializer(totals_sum(totals for _, totals in groups)).data,
        }
        data = [{group_by: name, **shapes.TotalsSerializer(totals).data} for name, totals in groups]
        limits = shapes.SpendLimitSerializer(self.spend_limits(), many=True).data
        return Response({**head, "data": data, **({"spend_limits": limits} if limits else {})})

    def spend_limits(self) -> list[LimitState]:
        """Those that bound the key that asks, the narrowest scope first."""
        limits = sorted(limits_of_key(self.holder.key), key=lambda limit: limit.breadth)
        return limit_states(limits, now=timezone.now())


class UsageRecordsView(ApiView):
    @extend_schema(
        operation_id="usage_records",
        summary="Single calls, newest first",
        parameters=[
            OpenApiParameter("limit", int, description="1 to 100; default: 20."),
            OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
        ],
        responses=shapes.RecordsSerializer,
    )
    def get(self, request: Request) -> Response:
        limit = limit_parameter(request.query_params)
        cursor = text_parameter(request.query_params, "cursor")
        try:
            page = usage_records_page(self.scope, limit=limit, cursor=cursor)
        except InvalidCursorError as error:
            raise invalid_parameter("cursor", "it is none that this API returned.") from error
        data = shapes.RecordSerializer(page.records, many=True).data
        return Response({"object": "list", "data": data, "next_cursor": page.next_cursor})


class BillingUsageView(ApiView):
    @extend_schema(
        operation_id="dashboard_billing_usage",
        summary="Money spent, in cents, as older clients ask for it",
        parameters=_LENIENT_PARAMETERS,
        responses=shapes.BillingUsageSerializer,
    )
    def get(self, request: Request) -> Response:
        days = lenient_days(request.query_params)
        if days is None and self.scope.project_id is None:
            # Without dates it fits the subscription: limit less usage is the balance, exactly.
            spent = credit_summary(self.scope.organization_id).used_nano_usd
        else:
            spent = usage_totals(self.scope, days or ALL_DAYS).charge_nano_usd
        return Response({"object": "list", "total_usage": _number(spent, CENTS_DECIMALS)})


class SubscriptionView(ApiView):
    @extend_schema(
        operation_id="dashboard_billing_subscription",
        summary="Money granted, in dollars, as older clients ask for it",
        responses=shapes.SubscriptionSerializer,
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002  REST framework passes it.
        credit = credit_summary(self.scope.organization_id)
        limit = _number(credit.balance_nano_usd + credit.used_nano_usd, DOLLARS_DECIMALS)
        expires_at = self.holder.key.expires_at
        return Response(
            {
                "object": "billing_subscription",
                "has_payment_method": True,
                "soft_limit_usd": limit,
                "hard_limit_usd": limit,
                "system_hard_limit_usd": limit,
                "access_until": _unix(expires_at),
            }
        )


class CreditGrantsView(ApiView):
    @extend_schema(
        operation_id="dashboard_billing_credit_grants",
        summary="Grants and what is left of them, in dollars, as older clients ask for it",
        responses=shapes.CreditGrantsSerializer,
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002  REST framework passes it.
        credit = credit_summary(self.scope.organization_id)
        grants = grant_uses(self.scope.organization_id)
        granted = credit.balance_nano_usd + credit.used_nano_usd
        return Response(
            {
                "object": "credit_summary",
                "total_granted": _number(granted, DOLLARS_DECIMALS),
                "total_used": _number(credit.used_nano_usd, DOLLARS_DECIMALS),
                "total_available": _number(credit.balance_nano_usd, DOLLARS_DECIMALS),
                "grants": {"object": "list", "data": [_grant(grant) for grant in grants]},
            }
        )


def _grant(grant: GrantUse) -> dict[str, object]:
    return {
        "object": "credit_grant",
        "id": f"grant_{grant.grant_id}",
        "grant_amount": _number(grant.amount_nano_usd, DOLLARS_DECIMALS),
        "used_amount": _number(grant.used_nano_usd, DOLLARS_DECIMALS),
        "effective_at": int(grant.created_at.timestamp()),
        "expires_at": _unix(grant.expires_at),
    }


def _number(nano_usd: int, decimals: int) -> float:
    """A JSON number, which is what these shapes have; nothing is computed with it any more."""
    return float(Decimal(nano_usd).scaleb(-decimals))


def _unix(moment: dt.datetime | None) -> int:
    return FAR_FUTURE if moment is None else int(moment.timestamp())


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
