"""Price feeds: what one would change, and the decision about it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from billing.models import PriceImport
from billing.prices.feeds import (
    FORMATS,
    price_import_approve,
    price_import_open,
    price_import_reject,
)
from console.admin.base import (
    actor_of,
    button,
    change_url,
    column,
    list_url,
)
from console.admin.form_pages import (
    Act,
    AddPageAdmin,
    FormPage,
    Question,
    confirm_view,
    data_of,
    done,
)
from console.presentation import moment

FORMAT_LABELS = {"tollgate": "Tollgate's price book", "litellm": "LiteLLM's price map"}


class ImportForm(forms.Form):
    form = forms.ChoiceField(
        label="Format",
        choices=[(name, FORMAT_LABELS[name]) for name in FORMATS],
        widget=UnfoldAdminSelectWidget,
    )
    source = forms.CharField(
        max_length=300,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://"}),
        help_text="Where it is from, for the record.",
    )
    text = forms.CharField(label="The feed", widget=UnfoldAdminTextareaWidget(attrs={"rows": 12}))


@admin.register(PriceImport)
class PriceImportAdmin(AddPageAdmin):
    list_display = ("name_and_source", "counts", "state_label", "created")
    search_fields = ("source",)
    search_help_text = "Source"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("source", "state_label"), ("created", "decided"))}),
        ("What it would change", {"fields": ("diff",)}),
        ("Refused", {"fields": ("refusals",)}),
    )
    readonly_fields = (
        "state_label",
        "created",
        "decided",
        "diff",
        "refusals",
    )
    actions_detail = ("approve", "reject")

    @column("Import", header=True)
    def name_and_source(self, row: PriceImport) -> list[str]:
        return [str(row).capitalize(), row.source]

    @column("Models")
    def counts(self, row: PriceImport) -> str:
        return f"{len(row.changes):,} changed, {len(row.refused):,} refused"

    @column("State", label={"Waiting": "info", "Approved": "success", "Rejected": ""})
    def state_label(self, row: PriceImport) -> str:
        return row.state.title()

    @column("Decided (UTC)")
    def decided(self, row: PriceImport) -> str:
        return moment(row.decided_at)

    @column("Prices")
    def diff(self, row: PriceImport) -> SafeString:
        return format_html_join(
            "",
            '<div class="tg-change"><strong>{}{}</strong> {}<ul>{}</ul></div>',
            (
                (
                    change["model"],
                    " (new)" if change["is_new"] else "",
                    change["preview"],
                    format_html_join("", "<li>{}</li>", ((line,) for line in change["changes"])),
                )
                for change in row.changes
            ),
        )

    @column("Models")
    def refusals(self, row: PriceImport) -> SafeString:
        lines = ((refusal["model"], refusal["reason"]) for refusal in row.refused)
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", lines))

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Import prices",
            submit="Compare",
            form=ImportForm(data_of(request)),
            intro="Nothing changes before you have seen the differences and approved them.",
            back=list_url("billing_priceimport"),
        )

        def compare(values: dict[str, Any]) -> HttpResponseBase:
            pending = price_import_open(
                text=values["text"],
                form=values["form"],
                source=values["source"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, "The feed was compared.", change_url(pending))

        return page, compare

    def has_approve_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change_row(
            request, object_id, lambda row: row.state == PriceImport.State.WAITING
        )

    has_reject_permission = has_approve_permission

    @button("Approve", icon="check", variant=ActionVariant.PRIMARY)
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        row = self.row(request, object_id)
        question = Question(
            title=f"Take over {len(row.changes):,} prices?",
            submit="Take over",
            intro="They count for calls from now on; past calls stay as they were charged.",
        )

        def act() -> str:
            price_import_approve(import_id=row.pk, actor=actor_of(request), now=timezone.now())
            return "The prices count from now on."

        return confirm_view(self, request, row, question, act)

    @button("Reject", icon="close", variant=ActionVariant.DEFAULT)
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        row = self.row(request, object_id)
        question = Question(
            title="Reject this import?",
            submit="Reject",
            intro="Nothing changes.",
        )

        def act() -> str:
            price_import_reject(import_id=row.pk, actor=actor_of(request), now=timezone.now())
            return "The import is rejected."

        return confirm_view(self, request, row, question, act)
