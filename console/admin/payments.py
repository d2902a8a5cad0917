"""Payments: what was ordered, what came of it, and what the provider told."""

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from billing.models import Payment, PaymentEvent
from console.admin.base import UnboundedAdmin, code, column, link
from console.presentation import moment, usd

STATE_LABELS = {
    "Paid": "success",
    "Open": "info",
    "Expired": "",
    "Failed": "warning",
    "Review": "danger",
}


@admin.register(Payment)
class PaymentAdmin(UnboundedAdmin):
    list_display = ("owner", "amount", "state_label", "taken_back", "created", "paid")
    list_filter = (("state", ChoicesDropdownFilter), ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization", "grant")
    search_fields = ("organization__slug", "reference", "intent")
    search_help_text = "Organization, or the provider's id"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("organization_link", "state_label"), ("amount", "grant_link"))}),
        (
            "Taken back",
            {"fields": (("refunded", "disputed"), ("collected", "written_off"), "due")},
        ),
        ("Provider", {"fields": ("provider", ("reference", "intent"))}),
        ("Time", {"fields": (("created", "paid"),)}),
    )
    readonly_fields = (
        "organization_link",
        "state_label",
        "amount",
        "grant_link",
        "refunded",
        "disputed",
        "collected",
        "written_off",
        "due",
        "created",
        "paid",
    )

    @column("Organization", header=True)
    def owner(self, row: Payment) -> list[str]:
        return [row.organization.slug, f"{row} by {row.provider}"]

    @column("Organization")
    def organization_link(self, row: Payment) -> SafeString:
        return link(row.organization, row.organization.name)

    @column("Grant")
    def grant_link(self, row: Payment) -> SafeString | str:
        return link(row.grant) if row.grant else "None yet"

    @column("State", label=STATE_LABELS)
    def state_label(self, row: Payment) -> str:
        return row.state.title()

    @column("Amount")
    def amount(self, row: Payment) -> SafeString:
        return usd(row.amount_nano_usd)

    @column("Refunded or disputed")
    def taken_back(self, row: Payment) -> SafeString:
        return usd(row.refunded_nano_usd + row.disputed_nano_usd)

    @column("Refunded")
    def refunded(self, row: Payment) -> SafeString:
        return usd(row.refunded_nano_usd)

    @column("Disputed")
    def disputed(self, row: Payment) -> SafeString:
        return usd(row.disputed_nano_usd)

    @column("Taken from the wallet")
    def collected(self, row: Payment) -> SafeString:
        return usd(row.collected_nano_usd)

    @column("Written off: it was spent")
    def written_off(self, row: Payment) -> SafeString:
        return usd(row.written_off_nano_usd)

    @column("Still to be taken")
    def due(self, row: Payment) -> SafeString:
        return usd(row.due_nano_usd)

    @column("Paid (UTC)")
    def paid(self, row: Payment) -> str:
        return moment(row.paid_at)


@admin.register(PaymentEvent)
class PaymentEventAdmin(UnboundedAdmin):
    list_display = ("kind_label", "payment_link", "amount", "occurred", "received", "id_code")
    list_select_related = ("payment",)
    search_fields = ("event_id", "intent")
    search_help_text = "The provider's id"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("kind_label", "payment_link"), ("amount", "currency"))}),
        ("Provider", {"fields": (("provider", "id_code"), ("intent", "dispute"))}),
        ("Time", {"fields": (("occurred", "received"),)}),
    )
    readonly_fields = (
        "kind_label",
        "payment_link",
        "amount",
        "id_code",
        "occurred",
        "received",
    )

    @column("Event", label=True)
    def kind_label(self, row: PaymentEvent) -> str:
        return row.kind.replace("_", " ").capitalize()

    @column("Payment")
    def payment_link(self, row: PaymentEvent) -> SafeString | str:
        return link(row.payment) if row.payment else "None of ours, or not yet"

    @column("Amount")
    def amount(self, row: PaymentEvent) -> SafeString:
        return usd(row.amount_nano_usd)

    @column("Id")
    def id_code(self, row: PaymentEvent) -> SafeString:
        return code(row.event_id)

    @column("Occurred (UTC)")
    def occurred(self, row: PaymentEvent) -> str:
        return moment(row.occurred_at)

    @column("Received (UTC)")
    def received(self, row: PaymentEvent) -> str:
        return moment(row.received_at)
