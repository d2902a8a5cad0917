"""Re-ratings: what past calls would have cost by other terms, and the decision about it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminSingleDateWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.models import Rerating, ReratingLine
from billing.rerating import RerateTerms, rerating_apply, rerating_drop, rerating_open
from console.admin.base import actor_of, button, change_url, column, link, list_url
from console.admin.form_pages import (
    Act,
    AddPageAdmin,
    FormPage,
    FractionField,
    Question,
    RowField,
    confirm_view,
    data_of,
    done,
)
from console.presentation import count, fraction, moment, usd, usd_text

Terms = Rerating.Terms
DAY = {"placeholder": "2026-01-31"}
STATE_LABELS = {"Waiting": "info", "Running": "warning", "Done": "success", "Dropped": ""}
# More lines than anybody reads; the sums are of all of them.
SHOWN_LINES = 200


class RerateForm(forms.Form):
    first_day = forms.DateField(label="From (UTC)", widget=UnfoldAdminSingleDateWidget(attrs=DAY))
    last_day = forms.DateField(label="To, included", widget=UnfoldAdminSingleDateWidget(attrs=DAY))
    organization = RowField(Rerating, "organization", required=False, help_text="Empty: everybody.")
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="Empty: every model.",
    )
    prices = forms.ChoiceField(
        label="Official prices",
        choices=[(Terms.NOW, "Those in force now"), (Terms.THEN, "Those that each call had")],
        widget=UnfoldAdminSelectWidget,
    )
    discounts = forms.ChoiceField(
        choices=[
            (Terms.THEN, "Those that each call had"),
            (Terms.NOW, "Those in force now"),
            (Terms.GIVEN, "The fraction below"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    fraction = FractionField(required=False, label="Fraction to pay")
    may_owe = forms.BooleanField(
        required=False,
        label="Into debt",
        widget=UnfoldBooleanSwitchWidget,
        help_text="What becomes dearer may put organizations on standard holds into debt."
        " Otherwise no more is taken than their wallets have.",
    )
    reason = forms.CharField(
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
        help_text="For the record, and for the customer's.",
    )


@admin.register(Rerating)
class ReratingAdmin(AddPageAdmin):
    list_display = ("name_and_days", "scope", "state_label", "calls", "difference", "created")
    list_select_related = ("organization",)
    search_fields = ("reason", "model", "organization__slug")
    search_help_text = "Reason, model or organization"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("days", "state_label"), ("scope", "terms"), "reason")}),
        ("What changes", {"fields": (("calls", "difference"), "line_table")}),
        ("What came of it", {"fields": (("given_back", "collected"), ("waived", "left"))}),
        ("Time", {"fields": (("created", "decided", "ended"),)}),
    )
    readonly_fields = (
        "days",
        "state_label",
        "scope",
        "terms",
        "calls",
        "difference",
        "line_table",
        "given_back",
        "collected",
        "waived",
        "left",
        "created",
        "decided",
        "ended",
    )
    actions_detail = ("apply", "drop")

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Rerating]:
        rows: QuerySet[Rerating] = super().get_queryset(request)
        return rows.prefetch_related("lines__organization")

    @column("Re-rating", header=True)
    def name_and_days(self, row: Rerating) -> list[str]:
        return [str(row).capitalize(), self.days(row)]

    @column("Days (UTC)")
    def days(self, row: Rerating) -> str:
        return f"{row.first_day} to {row.last_day}"

    @column("Of")
    def scope(self, row: Rerating) -> str:
        return f"{row.organization or 'Everybody'}, {row.model or 'every model'}"

    @column("By")
    def terms(self, row: Rerating) -> str:
        discounts = (
            f"{fraction(row.discount_ppm)} to pay"
            if row.discount_ppm is not None
            else f"discounts of {row.discounts}"
        )
        debt = ", into debt" if row.may_owe else ""
        return f"prices of {row.prices}, {discounts}{debt}"

    @column("State", label=STATE_LABELS)
    def state_label(self, row: Rerating) -> str:
        return row.state.title()

    @column("Calls")
    def calls(self, row: Rerating) -> str:
        odd = sum(line.unratable_calls for line in row.lines.all())
        told = count(sum(line.calls for line in row.lines.all()))
        return f"{told}, of which {count(odd)} cannot be told" if odd else told

    @column("Difference, as previewed")
    def difference(self, row: Rerating) -> SafeString:
        return usd(sum(line.preview_difference_nano_usd for line in row.lines.all()))

    @column("Lines")
    def line_table(self, row: Rerating) -> SafeString:
        lines = sorted(row.lines.all(), key=lambda one: -abs(one.preview_difference_nano_usd))
        body = format_html_join(
            "",
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (_cells(line) for line in lines[:SHOWN_LINES]),
        )
        more = len(lines) - SHOWN_LINES
        return format_html(
            '<table class="tg-rates"><thead><tr><th></th><th>Model</th><th>Calls</th>'
            "<th>Charged</th><th>Re-rated</th><th>Difference</th></tr></thead>"
            "<tbody>{}</tbody></table>{}",
            body,
            f"and {more} more" if more > 0 else "",
        )

    @column("Given back")
    def given_back(self, row: Rerating) -> SafeString:
        settled = (line for line in row.lines.all() if line.settled_at)
        return usd(-sum(min(0, line.difference_nano_usd) for line in settled))

    @column("Taken from wallets")
    def collected(self, row: Rerating) -> SafeString:
        return usd(sum(line.collected_nano_usd for line in row.lines.all()))

    @column("Waived: there was no money")
    def waived(self, row: Rerating) -> SafeString:
        return usd(sum(line.waived_nano_usd for line in row.lines.all()))

    @column("Still to be settled")
    def left(self, row: Rerating) -> str:
        return f"{sum(line.settled_at is None for line in row.lines.all()):,} lines"

    @column("Decided (UTC)")
    def decided(self, row: Rerating) -> str:
        return moment(row.decided_at)

    @column("Ended (UTC)")
    def ended(self, row: Rerating) -> str:
        return moment(row.ended_at)

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Re-rate past calls",
            submit="Preview",
            form=RerateForm(data_of(request)),
            intro="It is computed what they would have cost. Nothing changes before you have seen"
            " the differences and applied them.",
            back=list_url("billing_rerating"),
        )

        def preview(values: dict[str, Any]) -> HttpResponseBase:
            names = ("first_day", "last_day", "organization", "model", "prices", "discounts")
            terms = RerateTerms(
                **{name: values[name] for name in names},
                discount_ppm=values["fraction"],
                may_owe=values["may_owe"],
                reason=values["reason"],
            )
            rerating = rerating_open(terms=terms, actor=actor_of(request), now=timezone.now())
            return done(request, "This is what would change.", change_url(rerating))

        return page, preview

    def has_apply_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change_row(
            request, object_id, lambda row: row.state == Rerating.State.WAITING
        )

    has_drop_permission = has_apply_permission

    @button("Apply", icon="check", variant=ActionVariant.PRIMARY)
    def apply(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        row = self.row(request, object_id)
        total = sum(line.preview_difference_nano_usd for line in row.lines.all())
        question = Question(
            title=f"Change charges by {usd_text(total)}?",
            submit="Apply",
            intro="Customers get back what they were charged too much, as a grant; what they were"
            " charged too little is taken from their wallets. It begins within a minute.",
            danger=total > 0,
        )

        def act() -> str:
            rerating_apply(rerating_id=row.pk, actor=actor_of(request), now=timezone.now())
            return "It is decided; the money moves within minutes."

        return confirm_view(self, request, row, question, act)

    @button("Drop", icon="close", variant=ActionVariant.DEFAULT)
    def drop(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        row = self.row(request, object_id)
        question = Question(title="Drop this re-rating?", submit="Drop", intro="Nothing changes.")

        def act() -> str:
            rerating_drop(rerating_id=row.pk, actor=actor_of(request), now=timezone.now())
            return "The re-rating is dropped."

        return confirm_view(self, request, row, question, act)


def _cells(line: ReratingLine) -> tuple[object, ...]:
    return (
        link(line.organization),
        line.model,
        count(line.calls),
        usd(line.charged_nano_usd),
        usd(line.rated_nano_usd),
        usd(line.preview_difference_nano_usd),
    )
