"""Limits: what may be spent in a window of time, and how much may be called in a minute."""

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
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from billing.limits import RATES, LimitScope, rate_limit_set, spend_limit_set
from billing.models import MAX_RATE_LIMIT, Price, RateLimit, SpendLimit, SpendLimitPeriod
from console.admin.base import (
    ServiceAdmin,
    UnboundedAdmin,
    actor_of,
    button,
    change_url,
    column,
    list_url,
    require,
)
from console.admin.form_pages import (
    Confirmation,
    FormPage,
    RowField,
    UsdField,
    data_of,
    done,
    form_view,
)
from console.presentation import moment, usd

NO_LIMIT = "No limit"
REMOVED, IN_FORCE = "Removed", "In force"


class ScopeForm(forms.Form):
    """Whom a limit is for: exactly one of them."""

    organization = RowField(SpendLimit, "organization", required=False)
    project = RowField(SpendLimit, "project", required=False, label="Or project")
    api_key = RowField(
        SpendLimit,
        "api_key",
        required=False,
        label="Or API key",
        help_text="With all the keys that it replaced, or that replace it.",
    )

    def scopes(self) -> list[Any]:
        names = ("organization", "project", "api_key", "model")
        return [self.cleaned_data[name] for name in names if self.cleaned_data.get(name)]

    @override
    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if len(self.scopes()) != 1:
            raise forms.ValidationError("Say whom the limit is for: one of them.")
        return values


class SpendLimitForm(ScopeForm):
    amount = UsdField(label="USD")
    per = forms.ChoiceField(
        choices=SpendLimit.Per.choices,
        widget=UnfoldAdminSelectWidget,
        help_text="A calendar window in the organization's time zone, or in total.",
    )


def _rate(label: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        required=False,
        min_value=1,
        max_value=MAX_RATE_LIMIT,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"placeholder": "no limit"}),
    )


