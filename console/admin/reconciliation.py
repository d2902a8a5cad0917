"""Reconciliation: upstream's books beside ours, and where they are too far apart."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.widgets import UnfoldAdminSingleDateWidget

from console.admin.base import InfinitePaginator, column, link, list_url
from console.admin.form_pages import Act, AddPageAdmin, FormPage, RowField, data_of, done
from console.presentation import count, moment, percent, usd
from relay.models import Reconciliation
from relay.reconciliation import reconcile

DRIFT, AGREES = "Drift", "Agrees"
DAY = {"placeholder": "2026-01-31"}
UNBROKEN_HYPHEN = "\N{NON-BREAKING HYPHEN}"


class ReconcileForm(forms.Form):
    channel = RowField(Reconciliation, "channel")
    first = forms.DateField(label="From (UTC)", widget=UnfoldAdminSingleDateWidget(attrs=DAY))
    last = forms.DateField(label="To, included", widget=UnfoldAdminSingleDateWidget(attrs=DAY))


class DriftFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types.
    title = "state"
    parameter_name = "state"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.lower(), state) for state in (DRIFT, AGREES)]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == DRIFT.lower():
            return queryset.exclude(drifts=[])
        return queryset.filter(drifts=[]) if self.value() == AGREES.lower() else queryset


@admin.register(Reconciliation)
class ReconciliationAdmin(AddPageAdmin):
    list_display = (
        "day_and_model",
        "channel_link",
        "state",
        "call_pair",
        "input_pair",
        "output_pair",
        "our_cost",
        "upstream_cost",
    )
    list_filter = (DriftFilter, ("channel", AutocompleteSelectFilter))
    list_select_related = ("channel",)
    search_fields = ("model", "channel__name")
    search_help_text = "Model or channel"
    ordering = ("-day", "channel_id", "model")
    paginator = InfinitePaginator
    show_full_result_count = False
    fieldsets = (
        (None, {"fields": (("channel_link", "day_of"), ("model_name", "state"))}),
        (
            "Ours / upstream's",
            {"fields": ("call_pair", ("input_pair", "output_pair"), ("our_cost", "upstream_cost"))},
        ),
        ("Compared", {"fields": ("compared",)}),
    )
    readonly_fields = (
        "channel_link",
        "day_of",
        "model_name",
        "state",
        "call_pair",
        "input_pair",
        "output_pair",
        "our_cost",
        "upstream_cost",
        "compared",
    )

    @column("Day (UTC)", header=True)
    def day_and_model(self, row: Reconciliation) -> list[str]:
        return [row.day.isoformat().replace("-", UNBROKEN_HYPHEN), self.model_name(row)]

    @column("Day (UTC)")
    def day_of(self, row: Reconciliation) -> str:
        return row.day.isoformat()

    @column("Model")
    def model_name(self, row: Reconciliation) -> str:
        return row.model or "All models: costs"

    @column("Channel")
    def channel_link(self, row: Reconciliation) -> SafeString:
        return link(row.channel)

    @column("State", label={DRIFT: "danger", AGREES: "success"})
    def state(self, row: Reconciliation) -> str:
        return DRIFT if row.drifts else AGREES

    @column("Calls")
    def call_pair(self, row: Reconciliation) -> str:
        return _pair(row.requests, row.upstream_requests)

    @column("Input tokens")
    def input_pair(self, row: Reconciliation) -> str:
        return _pair(row.input_tokens, row.upstream_input_tokens)

    @column("Output tokens")
    def output_pair(self, row: Reconciliation) -> str:
        return _pair(row.output_tokens, row.upstream_output_tokens)

    @column("Cost, ours")
    def our_cost(self, row: Reconciliation) -> SafeString | str:
        return "-" if row.cost_nano_usd is None else usd(row.cost_nano_usd)

    @column("Cost, upstream's")
    def upstream_cost(self, row: Reconciliation) -> SafeString | str:
        return "-" if row.upstream_cost_nano_usd is None else usd(row.upstream_cost_nano_usd)

    @column("At (UTC)")
    def compared(self, row: Reconciliation) -> str:
        return moment(row.compared_at)

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Compare with upstream's books",
            submit="Compare",
            form=ReconcileForm(data_of(request)),
            intro="Upstream is asked for its usage and costs of these days, with the channel's"
            " admin key. A job does it each day for the three days before.",
            back=list_url("relay_reconciliation"),
        )

        def compare(values: dict[str, Any]) -> HttpResponseBase:
            rows = reconcile(
                channel=values["channel"].name,
                first=values["first"],
                last=values["last"],
                now=timezone.now(),
            )
            drifting = sum(bool(row.drifts) for row in rows)
            return done(request, f"{drifting} of {len(rows)} rows drift.", page.back)

        return page, compare


def _pair(ours: int | None, theirs: int | None) -> str:
    if ours is None or theirs is None:
        return "-"
    apart = f" ({percent(theirs - ours, max(ours, theirs))})" if ours != theirs else ""
    return f"{count(ours)} / {count(theirs)}{apart}"
