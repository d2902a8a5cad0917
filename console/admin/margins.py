"""What was earned and what it cost, by channel, model and day; and how channels and models fare."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override

from billing.models import CallHour
from billing.usage.call_hours import HOUR, call_hours, calls_now, hour_of
from billing.usage.health import Health, grouped, health_of
from billing.usage.margins import Margin, margins, total_margin
from console.admin.base import ReadOnlyAdmin, require
from console.api.parameters import parse_day
from console.engine_totals import Card
from console.presentation import count, percent, usd, usd_text

MOST_DAYS = 366
DEFAULT_DAYS = 7
RANGES = (1, 7, 30, 90)
BY_DAY = "By day"
NO_CHANNEL = "(several)"


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table of margins."""

    name: str
    calls: str
    charge: SafeString
    cost: SafeString
    unearned: SafeString
    margin: SafeString
    share: str
    is_loss: bool
    failed: str
    attempts_failed: str


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    lines: Sequence[Line]
    total: Line


@dataclass(frozen=True, slots=True)
class Fare:
    """How a channel or a model fared over one time."""

    name: str
    windows: Sequence[tuple[str, str, str, str]]


@admin.register(CallHour)
class MarginAdmin(ReadOnlyAdmin):
    """Its list is the page of margins; a row of it is an hour as it was gathered."""

    @override
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseBase:
        require(self.has_view_permission(request))
        today = timezone.now().astimezone(dt.UTC).date()
        first, last = _range(request, today)
        found = call_hours(since=_midnight(first), until=_midnight(last + dt.timedelta(days=1)))
        total = total_margin(found.rows)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Margins",
            "first": first,
            "last": last,
            "ranges": [
                (days, f"?from={today - dt.timedelta(days=days - 1)}&to={today}") for days in RANGES
            ],
            "is_complete": found.is_complete,
            "cards": _cards(total),
            "tables": [
                _table("By channel", margins(found.rows, _channel), total),
                _table("By model", margins(found.rows, _model), total),
                _table(BY_DAY, margins(found.rows, _day), total),
            ],
            "failed_calls": reverse("admin:billing_usagerecord_changelist") + "?attempts=failed",
        }
        return TemplateResponse(request, "console/margins.html", context)

    def health_view(self, request: HttpRequest) -> HttpResponseBase:
        require(self.has_view_permission(request))
        now = timezone.now()
        until = hour_of(now) + HOUR
        week = call_hours(since=until - 7 * 24 * HOUR, until=until).rows
        day = [row for row in week if row.hour >= until - 24 * HOUR]
        recent = calls_now(since=now - HOUR / 4, until=until) or []
        windows = {"15 minutes": recent, "24 hours": day, "7 days": week}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Health",
            "tables": [
                ("Models, as customers see them", _fares(windows, _model)),
                (
                    "Channels, with the attempts that others made up for",
                    _fares(windows, _channel, attempts=True),
                ),
            ],
            "names": list(windows),
        }
        return TemplateResponse(request, "console/health.html", context)


def health(request: HttpRequest) -> HttpResponseBase:
    """Beside the margins, not under them: another link of the console's navigation."""
    page = admin.site.get_model_admin(CallHour)
    assert isinstance(page, MarginAdmin), "this module registers it"
    return page.health_view(request)


def _range(request: HttpRequest, today: dt.date) -> tuple[dt.date, dt.date]:
    """The days that are asked for, as far as they make sense."""
    last = parse_day(request.GET.get("to", "")) or today
    first = parse_day(request.GET.get("from", "")) or last - dt.timedelta(days=DEFAULT_DAYS - 1)
    last = min(last, today)
    return max(min(first, last), last - dt.timedelta(days=MOST_DAYS)), last


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _model(row: CallHour) -> str:
    return row.model or "no model"


def _channel(row: CallHour) -> str:
    return row.channel or NO_CHANNEL


def _day(row: CallHour) -> str:
    return f"{row.hour.astimezone(dt.UTC):%Y-%m-%d}"


def _cards(total: Margin) -> list[Card]:
    share = f"{percent(total.margin_nano_usd, total.charge_nano_usd)} of what was charged"
    unearned = f"of it {usd_text(total.unearned_nano_usd)} for which nobody was charged"
    failed = f"{count(total.failed)} failed, {count(total.attempts_failed)} attempts made up for"
    return [
        Card("Calls", count(total.calls), failed, "call_made"),
        Card("Official price", usd(total.official_nano_usd), "of what was used", "sell"),
        Card("Charged", usd(total.charge_nano_usd), "to customers", "payments"),
        Card("Upstream cost", usd(total.cost_nano_usd), unearned, "cloud_upload"),
        Card("Margin", usd(total.margin_nano_usd), share, "trending_up"),
    ]


def _table(title: str, found: Mapping[str, Margin], total: Margin) -> Table:
    rows = sorted(found.items(), key=lambda one: (-one[1].charge_nano_usd, one[0]))
    if title == BY_DAY:
        rows = sorted(found.items(), key=lambda one: one[0], reverse=True)
    lines = [_line(name, margin) for name, margin in rows]
    return Table(title=title, lines=lines, total=_line("Total", total))


def _line(name: str, margin: Margin) -> Line:
    return Line(
        name=name,
        calls=count(margin.calls),
        charge=usd(margin.charge_nano_usd),
        cost=usd(margin.cost_nano_usd),
        unearned=usd(margin.unearned_nano_usd),
        margin=usd(margin.margin_nano_usd),
        share=percent(margin.margin_nano_usd, margin.charge_nano_usd),
        is_loss=margin.margin_nano_usd < 0,
        failed=count(margin.failed),
        attempts_failed=count(margin.attempts_failed),
    )


def _fares(
    windows: Mapping[str, Sequence[CallHour]],
    name: Callable[[CallHour], str],
    *,
    attempts: bool = False,
) -> list[Fare]:
    by_window = [grouped(rows, name) for rows in windows.values()]
    names = sorted({one for found in by_window for one in found})
    return [
        Fare(
            name=one,
            windows=[
                _fare(health_of(found.get(one, ()), attempts=attempts)) for found in by_window
            ],
        )
        for one in names
    ]


def _fare(health: Health) -> tuple[str, str, str, str]:
    """Served of how many, how soon, how long; hyphens where there is nothing to say."""
    p50, p95, first = health.duration_ms(0.5), health.duration_ms(0.95), health.first_token_ms(0.5)
    return (
        percent(health.served, health.calls),
        f"{count(health.calls)} calls",
        f"{_ms(p50)} / {_ms(p95)}",
        _ms(first),
    )


def _ms(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{count(milliseconds)} ms"
