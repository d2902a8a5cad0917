"""The page that says how an upstream is reached, what it costs and how its money is watched."""

from typing import Any

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.money import format_ppm, format_usd
from console.admin.base import ServiceAdmin, actor_of, button, change_url
from console.admin.form_pages import FormPage, FractionField, UsdField, data_of, done, form_view
from relay.channels.balances import KINDS
from relay.channels.services import ChannelTerms, channel_set
from relay.channels.terms import pairs_parse
from relay.models import Channel

NONE = "none"
SECONDS = ("connect_seconds", "first_byte_seconds", "idle_seconds")


def _seconds() -> forms.FloatField:
    return forms.FloatField(
        min_value=0,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="0: as the installation has it.",
    )


class TermsForm(forms.Form):
    base_url = forms.CharField(label="Base URL", max_length=300, widget=UnfoldAdminTextInputWidget)
    kind = forms.ChoiceField(choices=Channel.Kind.choices, widget=UnfoldAdminSelectWidget)
    api_version = forms.CharField(
        required=False,
        label="API version",
        widget=UnfoldAdminTextInputWidget,
        help_text="Azure's; empty for its v1 API.",
    )
    cost = FractionField(help_text="What it costs you of the official price, for the margins.")
    proxy = forms.CharField(
        required=False,
        max_length=300,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="http://, https://, socks5:// or socks5h://; empty: as it is; none: no proxy.",
    )
    http2 = forms.BooleanField(
        required=False, label="HTTP/2", widget=UnfoldBooleanSwitchWidget, help_text="Where it can."
    )
    headers = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "x-team=relay"}),
        help_text="NAME=VALUE, one a line, instead of those that it has; empty: as they are;"
        " none: no extra headers.",
    )
    connect_seconds = _seconds()
    first_byte_seconds = _seconds()
    idle_seconds = _seconds()
    balance = forms.ChoiceField(
        required=False,
        choices=[("", "It is not asked"), *((name, kind.title) for name, kind in KINDS.items())],
        widget=UnfoldAdminSelectWidget,
        help_text="How upstream tells what money is left there.",
    )
    balance_low = UsdField(
        required=False,
        label="Alarm below",
        help_text="In upstream's currency; 0: never.",
    )


class ChannelTermsPage(ServiceAdmin):
    """What `ChannelAdmin` offers beside its list."""

    def has_terms_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change(request) and self.find(request, object_id) is not None

    @button("Way and cost", icon="tune", variant=ActionVariant.DEFAULT)
    def terms(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        channel: Channel = self.row(request, object_id)
        page = FormPage(
            title=f"How {channel.name} is reached, and what it costs",
            submit="Save",
            form=TermsForm(data_of(request), initial=_initial(channel)),
            intro=_intro(channel),
            back=change_url(channel),
            about=channel,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            channel_set(name=channel.name, terms=_terms(values), actor=actor_of(request))
            return done(request, f"{channel.name} was changed.", page.back)

        return form_view(self, request, page, act)


def _intro(channel: Channel) -> str:
    proxy = channel.proxy or "no proxy"
    names = ", ".join(channel.header_names) or "no extra headers"
    return f"It has {proxy} and {names}. What may be secret is never shown again."


def _initial(channel: Channel) -> dict[str, Any]:
    return {
        "base_url": channel.base_url,
        "kind": channel.kind,
        "api_version": channel.api_version,
        "cost": format_ppm(channel.cost_ppm),
        "http2": channel.http2,
        "balance": channel.balance,
        "balance_low": format_usd(channel.balance_low_nano or 0),
        **{name: getattr(channel, name) or 0 for name in SECONDS},
    }


def _terms(values: dict[str, Any]) -> ChannelTerms:
    """What the form says; what it leaves empty of the secrets stays as it is."""
    proxy, headers = values["proxy"], values["headers"]
    lines = [] if headers == NONE else headers.split("\n")
    return ChannelTerms(
        base_url=values["base_url"],
        kind=values["kind"],
        api_version=values["api_version"],
        cost_ppm=values["cost"],
        proxy=("" if proxy == NONE else proxy) if proxy else None,
        http2=values["http2"],
        headers=pairs_parse((line.strip() for line in lines), form="NAME=VALUE")
        if headers
        else None,
        balance=values["balance"],
        balance_low_nano=values["balance_low"] or 0,
        **{name: values[name] for name in SECONDS},
    )
