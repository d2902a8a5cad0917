"""Spend limits: what may be spent in a window of time, and what is gone of it."""

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
from unfold.widgets import UnfoldAdminSelectWidget

from billing.limits import LimitScope, limit_states, spend_limit_set
from billing.models import SpendLimit, SpendLimitPeriod
from console.admin.base import (
    UnboundedAdmin,
    actor_of,
    button,
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
    done,
)
from console.admin.limit_scopes import ScopeForm, scope_of
from console.presentation import moment, usd, usd_text

REMOVED, IN_FORCE = "Removed", "In force"


class SpendLimitForm(ScopeForm):
    amount = UsdField(label="USD")
    per = forms.ChoiceField(
        choices=SpendLimit.Per.choices,
        widget=UnfoldAdminSelectWidget,
        help_text="A calendar window in the organization's time zone, or in total.",
    )


@admin.register(SpendLimit)
class SpendLimitAdmin(AddPageAdmin):
    list_display = ("scope_name", "cap", "per", "use", "state", "created")
    list_filter = (("organization", AutocompleteSelectFilter),)
    list_select_related = ("organization", "project__organization", "api_key")
    search_fields = ("organization__slug", "project__slug", "api_key__prefix")
    search_help_text = "Organization, project or key"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("scope_name", "state"), ("cap", "per"), ("use_line", "created"))}),
    )
    readonly_fields = ("scope_name", "cap", "use_line", "state", "created")
    actions_detail = ("remove",)
    actions_row = ("remove",)

    @column("Of")
    def scope_name(self, row: SpendLimit) -> str:
        return row.scope

    @column("Limit")
    def cap(self, row: SpendLimit) -> SafeString:
        return usd(row.cap_nano_usd)

    @column("Used now", header=True)
    def use(self, row: SpendLimit) -> tuple[str, str]:
        if row.removed_at is not None:
            return "-", ""
        (state,) = limit_states([row], now=timezone.now())
        anew = f"anew {moment(state.resets_at)} UTC" if state.resets_at else "never anew"
        used = f"{usd_text(state.used_nano_usd)} ({state.used_percent} %)"
        return used, f"{usd_text(state.left_nano_usd)} left, {anew}"

    @column("Used now")
    def use_line(self, row: SpendLimit) -> str:
        return ", ".join(part for part in self.use(row) if part)

    @column("State", label={IN_FORCE: "success", REMOVED: "info"})
    def state(self, row: SpendLimit) -> str:
        return IN_FORCE if row.removed_at is None else REMOVED

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Set a spend limit",
            submit="Set limit",
            form=SpendLimitForm(data_of(request)),
            intro="It replaces the limit that the scope has per the same window, if it has one.",
            back=list_url("billing_spendlimit"),
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            limit = spend_limit_set(
                scope=scope_of(values),
                per=values["per"],
                cap_nano_usd=values["amount"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, f"The limit is set: {limit}.", page.back)

        return page, act

    def has_remove_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        if not self.may_change(request):
            return False
        if object_id is None:  # For the list, which asks once for all its rows.
            return True
        limit = self.find(request, object_id)
        return limit is not None and limit.removed_at is None

    @button("Remove", icon="delete", variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        limit = self.row(request, object_id)
        question = Question(
            title=f"Remove the limit of {limit}?", submit="Remove limit", danger=True
        )

        def act() -> str:
            scope = LimitScope(
                organization=limit.organization, project=limit.project, api_key=limit.api_key
            )
            spend_limit_set(
                scope=scope,
                per=limit.per,
                cap_nano_usd=None,
                actor=actor_of(request),
                now=timezone.now(),
            )
            return f"The limit of {limit} is removed."

        return confirm_view(self, request, limit, question, act)


@admin.register(SpendLimitPeriod)
class SpendLimitPeriodAdmin(UnboundedAdmin):
    list_display = ("limit", "begins", "ends", "cap", "used", "leased", "over")
    list_select_related = ("limit__organization", "limit__project", "limit__api_key")
    search_fields = ("limit__organization__slug",)
    search_help_text = "Organization"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("limit", "cap"), ("begins", "ends"), ("used", "leased", "over"))}),
    )
    readonly_fields = ("limit", "cap", "begins", "ends", "used", "leased", "over")

    @column("From (UTC)")
    def begins(self, row: SpendLimitPeriod) -> str:
        return moment(row.period_start)

    @column("Until (UTC)")
    def ends(self, row: SpendLimitPeriod) -> str:
        return moment(row.period_end)

    @column("Limit")
    def cap(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.cap_nano_usd)

    @column("Spent of closed leases")
    def used(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.used_nano_usd)

    @column("In open leases")
    def leased(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.leased_nano_usd)

    @column("Beyond the limit")
    def over(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.over_nano_usd)
