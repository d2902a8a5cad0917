"""Usage records: every relayed call, newest first, never counted and never edited."""

import datetime as dt
import uuid
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import (
    BooleanRadioFilter,
    ChoicesDropdownFilter,
    DropdownFilter,
    RangeDateFilter,
)

from accounts.models import Organization, Project
from billing.identifiers import uuid7_floor
from billing.models import Price, UsageRecord
from billing.pricing import BUCKETS
from console.admin.base import UnboundedAdmin, code, column, link
from console.api.parameters import parse_day
from console.presentation import count, fraction, moment, percent, usd
from relay.routing.decision import REASONS

OUTCOME_LABELS = {
    "Completed": "success",
    "Client left": "warning",
    "Upstream error": "danger",
    "Interrupted": "danger",
    "Expired": "danger",
    "Lost": "danger",
}
MAX_CHOICES = 1000
ATTEMPT_TITLES = (
    "Channel",
    "Credential",
    "Why",
    "What came of it",
    "Status",
    "Duration",
    "Upstream cost",
)


class OrganizationFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types.
    title = "organization"
    parameter_name = "organization"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = Organization.objects.order_by("slug").values_list("pk", "slug")[:MAX_CHOICES]
        return [(str(number), slug) for number, slug in rows]

    @override
    def queryset(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord]
    ) -> QuerySet[UsageRecord]:
        number = self.value()
        if not number:
            return queryset
        return (
            queryset.filter(organization_id=int(number)) if number.isdecimal() else queryset.none()
        )


class ModelFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types.
    title = "model"
    parameter_name = "model"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # From the price book: only priced models can have records, and it is a small table.
        names = Price.objects.order_by("model").values_list("model", flat=True).distinct()
        return [(name, name) for name in names[:MAX_CHOICES]]

    @override
    def queryset(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord]
    ) -> QuerySet[UsageRecord]:
        return queryset.filter(model=self.value()) if self.value() else queryset


