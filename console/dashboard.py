"""The first page of the console: today in numbers, and what needs a look."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from billing.models import Alert, Payment, Price, UsageRecord
from billing.usage.overview import Day, Engine, Traffic, day_traffic, engine_state
from console.engine_totals import LATE_SHIPPING_MS, Card, seconds
from console.presentation import count, percent, usd, usd_text
from relay.models import Channel, ChannelCredential, CredentialCheck
from relay.reconciliation import drifting

SHOWN_ROWS = 6
# The least a bar is high where there was any call at all, in percent of the highest.
LEAST_BAR = 3
HEALTHY_OUTCOMES = (UsageRecord.Outcome.COMPLETED, UsageRecord.Outcome.CLIENT_LEFT)


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour; the height in percent of the busiest one."""

    hour: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    calls: str
    tokens: str
    revenue: SafeString
    margin: str
    margin_title: str
    share: int


@dataclass(frozen=True, slots=True)
class Check:
    """A thing that is well, or a link to where one sees that it is not."""

    title: str
    value: str
    url: str
    state: str  # "good", "warning" or "bad".


def dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    if not request.user.has_perm("billing.view_usagerecord"):
        return context
    now = timezone.now()
    day = day_traffic(now.date())
    return {
        **context,
        "now": now,
        "checks": checks(engine_state()),
        **({} if day is None else day_context(day, now)),
    }


def day_context(day: Day, now: dt.datetime) -> dict[str, Any]:
    return {
        "day": day,
        "cards": cards(day.total),
        "bars": bars(day),
        "this_hour": now.hour,
        "models": rows(day.models, day.total),
        "organizations": rows(day.organizations, day.total),
        "errors": errors(day),
    }


def cards(total: Traffic) -> list[Card]:
    tokens = f"{count(total.prompt_tokens)} in, {count(total.completion_tokens)} out"
    failed = f"{count(total.errors)} failed ({percent(total.errors, total.calls)})"
    margin = f"{percent(total.margin_nano_usd, total.revenue_nano_usd)} of revenue"
    return [
        Card("Calls", count(total.calls), failed if total.errors else "none failed", "call_made"),
        Card("Tokens", count(total.tokens), tokens, "token"),
        Card("Revenue", usd(total.revenue_nano_usd), "charged to customers", "payments"),
        Card("Upstream cost", usd(total.cost_nano_usd), "what upstreams charge", "cloud_upload"),
        Card("Margin", usd(total.margin_nano_usd), margin, "trending_up"),
    ]


def bars(day: Day) -> list[Bar]:
    busiest = max(hour.calls for hour in day.hours)
    return [
        Bar(
            hour=number,
            height=max(LEAST_BAR, 100 * hour.calls // busiest) if hour.calls else 0,
            title=f"{number:02}:00  {count(hour.calls)} calls, {usd_text(hour.revenue_nano_usd)}",
        )
        for number, hour in enumerate(day.hours)
    ]


def rows(groups: Any, total: Traffic) -> list[Row]:
    whole = total.revenue_nano_usd
    return [
        Row(
            name=name,
            calls=count(traffic.calls),
            tokens=count(traffic.tokens),
            revenue=usd(traffic.revenue_nano_usd),
            margin=percent(traffic.margin_nano_usd, traffic.revenue_nano_usd),
            margin_title=usd_text(traffic.margin_nano_usd),
            share=100 * traffic.revenue_nano_usd // whole if whole else 0,
        )
        for name, traffic in groups[:SHOWN_ROWS]
    ]


def errors(day: Day) -> list[tuple[str, str, str]]:
    """The outcomes that are no success: what, how many, and where to read about them."""
    page = reverse("admin:billing_usagerecord_changelist")
    return [
        (
            str(outcome.label).capitalize(),
            count(day.outcomes[outcome]),
            f"{page}?outcome__exact={outcome}",
        )
        for outcome in UsageRecord.Outcome
        if outcome not in HEALTHY_OUTCOMES and day.outcomes.get(outcome)
    ]


def checks(engine: Engine) -> list[Check]:
    channels = Channel.objects.filter(enabled=True).count()
    refused = ChannelCredential.objects.filter(refused_at__isnull=False).count()
    prices = Price.objects.filter(effective_to__isnull=True).count()
    left = engine.workers_overdue + engine.workers_expired
    settled_late, slow = engine.late_settlements_today, engine.ship_lag_ms >= LATE_SHIPPING_MS
    return [
        _check("Workers alive", engine.workers_live, "billing_worker", bad=not engine.workers_live),
        _check("Journals to replay", left, "billing_worker", warning=bool(left)),
        Check(
            "Shipping behind",
            seconds(engine.ship_lag_ms),
            reverse("admin:billing_worker_changelist"),
            "warning" if slow else "good",
        ),
        _check(
            "Late settlements today",
            settled_late,
            "billing_ledgerentry",
            warning=bool(settled_late),
        ),
        _check(
            "Records set aside",
            engine.records_set_aside,
            "billing_setasiderecord",
            bad=bool(engine.records_set_aside),
        ),
        _audit(engine),
        Check(
            "Open leases",
            f"{count(engine.leases_open)} with {usd_text(engine.leases_unspent_nano_usd)}",
            reverse("admin:billing_lease_changelist") + "?state__exact=open",
            "good",
        ),
        _check("Channels enabled", channels, "relay_channel", bad=not channels),
        _check("Credentials refused", refused, "relay_channel", bad=bool(refused)),
        _check("Models priced", prices, "billing_price", bad=not prices),
        *_for_a_person(),
    ]


def _for_a_person() -> list[Check]:
    """What nobody but a person can settle; not shown as long as there is nothing."""
    payments = Payment.objects.filter(state=Payment.State.REVIEW).count()
    alerts = Alert.objects.filter(
        sent_at__isnull=True, next_attempt_at__isnull=True, rule__removed_at__isnull=True
    ).count()
    made = CredentialCheck.objects.filter(
        credential__enabled=True, credential__channel__enabled=True
    )
    silent, low = made.aggregate(
        silent=Count("pk", filter=~Q(error="")), low=Count("low_since")
    ).values()
    drifts = drifting(now=timezone.now())
    found = [
        _check("Credentials that get no answer", silent, "relay_channel", bad=True),
        _check("Low balances at upstreams", low, "relay_channel", bad=True),
        _check("Payments to review", payments, "billing_payment", bad=True),
        _check("Alerts that did not arrive", alerts, "billing_alert", warning=True),
        _check("Drifts from upstream's books", drifts, "relay_reconciliation", bad=True),
    ]
    numbers = (silent, low, payments, alerts, drifts)
    return [check for check, number in zip(found, numbers, strict=True) if number]


def _audit(engine: Engine) -> Check:
    page = reverse("admin:billing_auditrun_changelist")
    if engine.audited_at is None:
        return Check("Audit", "not yet", page, "warning")
    if engine.audit_findings:
        return Check("Audit", f"{count(engine.audit_findings)} findings", page, "bad")
    return Check("Audit", f"clean at {engine.audited_at:%H:%M}", page, "good")


def _check(
    title: str, number: int, page: str, *, warning: bool = False, bad: bool = False
) -> Check:
    state = "bad" if bad else "warning" if warning else "good"
    return Check(title, count(number), reverse(f"admin:{page}_changelist"), state)
