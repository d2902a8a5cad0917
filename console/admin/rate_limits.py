"""Rate limits: how much may be called in a minute, and at once."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from billing.limits import RATES, LimitScope, rate_limit_set
from billing.models import MAX_RATE_LIMIT, Price, RateLimit
from console.admin.base import (
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
    confirm_view,
    data_of,
    done,
)
from console.admin.limit_scopes import ScopeForm, scope_of

NO_LIMIT = "No limit"


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


@admin.register(RateLimit)
class RateLimitAdmin(AddPageAdmin):
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
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Set a rate limit",
            submit="Set limit",
            form=RateLimitForm(data_of(request)),
            intro="It replaces all that the scope was limited to. In force within a second.",
            back=list_url("billing_ratelimit"),
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            scope = values["model"] or scope_of(values)
            limit = rate_limit_set(
                scope=scope,
                rates={name: values[name] for name in RATES},
                actor=actor_of(request),
            )
            return done(request, f"The limit is set: {limit or NO_LIMIT}.", page.back)

        return page, act

    def has_remove_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:  # noqa: ARG002  unfold passes it.
        return self.may_change(request)

    @button("Remove", icon="delete", variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        limit = self.row(request, object_id)
        question = Question(
            title=f"Remove the limit of {limit}?",
            submit="Remove limit",
            danger=True,
            back=list_url("billing_ratelimit"),
        )

        def act() -> str:
            scope = limit.model or LimitScope(
                organization=limit.organization, project=limit.project, api_key=limit.api_key
            )
            rate_limit_set(scope=scope, rates=dict.fromkeys(RATES), actor=actor_of(request))
            return f"The limit of {limit} is removed."

        return confirm_view(self, request, limit, question, act)


def _number(rate: int | None) -> str:
    return NO_LIMIT if rate is None else f"{rate:,}"