class DaysFilter(RangeDateFilter):  # type: ignore[misc]  # unfold has no types.
    """UTC days, both included, as ranges of the primary key: other partitions are not touched."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.title = "day (UTC)"

    @override
    def queryset(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord]
    ) -> QuerySet[UsageRecord]:
        first = parse_day(self.used_parameters.get(f"{self.parameter_name}_from", ""))
        last = parse_day(self.used_parameters.get(f"{self.parameter_name}_to", ""))
        if first is not None:
            queryset = queryset.filter(request_id__gte=uuid7_floor(first))
        if last is not None:
            queryset = queryset.filter(request_id__lt=uuid7_floor(last + dt.timedelta(days=1)))
        return queryset


class AttemptsFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types.
    title = "attempts"
    parameter_name = "attempts"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "A channel failed")]

    @override
    def queryset(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord]
    ) -> QuerySet[UsageRecord]:
        return queryset.filter(attempts__isnull=False) if self.value() else queryset


@admin.register(UsageRecord)
class UsageRecordAdmin(UnboundedAdmin):
    list_display = (
        "at",
        "organization_slug",
        "model",
        "outcome_label",
        "used",
        "charge",
        "upstream_cost",
        "duration",
        "key",
    )
    list_filter = (
        OrganizationFilter,
        ModelFilter,
        ("outcome", ChoicesDropdownFilter),
        ("usage_source", ChoicesDropdownFilter),
        ("stream", BooleanRadioFilter),
        ("created_at", DaysFilter),
        AttemptsFilter,
    )
    search_fields = ("request_id",)
    search_help_text = "Request id (req_...) or key prefix"
    ordering = ("-request_id",)
    fieldsets = (
        (
            "Call",
            {"fields": (("request_code", "at"), ("endpoint", "model"), ("stream", "retry_count"))},
        ),
        ("Who", {"fields": (("organization_slug", "project_slug"), "key")}),
        (
            "Outcome",
            {
                "fields": (
                    ("outcome_label", "status"),
                    ("usage_source", "flags"),
                    ("duration", "first_byte_ms", "first_token_ms"),
                )
            },
        ),
        (
            "Usage",
            {
                "fields": (
                    ("prompt_tokens", "cached_tokens"),
                    ("completion_tokens", "reasoning_tokens"),
                    ("billed_units", "service_tier"),
                )
            },
        ),
        (
            "Money",
            {
                "fields": (
                    ("official_cost", "discount"),
                    ("charge", "upstream_cost"),
                    ("margin", "hold"),
                    "price",
                )
            },
        ),
        (
            "Upstream",
            {
                "fields": (
                    ("channel", "upstream_credential"),
                    "why",
                    ("upstream_model", "upstream_request_id"),
                    "attempts_made",
                )
            },
        ),
        ("Bookkeeping", {"fields": (("worker_id", "journal_offset"), ("lease_id", "settled"))}),
    )
    readonly_fields = (
        "attempts_made",
        "upstream_credential",
        "why",
        "billed_units",
        "request_code",
        "at",
        "organization_slug",
        "project_slug",
        "outcome_label",
        "duration",
        "official_cost",
        "discount",
        "charge",
        "upstream_cost",
        "margin",
        "hold",
        "price",
        "settled",
        "key",
    )

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageRecord]:
        rows: QuerySet[UsageRecord] = super().get_queryset(request)
        organization = Organization.objects.filter(pk=OuterRef("organization_id"))
        project = Project.objects.filter(pk=OuterRef("project_id"))
        return rows.annotate(
            organization_slug=Subquery(organization.values("slug")),
            project_slug=Subquery(project.values("slug")),
        )

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord], search_term: str
    ) -> tuple[QuerySet[UsageRecord], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(request_id=uuid.UUID(term.removeprefix("req_"))), False
        except ValueError:
            return queryset.filter(api_key_prefix=term), False

    @column("Time (UTC)")
    def at(self, row: UsageRecord) -> str:
        return moment(row.created_at)

    @column("Settled (UTC)")
    def settled(self, row: UsageRecord) -> str:
        return moment(row.settled_at)

    @column("Request id")
    def request_code(self, row: UsageRecord) -> SafeString:
        return code(row)

    @column("Organization")
    def organization_slug(self, row: Any) -> str:
        return str(row.organization_slug or row.organization_id)

    @column("Project")
    def project_slug(self, row: Any) -> str:
        return str(row.project_slug or row.project_id)

    @column("API key")
    def key(self, row: UsageRecord) -> SafeString:
        return code(row.api_key_prefix)

    @column("Outcome", label=OUTCOME_LABELS)
    def outcome_label(self, row: UsageRecord) -> str:
        return str(UsageRecord.Outcome(row.outcome).label).capitalize()

    @column("Used")
    def used(self, row: UsageRecord) -> SafeString:
        others = _other_units(row)
        tokens = format_html(
            '<span class="tg-money" title="prompt, completion">{}'
            '<span class="tg-quiet"> + </span>{}</span>',
            count(row.prompt_tokens),
            count(row.completion_tokens),
        )
        if not others:
            return tokens
        listed = ", ".join(f"{count(number)} {name}" for name, number in others.items())
        has_tokens = row.prompt_tokens or row.completion_tokens
        return format_html("{}, {}", tokens, listed) if has_tokens else format_html("{}", listed)

    @column("Billed units")
    def billed_units(self, row: UsageRecord) -> SafeString | str:
        rows = ((name.replace("_", " "), count(units)) for name, units in row.units.items())
        if not row.units:
            return "None"
        return format_html(
            '<table class="tg-rates"><tbody>{}</tbody></table>',
            format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", rows),
        )

    @column("Duration")
    def duration(self, row: UsageRecord) -> str:
        return f"{count(row.duration_ms)} ms"

    @column("Why this channel")
    def why(self, row: UsageRecord) -> str:
        meaning = REASONS.get(row.route_reason, "Nothing is recorded.")
        return f"{row.route_reason}: {meaning}" if row.route_reason else meaning

    @column("Credential")
    def upstream_credential(self, row: UsageRecord) -> str:
        return row.credential or "-"

    @column("Attempts")
    def attempts_made(self, row: UsageRecord) -> SafeString | str:
        """Where the call was sent, in order; shown only where that was not one success."""
        if not row.attempts:
            return "One, which this record is about."
        lines = (
            (
                attempt["channel"] or "-",
                attempt["credential"] or "-",
                attempt["reason"] or "-",
                attempt["outcome"].replace("_", " "),
                attempt["status"] or "-",
                f"{count(attempt['duration_ms'])} ms",
                usd(attempt["upstream_cost_nano_usd"]),
            )
            for attempt in row.attempts
        )
        return format_html(
            '<table class="tg-rates"><thead>{}</thead><tbody>{}</tbody></table>',
            format_html_join("", "<th>{}</th>", ((title,) for title in ATTEMPT_TITLES)),
            format_html_join("", f"<tr>{'<td>{}</td>' * len(ATTEMPT_TITLES)}</tr>", lines),
        )

    @column("Charge")
    def charge(self, row: UsageRecord) -> SafeString:
        return usd(row.charge_nano_usd)

    @column("Official cost")
    def official_cost(self, row: UsageRecord) -> SafeString:
        return usd(row.official_cost_nano_usd)

    @column("Upstream cost")
    def upstream_cost(self, row: UsageRecord) -> SafeString:
        return usd(row.upstream_cost_nano_usd)

    @column("Margin")
    def margin(self, row: UsageRecord) -> SafeString:
        margin = row.charge_nano_usd - row.upstream_cost_nano_usd
        return format_html("{} ({})", usd(margin), percent(margin, row.charge_nano_usd))

    @column("Set aside for it")
    def hold(self, row: UsageRecord) -> SafeString:
        return usd(row.hold_nano_usd)

    @column("Paid of the official price")
    def discount(self, row: UsageRecord) -> str:
        return fraction(row.discount_ppm)

    @column("Price")
    def price(self, row: UsageRecord) -> SafeString | str:
        price = Price.objects.filter(pk=row.price_id).first()
        return link(price) if price else str(row.price_id)


def _other_units(row: UsageRecord) -> dict[str, int]:
    """What was used beside tokens, by a name that people read."""
    units = row.units.items()
    return {name.replace("_", " "): number for name, number in units if name not in BUCKETS}
