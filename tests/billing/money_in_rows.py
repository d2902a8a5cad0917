"""Rows of codes and payments that the database takes, and what it refuses of them."""

import datetime as dt
import uuid
from typing import Any

from billing.models import AlertRule, CodeBatch, Rerating, ReratingLine, SpendLimit
from tests.raw_sql import Break, Row

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)

_AMOUNTS = ("refunded", "disputed", "collected", "written_off")

CALL_HOUR = {
    **dict.fromkeys(("calls", "served", "failed", "attempts_failed"), 0),
    **dict.fromkeys(("official_cost_nano_usd", "charge_nano_usd"), 0),
    **dict.fromkeys(("upstream_cost_nano_usd", "unearned_cost_nano_usd"), 0),
}

BREAKS = [
    Break("code_batch_is_worth_something", "billing_codebatch", {"amount_nano_usd": 0}),
    Break("code_batch_is_worth_something", "billing_codebatch", {"count": 0}),
    Break("redemption_code_is_redeemed_whole", "billing_redemptioncode", {"redeemed_at": NOW}),
    Break("payment_amounts_are_not_negative", "billing_payment", {"amount_nano_usd": 0}),
    *(
        Break("payment_amounts_are_not_negative", "billing_payment", {f"{name}_nano_usd": -1})
        for name in _AMOUNTS
    ),
    Break(
        "payment_takes_back_no_more_than_it_gave",
        "billing_payment",
        {"collected_nano_usd": 6, "written_off_nano_usd": 5},
    ),
    Break("payment_is_paid_by_one_grant", "billing_payment", {"state": "paid"}),
    Break("payment_reference_is_unique", "billing_payment", {"intent": "other"}, beside={}),
    Break("payment_event_is_taken_once", "billing_paymentevent", {"kind": "other"}, beside={}),
    Break("spend_limit_is_of_one_scope", "billing_spendlimit", {"project_id": 1, "api_key_id": 1}),
    Break("spend_limit_per_is_known", "billing_spendlimit", {"per": "year"}),
    Break("spend_limit_cap_is_not_negative", "billing_spendlimit", {"cap_nano_usd": -1}),
    Break(
        "spend_limit_is_one_per_scope_and_window",
        "billing_spendlimit",
        {"cap_nano_usd": 5},
        beside={},
    ),
    Break(
        "spend_limit_period_is_unique",
        "billing_spendlimitperiod",
        {"cap_nano_usd": 11},
        beside={},
    ),
    *(
        Break(
            "spend_limit_period_parts_are_not_negative",
            "billing_spendlimitperiod",
            {f"{name}_nano_usd": -1},
        )
        for name in ("cap", "leased", "used", "over")
    ),
    Break(
        "spend_limit_period_within_cap",
        "billing_spendlimitperiod",
        {"leased_nano_usd": 6, "used_nano_usd": 6, "over_nano_usd": 1},
    ),
    Break("spend_limit_period_is_forward", "billing_spendlimitperiod", {"period_end": NOW}),
    Break("rate_limit_is_of_one_scope", "billing_ratelimit", {"project_id": 1, "api_key_id": 1}),
    Break("rate_limit_is_of_one_scope", "billing_ratelimit", {"model": "a-model"}),
    Break("rate_limit_is_of_one_scope", "billing_ratelimit", {"organization_id": None}),
    Break("rate_limit_limits_something", "billing_ratelimit", {"calls_per_minute": None}),
    *(
        Break("rate_limit_numbers_are_sane", "billing_ratelimit", {name: number})
        for name in ("calls_per_minute", "tokens_per_minute", "concurrency")
        for number in (0, 10**12 + 1)
    ),
    Break("rate_limit_is_one_per_scope", "billing_ratelimit", {"concurrency": 2}, beside={}),
    Break("price_import_is_decided_once", "billing_priceimport", {"state": "approved"}),
    Break("price_import_is_decided_once", "billing_priceimport", {"decided_at": NOW}),
    Break("plan_slug_is_a_slug", "billing_plan", {"slug": "-x"}),
    Break("discount_is_of_an_organization_or_a_plan", "billing_discount", {"plan_id": 1}),
    Break("refund_gives_something", "billing_refund", {"amount_nano_usd": 0}),
    Break("rerating_range_is_forward", "billing_rerating", {"last_day": NOW.date() - DAY}),
    Break("rerating_terms_are_known", "billing_rerating", {"prices": "given"}),
    Break("rerating_terms_are_known", "billing_rerating", {"discount_ppm": 5}),
    Break("rerating_terms_are_known", "billing_rerating", {"discounts": "given"}),
    Break("rerating_is_decided_once", "billing_rerating", {"state": "done"}),
    Break("rerating_is_decided_once", "billing_rerating", {"decided_at": NOW}),
    Break(
        "rerating_runs_alone",
        "billing_rerating",
        {"state": "running", "decided_at": NOW},
        beside={"state": "running", "decided_at": NOW},
    ),
    Break("rerating_line_is_unique", "billing_reratingline", {"calls": 2}, beside={}),
    *(
        Break("rerating_line_amounts_are_not_negative", "billing_reratingline", {name: -1})
        for name in ("calls", "unratable_calls", "charged_nano_usd", "rated_nano_usd")
    ),
    Break(
        "rerating_line_takes_no_more_than_it_adds",
        "billing_reratingline",
        {"collected_nano_usd": 1},
    ),
    Break("rerating_line_is_settled_whole", "billing_reratingline", {"settled_at": NOW}),
    Break("rerating_line_is_settled_whole", "billing_reratingline", {"grant_id": 1}),
    Break("rerated_call_once_a_line", "billing_reratedcall", {"difference_nano_usd": 5}, beside={}),
    Break("rerated_call_changes_something", "billing_reratedcall", {"difference_nano_usd": 0}),
    Break("alert_rule_kind_is_known", "billing_alertrule", {"kind": "other"}),
    Break("alert_rule_tells_one_way", "billing_alertrule", {"email": ""}),
    Break("alert_rule_tells_one_way", "billing_alertrule", {"webhook_url": "https://x.example"}),
    Break("alert_rule_of_balance_has_its_line", "billing_alertrule", {"below_nano_usd": None}),
    Break("alert_rule_of_balance_has_its_line", "billing_alertrule", {"below_nano_usd": 0}),
    Break("alert_rule_of_balance_has_its_line", "billing_alertrule", {"kind": "spend_limit"}),
    Break("alert_crossing_is_told_once", "billing_alert", {"attempts": 1}, beside={}),
    Break("alert_is_sent_or_waits", "billing_alert", {"sent_at": NOW, "next_attempt_at": NOW}),
    Break("call_hour_is_one_per_channel_and_model", "billing_callhour", {"calls": 2}, beside={}),
    *(
        Break("call_hour_numbers_are_not_negative", "billing_callhour", {name: -1})
        for name in CALL_HOUR
    ),
    Break("payment_event_amount_is_not_negative", "billing_paymentevent", {"amount_nano_usd": -1}),
]


