"""Whom a limit is for, as forms ask it."""

from typing import Any

from django import forms
from typing_extensions import override

from billing.limits import LimitScope
from billing.models import RateLimit
from console.admin.form_pages import RowField


class ScopeForm(forms.Form):
    """Whom a limit is for: exactly one of them."""

    organization = RowField(RateLimit, "organization", required=False)
    project = RowField(RateLimit, "project", required=False, label="Or project")
    api_key = RowField(
        RateLimit,
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


def scope_of(values: dict[str, Any]) -> LimitScope:
    api_key, project = values.get("api_key"), values.get("project")
    if api_key:
        return LimitScope(organization=api_key.organization, api_key=api_key.family or api_key)
    if project:
        return LimitScope(organization=project.organization, project=project)
    return LimitScope(organization=values["organization"])