class RateLimitForm(ScopeForm):
    model = forms.ChoiceField(required=False, label="Or model", widget=UnfoldAdminSelectWidget)
    calls_per_minute = _rate("Calls per minute")
    tokens_per_minute = _rate("Tokens per minute")
    concurrency = _rate("Calls at once")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        models = Price.objects.order_by("model").values_list("model", flat=True).distinct()
        field = self.fields["model"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", ""), *((model, model) for model in models)]


def _scope(values: dict[str, Any]) -> LimitScope:
    api_key, project = values.get("api_key"), values.get("project")
    if api_key:
        return LimitScope(organization=api_key.organization, api_key=api_key.family or api_key)
    if project:
        return LimitScope(organization=project.organization, project=project)
    return LimitScope(organization=values["organization"])


@admin.register(SpendLimit)
class SpendLimitAdmin(ServiceAdmin):
    list_display = ("scope_name", "cap", "per", "state", "created")
    list_filter = (("organization", AutocompleteSelectFilter),)
    list_select_related = ("organization", "project__organization", "api_key")
    search_fields = ("organization__slug", "project__slug", "api_key__prefix")
    search_help_text = "Organization, project or key"
    ordering = ("-id",)
    fieldsets = ((None, {"fields": (("scope_name", "state"), ("cap", "per"), "created")}),)
    readonly_fields = ("scope_name", "cap", "state", "created")
    actions_detail = ("remove",)
    actions_row = ("remove",)

    @column("Of")
    def scope_name(self, row: SpendLimit) -> str:
        return row.scope

    @column("Limit")
    def cap(self, row: SpendLimit) -> SafeString:
        return usd(row.cap_nano_usd)

    @column("State", label={IN_FORCE: "success", REMOVED: "info"})
    def state(self, row: SpendLimit) -> str:
        return IN_FORCE if row.removed_at is None else REMOVED

    @override
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        require(self.has_add_permission(request))
        page = FormPage(
            title="Set a spend limit",
            submit="Set limit",
            form=SpendLimitForm(data_of(request)),
            intro="It replaces the limit that the scope has per the same window, if it has one.",
            back=list_url("billing_spendlimit"),
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            limit = spend_limit_set(
                scope=_scope(values),
                per=values["per"],
                cap_nano_usd=values["amount"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, f"The limit is set: {limit}.", page.back)

        return form_view(self, request, page, act)

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
        page = FormPage(
            title=f"Remove the limit of {limit}?",
            submit="Remove limit",
            form=Confirmation(data_of(request)),
            back=change_url(limit),
            about=limit,
            danger=True,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
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
            return done(request, f"The limit of {limit} is removed.", page.back)

        return form_view(self, request, page, act)


@admin.register(SpendLimitPeriod)
class SpendLimitPeriodAdmin(UnboundedAdmin):
    list_display = ("limit", "begins", "ends", "cap", "used", "leased")
    list_select_related = ("limit__organization", "limit__project", "limit__api_key")
    search_fields = ("limit__organization__slug",)
    search_help_text = "Organization"
    ordering = ("-id",)
    fieldsets = ((None, {"fields": (("limit", "cap"), ("begins", "ends"), ("used", "leased"))}),)
    readonly_fields = ("limit", "cap", "begins", "ends", "used", "leased")

    @column("From (UTC)")
    def begins(self, row: SpendLimitPeriod) -> str:
        return moment(row.period_start)

    @column("Until (UTC)")
    def ends(self, row: SpendLimitPeriod) -> str:
        return moment(row.period_end)

    @column("Limit")
    def cap(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.cap_nano_usd)

    @column("Used")
    def used(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.used_nano_usd)

    @column("Set aside")
    def leased(self, row: SpendLimitPeriod) -> SafeString:
        return usd(row.leased_nano_usd)


@admin.register(RateLimit)
class RateLimitAdmin(ServiceAdmin):
    list_display = ("scope_name", "calls", "tokens", "at_once", "created")
    list_filter = (("organization", AutocompleteSelectFilter),)
    list_select_related = ("organization", "project__organization", "api_key")
    search_fields = ("organization__slug", "project__slug", "api_key__prefix", "model")
    search_help_text = "Organization, project, key or model"
    ordering = ("-id",)
    fieldsets = ((None, {"fields": ("scope_name", ("calls", "tokens", "at_once"), "created")}),)
    readonly_fields = ("scope_name", "calls", "tokens", "at_once", "created")
    actions_detail = ("remove",)
    actions_row = ("remove",)

    @column("Of")
    def scope_name(self, row: RateLimit) -> str:
        return row.scope

    @column("Calls per minute")
    def calls(self, row: RateLimit) -> str:
        return _number(row.calls_per_minute)

    @column("Tokens per minute")
    def tokens(self, row: RateLimit) -> str:
        return _number(row.tokens_per_minute)

    @column("Calls at once")
    def at_once(self, row: RateLimit) -> str:
        return _number(row.concurrency)

    @override
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        require(self.has_add_permission(request))
        page = FormPage(
            title="Set a rate limit",
            submit="Set limit",
            form=RateLimitForm(data_of(request)),
            intro="It replaces all that the scope was limited to. In force within a second.",
            back=list_url("billing_ratelimit"),
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            scope = values["model"] or _scope(values)
            limit = rate_limit_set(
                scope=scope,
                rates={name: values[name] for name in RATES},
                actor=actor_of(request),
            )
            return done(request, f"The limit is set: {limit or NO_LIMIT}.", page.back)

        return form_view(self, request, page, act)

    def has_remove_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:  # noqa: ARG002  unfold passes it.
        return self.may_change(request)

    @button("Remove", icon="delete", variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        limit = self.row(request, object_id)
        page = FormPage(
            title=f"Remove the limit of {limit}?",
            submit="Remove limit",
            form=Confirmation(data_of(request)),
            back=list_url("billing_ratelimit"),
            about=limit,
            danger=True,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            scope = limit.model or LimitScope(
                organization=limit.organization, project=limit.project, api_key=limit.api_key
            )
            rate_limit_set(scope=scope, rates=dict.fromkeys(RATES), actor=actor_of(request))
            return done(request, f"The limit of {limit} is removed.", page.back)

        return form_view(self, request, page, act)


def _number(rate: int | None) -> str:
    return NO_LIMIT if rate is None else f"{rate:,}"
