"""Redemption codes: made in batches on a page that shows them once, and revoked as a batch."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from billing.credit.codes import MAX_CODES_PER_BATCH, code_batch_revoke, codes_create
from billing.models import CodeBatch
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
    UsdField,
    confirm_view,
    data_of,
    shown_once,
)
from console.admin.keys import ExpiryField
from console.presentation import moment, usd

OPEN, EXPIRED, REVOKED, USED_UP = "Open", "Expired", "Revoked", "Used up"


class CodesForm(forms.Form):
    amount = UsdField(label="Worth in USD, each")
    count = forms.IntegerField(
        min_value=1, max_value=MAX_CODES_PER_BATCH, widget=UnfoldAdminIntegerFieldWidget
    )
    expires = ExpiryField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "never"}),
        help_text="Until when they can be redeemed: a span (90d), a day (2027-01-31) or never.",
    )
    note = forms.CharField(
        required=False,
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
        help_text="What they are for: a shop, a campaign.",
    )


@admin.register(CodeBatch)
class CodeBatchAdmin(AddPageAdmin):
    list_display = ("name_and_note", "worth", "redeemed", "state", "expires", "created")
    search_fields = ("note",)
    search_help_text = "Note"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("note", "state"),)}),
        ("Codes", {"fields": (("worth", "redeemed"),)}),
        ("Time", {"fields": (("created", "expires"), "revoked")}),
    )
    readonly_fields = (
        "worth",
        "redeemed",
        "state",
        "expires",
        "revoked",
        "created",
    )
    actions_detail = ("revoke",)
    actions_row = ("revoke",)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[CodeBatch]:
        rows: QuerySet[CodeBatch] = super().get_queryset(request)
        return rows.annotate(redeemed_count=Count("codes__redeemed_at"))

    @column("Batch", header=True)
    def name_and_note(self, row: CodeBatch) -> list[str]:
        return [str(row).capitalize(), row.note or "no note"]

    @column("Each worth")
    def worth(self, row: CodeBatch) -> SafeString:
        return usd(row.amount_nano_usd)

    @column("Redeemed")
    def redeemed(self, row: Any) -> str:
        return f"{row.redeemed_count:,} of {row.count:,}"

    @column(
        "State",
        label={OPEN: "success", EXPIRED: "warning", REVOKED: "danger", USED_UP: "info"},
    )
    def state(self, row: Any) -> str:
        if row.redeemed_count == row.count:
            return USED_UP
        if row.revoked_at is not None:
            return REVOKED
        is_over = row.expires_at is not None and row.expires_at <= timezone.now()
        return EXPIRED if is_over else OPEN

    @column("Expires (UTC)")
    def expires(self, row: CodeBatch) -> str:
        return moment(row.expires_at) if row.expires_at else "Never"

    @column("Revoked (UTC)")
    def revoked(self, row: CodeBatch) -> str:
        return moment(row.revoked_at)

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Make redemption codes",
            submit="Make codes",
            form=CodesForm(data_of(request)),
            intro="The codes are shown once, on the next page. Only digests of them are stored.",
            back=list_url("billing_codebatch"),
        )

        def create(values: dict[str, Any]) -> HttpResponseBase:
            created = codes_create(
                amount_nano_usd=values["amount"],
                count=values["count"],
                expires_at=values["expires"],
                note=values["note"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            context = {
                "title": f"{created.batch.count:,} new codes",
                "created": created,
                "text": "\n".join(created.codes),
                "row_url": change_url(created.batch),
            }
            return shown_once(self, request, "console/codes_created.html", context)

        return page, create

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change_row(request, object_id, lambda batch: batch.revoked_at is None)

    @button("Revoke", icon="block", variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        batch = self.row(request, object_id)
        question = Question(
            title=f"Revoke {batch}?",
            submit="Revoke for ever",
            intro="Codes that nobody has redeemed yet become worthless at once. Credit that came"
            " from the others stays where it is.",
            danger=True,
        )

        def act() -> str:
            unused = code_batch_revoke(
                batch_id=batch.pk, actor=actor_of(request), now=timezone.now()
            )
            return f"{unused:,} codes of {batch} are revoked."

        return confirm_view(self, request, batch, question, act)
