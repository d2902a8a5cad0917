"""API keys: issued on a page that shows the key once, and revoked for ever."""

import datetime as dt
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.api_keys import (
    DEFAULT_SCOPES,
    ApiKeyTerms,
    IssuedApiKey,
    api_key_issue,
    api_key_revoke,
    api_key_rotate,
)
from accounts.models import ApiKey
from accounts.moments import InvalidMoment, expiry_parse, span_parse
from console.admin.base import (
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
    FormPage,
    Question,
    RowField,
    WordsField,
    confirm_view,
    data_of,
    form_view,
    shown_once,
)
from console.presentation import moment

ACTIVE, EXPIRED, REVOKED = "Active", "Expired", "Revoked"
STATE_LABELS = {ACTIVE: "success", EXPIRED: "warning", REVOKED: "danger"}
# What the first call may name where the key may name anything.
EXAMPLE_MODEL = "gpt-4o-mini"


class ExpiryField(forms.CharField):
    """A moment as people type it; None for never."""

    @override
    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return expiry_parse(text or "never", now=timezone.now())
        except InvalidMoment as error:
            raise forms.ValidationError(str(error)) from error


class ApiKeyForm(forms.Form):
    project = RowField(ApiKey, "project", help_text="Search for the organization or the project.")
    name = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="For people: whose key it is, or what for.",
    )
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices,
        initial=DEFAULT_SCOPES,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    expires = ExpiryField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "never"}),
        help_text="A span (12h, 30d), a day (2027-01-31) or never.",
    )
    models = WordsField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "all"}),
        help_text="Only these models, separated by spaces or commas.",
    )
    networks = WordsField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "all"}),
        help_text="Only from these addresses or networks, such as 203.0.113.0/24.",
    )


class SpanField(forms.CharField):
    """A span of time as people type it."""

    @override
    def clean(self, value: Any) -> Any:
        try:
            return span_parse(super().clean(value))
        except InvalidMoment as error:
            raise forms.ValidationError(str(error)) from error


class RotationForm(forms.Form):
    grace = SpanField(
        label="Grace period",
        initial="24h",
        widget=UnfoldAdminTextInputWidget,
        help_text="How long the old key works beside the new one: 30m, 24h, 7d, or 0.",
    )


class StateFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types.
    title = "state"
    parameter_name = "state"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.lower(), state) for state in STATE_LABELS]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        revoked, expired = Q(revoked_at__isnull=False), Q(expires_at__lte=timezone.now())
        states = {
            ACTIVE.lower(): ~revoked & ~expired,
            EXPIRED.lower(): ~revoked & expired,
            REVOKED.lower(): revoked,
        }
        return queryset.filter(states.get(self.value(), Q()))


@admin.register(ApiKey)
class ApiKeyAdmin(AddPageAdmin):
    list_display = ("key_and_name", "project_link", "state", "scope_names", "expires", "created")
    list_filter = (StateFilter, ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization", "project__organization")
    search_fields = ("prefix", "name", "organization__slug")
    search_help_text = "First characters of the key, name or organization"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("key", "name"), ("project_link", "state"))}),
        ("What it may do", {"fields": ("scope_names", "model_names", "network_names")}),
        ("History", {"fields": (("created", "created_by"), ("expires", "revoked"))}),
    )
    readonly_fields = (
        "created",
        "key",
        "project_link",
        "state",
        "scope_names",
        "model_names",
        "network_names",
        "expires",
        "revoked",
    )
    actions_detail = ("rotate", "revoke")
    actions_row = ("rotate", "revoke")

    @column("Key", header=True)
    def key_and_name(self, row: ApiKey) -> list[str]:
        return [str(row), row.name or "no name"]

    @column("Key")
    def key(self, row: ApiKey) -> SafeString:
        return code(row)

    @column("Project")
    def project_link(self, row: ApiKey) -> SafeString:
        return link(row.project)

    @column("State", label=STATE_LABELS)
    def state(self, row: ApiKey) -> str:
        return key_state(row, now=timezone.now())

    @column("Scopes")
    def scope_names(self, row: ApiKey) -> str:
        return ", ".join(row.scopes)

    @column("Models")
    def model_names(self, row: ApiKey) -> str:
        return "All" if row.allowed_models is None else ", ".join(row.allowed_models)

    @column("Networks")
    def network_names(self, row: ApiKey) -> str:
        return "All" if row.allowed_networks is None else ", ".join(row.allowed_networks)

    @column("Expires (UTC)")
    def expires(self, row: ApiKey) -> str:
        return moment(row.expires_at) if row.expires_at else "Never"

    @column("Revoked (UTC)")
    def revoked(self, row: ApiKey) -> str:
        return moment(row.revoked_at)

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Issue an API key",
            submit="Issue key",
            form=ApiKeyForm(data_of(request)),
            intro="The key is shown once, on the next page. Only a digest of it is stored.",
            back=list_url("accounts_apikey"),
        )

        def issue(values: dict[str, Any]) -> HttpResponseBase:
            terms = ApiKeyTerms(
                project=values["project"],
                name=values["name"],
                scopes=values["scopes"],
                allowed_models=values["models"],
                allowed_networks=values["networks"],
                expires_at=values["expires"],
            )
            issued = api_key_issue(terms=terms, actor=actor_of(request), now=timezone.now())
            return self._shown_once(request, issued)

        return page, issue

    def _shown_once(self, request: HttpRequest, issued: IssuedApiKey) -> HttpResponseBase:
        context = {
            "title": "Your new API key",
            "issued": issued,
            "base_url": settings.PUBLIC_URL,
            "model": (issued.api_key.allowed_models or [EXAMPLE_MODEL])[0],
            "row_url": change_url(issued.api_key),
        }
        return shown_once(self, request, "console/key_issued.html", context)

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change_row(request, object_id, lambda key: key.revoked_at is None)

    def has_rotate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change_row(
            request, object_id, lambda key: key_state(key, now=timezone.now()) == ACTIVE
        )

    @button("Rotate", icon="autorenew", variant=ActionVariant.DEFAULT)
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        api_key = self.row(request, object_id)
        page = FormPage(
            title=f"Replace {api_key}?",
            submit="Issue its successor",
            form=RotationForm(data_of(request)),
            intro="The new key has the same terms and the same limits, and is shown once, on the"
            " next page. Both work until the grace period is over.",
            back=change_url(api_key),
            about=api_key,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            issued = api_key_rotate(
                prefix=api_key.prefix,
                grace=values["grace"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            return self._shown_once(request, issued)

        return form_view(self, request, page, act)

    @button("Revoke", icon="block", variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        api_key = self.row(request, object_id)
        question = Question(
            title=f"Revoke {api_key}?",
            submit="Revoke for ever",
            intro="Calls with it are refused with status 401 within a second."
            " It cannot be brought back; issue a new key instead.",
            danger=True,
        )

        def act() -> str:
            api_key_revoke(prefix=api_key.prefix, actor=actor_of(request), now=timezone.now())
            return f"{api_key} is revoked."

        return confirm_view(self, request, api_key, question, act)


def key_state(key: ApiKey, *, now: dt.datetime) -> str:
    if key.revoked_at is not None:
        return REVOKED
    return EXPIRED if key.expires_at is not None and key.expires_at <= now else ACTIVE