def valid_rows(organization_id: int, grant_id: int) -> dict[str, Row]:
    batch = CodeBatch.objects.create(amount_nano_usd=1, count=1)
    rule = AlertRule.objects.create(
        organization_id=organization_id, kind="spend_limit", email="ann@example.com"
    )
    limit = SpendLimit.objects.create(organization_id=organization_id, per="total", cap_nano_usd=1)
    rerating = Rerating.objects.create(
        first_day=NOW, last_day=NOW, prices="now", discounts="then", created_at=NOW
    )
    figures = {"calls": 1, "unratable_calls": 0, "charged_nano_usd": 5, "rated_nano_usd": 5}
    line = ReratingLine.objects.create(
        rerating=rerating, organization_id=organization_id, model="another", **figures
    )
    amounts: dict[str, Any] = {f"{name}_nano_usd": 0 for name in _AMOUNTS}
    return {
        "billing_codebatch": {
            "amount_nano_usd": 10,
            "count": 1,
            "note": "",
            "created_at": NOW,
        },
        "billing_redemptioncode": {"batch_id": batch.pk, "digest": b"x", "last4": "ABCD"},
        "billing_spendlimit": {
            "organization_id": organization_id,
            "per": "day",
            "cap_nano_usd": 10,
            "created_at": NOW,
        },
        "billing_spendlimitperiod": {
            "limit_id": limit.pk,
            "period_start": NOW,
            "period_end": NOW + dt.timedelta(days=1),
            "cap_nano_usd": 10,
            "leased_nano_usd": 0,
            "used_nano_usd": 0,
            "over_nano_usd": 0,
        },
        "billing_ratelimit": {
            "organization_id": organization_id,
            "model": "",
            "calls_per_minute": 60,
            "created_at": NOW,
        },
        "billing_priceimport": {
            "source": "https://prices.example",
            "form": "litellm",
            "rows": "[]",
            "changes": "[]",
            "refused": "[]",
            "unchanged": 0,
            "state": "waiting",
            "created_at": NOW,
        },
        "billing_plan": {"slug": "pro", "name": "Pro", "created_at": NOW},
        "billing_refund": {
            "request_id": uuid.UUID(int=7),
            "grant_id": grant_id,
            "amount_nano_usd": 1,
            "created_at": NOW,
        },
        "billing_rerating": {
            "first_day": NOW.date(),
            "last_day": NOW.date(),
            "model": "",
            "prices": "now",
            "discounts": "then",
            "may_owe": False,
            "reason": "",
            "state": "waiting",
            "created_at": NOW,
        },
        "billing_reratingline": {
            "rerating_id": rerating.pk,
            "organization_id": organization_id,
            "model": "a-model",
            "changed_calls": 0,
            "difference_nano_usd": 0,
            "collected_nano_usd": 0,
            "waived_nano_usd": 0,
            **figures,
        },
        "billing_reratedcall": {
            "line_id": line.pk,
            "request_id": uuid.UUID(int=7),
            "difference_nano_usd": 1,
        },
        "billing_alertrule": {
            "organization_id": organization_id,
            "kind": "low_balance",
            "below_nano_usd": 1,
            "email": "ann@example.com",
            "webhook_url": "",
            "crossings": 0,
            "is_crossed": False,
            "created_at": NOW,
        },
        "billing_alert": {
            "rule_id": rule.pk,
            "crossing": "1",
            "facts": "{}",
            "attempts": 0,
            "last_error": "",
            "created_at": NOW,
        },
        "billing_payment": {
            "organization_id": organization_id,
            "provider": "shop",
            "reference": "order",
            "intent": "",
            "amount_nano_usd": 10,
            "state": "open",
            "created_at": NOW,
            **amounts,
        },
        "billing_callhour": {
            "hour": NOW,
            "channel": "main",
            "model": "a-model",
            "duration_counts": {},
            "first_token_counts": {},
            **CALL_HOUR,
        },
        "billing_paymentevent": {
            "provider": "shop",
            "event_id": "event",
            "kind": "paid",
            "intent": "",
            "dispute": "",
            "amount_nano_usd": 0,
            "currency": "usd",
            "occurred_at": NOW,
            "received_at": NOW,
        },
    }
