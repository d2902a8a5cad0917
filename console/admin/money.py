"""Wallets, grants and the ledger: shown exactly, changed only by a grant."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    BooleanRadioFilter,
    ChoicesDropdownFilter,
)
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.models import Organization
from billing.credit.balance import unspent_of_leases
from billing.credit.grants import Credit, grant_credit
from billing.models import Grant, LedgerEntry, Wallet
from console.admin.base import (
    ReadOnlyAdmin,
    UnboundedAdmin,
    actor_of,
    button,
    change_url,
    code,
    column,
    link,
)
from console.admin.form_pages import FormPage, UsdField, data_of, done, form_view
from console.admin.keys import ExpiryField
from console.admin.organizations import holds_of
from console.presentation import moment, usd, usd_text


class GrantForm(forms.Form):
    amount = UsdField(label="Amount in USD")
    reason = forms.CharField(
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
        help_text="What it is for: an invoice number, a promise. It stays with the grant.",
    )
    kind = forms.ChoiceField(
        choices=[
            (Grant.Kind.TOP_UP, "Top-up: the customer paid"),
            (Grant.Kind.ADJUSTMENT, "Adjustment: a correction or a gift"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    expires = ExpiryField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "never"}),
        help_text="A span (90d), a day (2027-01-31) or never.",
    )


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    list_display = ("owner", "balance", "in_wallet", "set_aside", "debt", "holds")
    list_filter = (("strict", BooleanRadioFilter),)
    search_fields = ("organization__slug", "organization__name")
    search_help_text = "Organization"
    ordering = ("-organization_id",)
    fieldsets = (
        (None, {"fields": (("organization_link", "holds"),)}),
        ("Money", {"fields": ("balance", ("in_wallet", "set_aside"), "debt")}),
    )
    readonly_fields = ("organization_link", "holds", "balance", "in_wallet", "set_aside", "debt")
    actions_detail = ("grant_credit",)
    actions_row = ("grant_credit",)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Wallet]:
        rows: QuerySet[Wallet] = super().get_queryset(request)
        rows = rows.select_related("organization")
        return rows.annotate(unspent_nano_usd=unspent_of_leases("organization_id"))

    @column("Organization", header=True)
    def owner(self, row: Wallet) -> list[str]:
        return [row.organization.name, row.organization.slug]

    @column("Organization")
    def organization_link(self, row: Wallet) -> SafeString:
        return link(row.organization, row.organization.name)

    @column("Balance")
    def balance(self, row: Any) -> SafeString:
        return usd(row.balance_nano_usd + row.unspent_nano_usd)

    @column("In the wallet")
    def in_wallet(self, row: Wallet) -> SafeString:
        return usd(row.balance_nano_usd)

    @column("Set aside in leases")
    def set_aside(self, row: Any) -> SafeString:
        return usd(row.unspent_nano_usd)

    @column("Debt")
    def debt(self, row: Wallet) -> SafeString:
        return usd(row.debt_nano_usd)

    @column("Holds")
    def holds(self, row: Wallet) -> str:
        return holds_of(row)

    def has_grant_credit_permission(
        self,
        request: HttpRequest,
        object_id: str | None = None,  # noqa: ARG002  unfold passes it.
    ) -> bool:
        return bool(request.user.has_perm("billing.add_grant"))

    @button("Grant credit", icon="add_card", variant=ActionVariant.PRIMARY)
    def grant_credit(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        wallet = self.row(request, object_id)
        organization: Organization = wallet.organization
        page = FormPage(
            title=f"Grant credit to {organization.name}",
            submit="Grant credit",
            form=GrantForm(data_of(request)),
            intro=f"The balance is {usd_text(wallet.balance_nano_usd + wallet.unspent_nano_usd)}."
            " New money can be spent within a second.",
            back=change_url(wallet),
            about=wallet,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            credit = Credit(
                organization_id=organization.pk,
                amount_nano_usd=values["amount"],
                kind=Grant.Kind(values["kind"]),
                expires_at=values["expires"],
                reason=values["reason"],
            )
            credited = grant_credit(credit=credit, actor=actor_of(request), now=timezone.now())
            amount, balance = usd_text(values["amount"]), usd_text(credited.balance_nano_usd)
            return done(
                request, f"{organization.name} got {amount}; the balance is {balance}.", page.back
            )

        return form_view(self, request, page, act)


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = (
        "owner",
        "kind_label",
        "amount",
        "left",
        "burnt",
        "expired",
        "expires",
        "created",
    )
    list_filter = (("kind", ChoicesDropdownFilter), ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization",)
    search_fields = ("organization__slug", "reason")
    search_help_text = "Organization or reason"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("organization_link", "kind_label"), "reason")}),
        ("Money", {"fields": ("amount", ("free", "leased"), ("burnt", "expired"))}),
        ("Time", {"fields": (("created", "expires"),)}),
    )
    readonly_fields = (
        "created",
        "organization_link",
        "kind_label",
        "amount",
        "free",
        "leased",
        "burnt",
        "expired",
        "expires",
    )

    @column("Organization", header=True)
    def owner(self, row: Grant) -> list[str]:
        return [row.organization.slug, row.reason]

    @column("Organization")
    def organization_link(self, row: Grant) -> SafeString:
        return link(row.organization, row.organization.name)

    @column(
        "Kind",
        label={"Free quota": "info", "Top-up": "success", "Adjustment": "warning"},
    )
    def kind_label(self, row: Grant) -> str:
        return {Grant.Kind.FREE_QUOTA: "Free quota", Grant.Kind.TOP_UP: "Top-up"}.get(
            Grant.Kind(row.kind), row.kind.title()
        )

    @column("Amount")
    def amount(self, row: Grant) -> SafeString:
        return usd(row.amount_nano_usd)

    @column("Left")
    def left(self, row: Grant) -> SafeString:
        return usd(row.free_nano_usd + row.leased_nano_usd)

    @column("In the wallet")
    def free(self, row: Grant) -> SafeString:
        return usd(row.free_nano_usd)

    @column("In open leases, partly spent")
    def leased(self, row: Grant) -> SafeString:
        return usd(row.leased_nano_usd)

    @column("Spent")
    def burnt(self, row: Grant) -> SafeString:
        return usd(row.burnt_nano_usd)

    @column("Expired")
    def expired(self, row: Grant) -> SafeString:
        return usd(row.expired_nano_usd)

    @column("Expires (UTC)")
    def expires(self, row: Grant) -> str:
        return moment(row.expires_at) if row.expires_at else "Never"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(UnboundedAdmin):
    list_display = ("at", "organization_link", "account_label", "amount", "reason", "posting_code")
    list_filter = (("account", ChoicesDropdownFilter), ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization",)
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("organization_link", "at"), ("account_label", "amount"), "reason")}),
        ("Belongs to", {"fields": (("posting", "sequence"), ("lease_id", "grant_id"))}),
    )
    readonly_fields = ("organization_link", "at", "account_label", "amount")

    @column("Time (UTC)")
    def at(self, row: LedgerEntry) -> str:
        return moment(row.created_at)

    @column("Organization")
    def organization_link(self, row: LedgerEntry) -> SafeString:
        return link(row.organization)

    @column("Account", label=True)
    def account_label(self, row: LedgerEntry) -> str:
        return str(LedgerEntry.Account(row.account).label)

    @column("Amount")
    def amount(self, row: LedgerEntry) -> SafeString:
        return usd(row.amount_nano_usd)

    @column("Posting")
    def posting_code(self, row: LedgerEntry) -> SafeString:
        return code(f"{row.posting.hex[-8:]}.{row.sequence}")
