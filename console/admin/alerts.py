"""Alerts: who wants to be told what, and what was told."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.alerts import (
    RuleTerms,
    alert_rule_add,
    alert_rule_remove,
    alert_test_add,
    webhook_secret,
)
from billing.models import Alert, AlertRule
from console.admin.base import (
    UnboundedAdmin,
    actor_of,
    button,
    change_url,
    code,
    column,
    link,
    list_url,
)
from console.admin.form_pages import (
    Act,
    AddPageAdmin,
    Confirmation,
    FormPage,
    Question,
    RowField,
    UsdField,
    confirm_view,
    data_of,
    done,
    form_view,
)
from console.presentation import moment, usd_text

KINDS = {
    AlertRule.Kind.LOW_BALANCE: "The balance is low",
    AlertRule.Kind.FREE_QUOTA_USED: "The free quota is used up",
    AlertRule.Kind.SPEND_LIMIT: "80 or 100 % of a spend limit is used",
}


class AlertForm(forms.Form):
    organization = RowField(AlertRule, "organization")
    kind = forms.ChoiceField(
        label="When", choices=list(KINDS.items()), widget=UnfoldAdminSelectWidget
    )
    below = UsdField(
        required=False, label="Below which balance, in USD", help_text="Of a low balance only."
    )
    email = forms.CharField(
        required=False, label="E-mail address", widget=UnfoldAdminTextInputWidget
    )
    webhook_url = forms.CharField(
        required=False,
        label="Or webhook",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://"}),
        help_text="Signed by the Standard Webhooks specification.",
    )


@admin.register(AlertRule)
class AlertRuleAdmin(AddPageAdmin):
    list_display = ("owner", "kind_label", "line", "state", "created")
    list_filter = (("organization", AutocompleteSelectFilter),)
    list_select_related = ("organization",)
    search_fields = ("organization__slug", "email", "webhook_url")
    search_help_text = "Organization or address"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("organization_link", "state"), ("kind_label", "line"))}),
        ("Goes to", {"fields": ("address", "secret")}),
        ("History", {"fields": (("created", "times"),)}),
    )
    readonly_fields = (
        "organization_link",
        "state",
        "kind_label",
        "line",
        "address",
        "secret",
        "created",
        "times",
    )
    actions_detail = ("send_test", "remove")
    actions_row = ("remove",)

    @column("Organization", header=True)
    def owner(self, row: AlertRule) -> list[str]:
        return [row.organization.slug, self.address(row)]

    @column("Organization")
    def organization_link(self, row: AlertRule) -> SafeString:
        return link(row.organization, row.organization.name)

    @column("When")
    def kind_label(self, row: AlertRule) -> str:
        return KINDS[AlertRule.Kind(row.kind)]

    @column("Line")
    def line(self, row: AlertRule) -> str:
        return "" if row.below_nano_usd is None else f"below {usd_text(row.below_nano_usd)}"

    @column("Goes to")
    def address(self, row: AlertRule) -> str:
        return row.email or row.webhook_url

    @column("Signed with")
    def secret(self, row: AlertRule) -> SafeString | str:
        return code(webhook_secret(row)) if row.webhook_url else "E-mails are not signed"

    @column("State", label={"On": "success", "Crossed": "warning", "Off": ""})
    def state(self, row: AlertRule) -> str:
        if row.removed_at is not None:
            return "Off"
        return "Crossed" if row.is_crossed else "On"

    @column("Crossed so far")
    def times(self, row: AlertRule) -> str:
        return f"{row.crossings:,} times"

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Add an alert",
            submit="Add alert",
            form=AlertForm(data_of(request)),
            intro="It is told once each time that the line is crossed.",
            back=list_url("billing_alertrule"),
        )

        def add(values: dict[str, Any]) -> HttpResponseBase:
            terms = RuleTerms(
                kind=values["kind"],
                below_nano_usd=values["below"],
                email=values["email"],
                webhook_url=values["webhook_url"],
            )
            rule = alert_rule_add(
                organization=values["organization"],
                terms=terms,
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, "The alert is on.", change_url(rule))

        return page, add

    def has_send_test_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_remove_permission(request, object_id)

    def has_remove_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change_row(request, object_id, lambda rule: rule.removed_at is None)

    @button("Send a test", icon="send", variant=ActionVariant.DEFAULT)
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        rule = self.row(request, object_id)
        page = FormPage(
            title="Send a test?",
            submit="Send",
            form=Confirmation(data_of(request)),
            intro=f"It goes to {self.address(rule)} within a minute; the list of alerts shows"
            " whether it arrived.",
            back=change_url(rule),
            about=rule,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            alert_test_add(rule_id=rule.pk, now=timezone.now())
            return done(request, "The test is on its way.", list_url("billing_alert"))

        return form_view(self, request, page, act)

    @button("Remove", icon="notifications_off", variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        rule = self.row(request, object_id)
        question = Question(
            title="Remove this alert?",
            submit="Remove",
            intro="Nothing is told by it any more, not even what waits to be told.",
            danger=True,
        )

        def act() -> str:
            alert_rule_remove(rule_id=rule.pk, actor=actor_of(request), now=timezone.now())
            return "The alert is off."

        return confirm_view(self, request, rule, question, act)


@admin.register(Alert)
class AlertAdmin(UnboundedAdmin):
    list_display = ("owner", "kind_label", "state", "attempt_count", "created")
    list_select_related = ("rule__organization",)
    search_fields = ("rule__organization__slug",)
    search_help_text = "Organization"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("rule_link", "state"), "crossing", "facts")}),
        ("Delivery", {"fields": (("attempt_count", "sent"), ("next_attempt", "last_error"))}),
    )
    readonly_fields = ("rule_link", "state", "attempt_count", "sent", "next_attempt", "created")

    @column("Organization", header=True)
    def owner(self, row: Alert) -> list[str]:
        return [row.rule.organization.slug, row.rule.email or row.rule.webhook_url]

    @column("About")
    def kind_label(self, row: Alert) -> str:
        return "A test" if row.facts.get("test") else KINDS[AlertRule.Kind(row.rule.kind)]

    @column("Alert")
    def rule_link(self, row: Alert) -> SafeString:
        return link(row.rule)

    @column("State", label={"Delivered": "success", "Waiting": "info", "Given up": "danger"})
    def state(self, row: Alert) -> str:
        if row.sent_at is not None:
            return "Delivered"
        return "Waiting" if row.next_attempt_at is not None else "Given up"

    @column("Attempts")
    def attempt_count(self, row: Alert) -> str:
        return str(row.attempts)

    @column("Delivered (UTC)")
    def sent(self, row: Alert) -> str:
        return moment(row.sent_at)

    @column("Next attempt (UTC)")
    def next_attempt(self, row: Alert) -> str:
        return moment(row.next_attempt_at)
