"""Channels: the operator's upstream accounts. A credential goes in and never comes out."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.money import format_usd
from console.admin.base import actor_of, button, change_url, column, list_url, require
from console.admin.channel_changes import ChannelChanges
from console.admin.channel_terms import ChannelTermsPage
from console.admin.form_pages import Confirmation, FormPage, WordsField, data_of, done, form_view
from console.presentation import fraction
from relay.channels.services import NewChannel, channel_add, channel_disable, channel_enable
from relay.models import Channel, ChannelCredential, CredentialCheck

ENABLED, DISABLED = "Enabled", "Disabled"
SHOWN_MODELS = 5


class ChannelForm(forms.Form):
    name = forms.CharField(max_length=60, widget=UnfoldAdminTextInputWidget)
    base_url = forms.CharField(
        label="Base URL",
        max_length=300,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://api.openai.com/v1"}),
    )
    credential = forms.CharField(
        max_length=4096,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Upstream's API key. It is stored encrypted and never shown again.",
    )
    models = WordsField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "all priced models"}),
        help_text="Only these models, separated by spaces or commas.",
    )
    insecure = forms.BooleanField(
        required=False,
        label="Allow plain HTTP off this machine",
        widget=UnfoldBooleanSwitchWidget,
        help_text="The credential and all prompts then cross the network readable.",
    )


def _told(credential: ChannelCredential) -> str:
    if credential.enabled and credential.refused_at is None:
        return credential.label
    state = "REFUSED" if credential.refused_at else "disabled"
    return f"{credential.label} ({state}: {credential.disabled_reason or 'by hand'})"


def _found(check: CredentialCheck) -> tuple[str, str]:
    """What a check says, and how bad that is."""
    at = f"{check.checked_at:%H:%M} UTC"
    if check.error:
        return f"{check.error} ({at})", "bad"
    told = f"answers in {check.duration_ms} ms ({at})"
    if check.balance_nano is not None:
        told += f", {format_usd(check.balance_nano)} {check.balance_currency} left"
    if check.balance_error:
        told += f", {check.balance_error}"
    return told, "warning" if check.low_since or check.balance_error else "good"


class DisableForm(forms.Form):
    reason = forms.CharField(required=False, max_length=200, widget=UnfoldAdminTextInputWidget)


@admin.register(Channel)
class ChannelAdmin(ChannelChanges, ChannelTermsPage):
    list_display = (
        "name_and_url",
        "state",
        "model_names",
        "shares",
        "credential",
        "cost",
        "answers",
    )
    search_fields = ("name", "base_url")
    search_help_text = "Name or base URL"
    ordering = ("-enabled", "-priority", "name")
    fieldsets = (
        (None, {"fields": (("name", "provider"), ("base_url", "insecure"))}),
        ("Credential", {"fields": ("credential", "checks")}),
        ("Routing", {"fields": (("priority", "weight", "concurrency"), "model_names")}),
        ("Way", {"fields": (("kind", "api_version"), ("proxy", "http2"), "header_names")}),
        ("Cost", {"fields": (("cost", "balance", "balance_low"),)}),
        ("State", {"fields": (("state", "disabled_reason"), "created")}),
    )
    readonly_fields = (
        "created",
        "state",
        "model_names",
        "cost",
        "credential",
        "checks",
        "balance_low",
    )
    actions_detail = ("routing", "terms", "credentials", "trial", "enable", "disable")

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        rows: QuerySet[Channel] = super().get_queryset(request)
        return rows.prefetch_related("models", "credentials__check_made")

    @column("Channel", header=True)
    def name_and_url(self, row: Channel) -> list[str]:
        return [row.name, row.base_url]

    @column("State", label={ENABLED: "success", DISABLED: "danger"})
    def state(self, row: Channel) -> str:
        return ENABLED if row.enabled else DISABLED

    @column("Priority and weight")
    def shares(self, row: Channel) -> SafeString:
        url = reverse("admin:relay_channel_routing", args=[row.pk])
        return format_html(
            '<a class="tg-link" href="{}">priority {}, weight {}</a>', url, row.priority, row.weight
        )

    @column("Models")
    def model_names(self, row: Channel) -> str:
        if row.serves_all_models:
            return "All priced models"
        names = sorted(served.model for served in row.models.all())
        more = len(names) - SHOWN_MODELS
        return ", ".join(names[:SHOWN_MODELS]) + (f" and {more} more" if more > 0 else "")

    @column("Cost of official")
    def cost(self, row: Channel) -> str:
        return fraction(row.cost_ppm)

    @column("Upstream's API keys")
    def credential(self, row: Channel) -> str:
        """Their labels: they themselves are stored encrypted and cannot be shown."""
        return "; ".join(_told(one) for one in row.credentials.all()) or "None."

    @column("Last checks")
    def checks(self, row: Channel) -> SafeString | str:
        """What the regular check of each credential found, and the money that is left there."""
        made = [one for one in row.credentials.all() if hasattr(one, "check_made")]
        lines = ((one.label, *_found(one.check_made)) for one in made)
        if not made:
            return "None yet."
        return format_html_join(
            "", '<div><i class="tg-dot tg-inline tg-{2}"></i>{0}: {1}</div>', lines
        )

    @column("Answers")
    def answers(self, row: Channel) -> SafeString | str:
        """The same in short, for the list; who points at it reads it all."""
        made = [one for one in row.credentials.all() if hasattr(one, "check_made")]
        lines = ((one.label, *_found(one.check_made)) for one in made)
        short = '<div title="{1}"><i class="tg-dot tg-inline tg-{2}"></i>{0}</div>'
        return format_html_join("", short, lines) if made else "-"

    @column("Alarm below")
    def balance_low(self, row: Channel) -> str:
        return "-" if row.balance_low_nano is None else format_usd(row.balance_low_nano)

    @override
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        require(self.has_add_permission(request))
        page = FormPage(
            title="New channel",
            submit="Add channel",
            form=ChannelForm(data_of(request)),
            intro="Calls are sent to it as soon as it is added.",
            back=list_url("relay_channel"),
        )

        def add(values: dict[str, Any]) -> HttpResponseBase:
            new = NewChannel(
                name=values["name"],
                base_url=values["base_url"],
                credential=values["credential"],
                models=values["models"] or (),
                insecure=values["insecure"],
            )
            channel = channel_add(new=new, actor=actor_of(request))
            return done(request, f"{channel.name} was added.", change_url(channel))

        return form_view(self, request, page, add)

    def has_enable_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_change_from(request, object_id, enabled=False)

    def has_disable_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_change_from(request, object_id, enabled=True)

    def _may_change_from(
        self, request: HttpRequest, object_id: str | None, *, enabled: bool
    ) -> bool:
        channel = self.find(request, object_id)
        return self.may_change(request) and getattr(channel, "enabled", None) is enabled

    @button("Enable", icon="play_arrow", variant=ActionVariant.DEFAULT)
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        channel = self.row(request, object_id)
        page = FormPage(
            title=f"Enable {channel.name}?",
            submit="Enable",
            form=Confirmation(data_of(request)),
            intro="Calls are sent to it again within a second.",
            back=change_url(channel),
            about=channel,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            channel_enable(name=channel.name, actor=actor_of(request))
            return done(request, f"{channel.name} is enabled.", page.back)

        return form_view(self, request, page, act)

    @button("Disable", icon="block", variant=ActionVariant.DANGER)
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        channel = self.row(request, object_id)
        page = FormPage(
            title=f"Disable {channel.name}?",
            submit="Disable",
            form=DisableForm(data_of(request)),
            intro="No more calls are sent to it. Models that only this channel serves are then"
            " not found.",
            back=change_url(channel),
            about=channel,
            danger=True,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            channel_disable(name=channel.name, reason=values["reason"], actor=actor_of(request))
            return done(request, f"{channel.name} is disabled.", page.back)

        return form_view(self, request, page, act)
