"""The pages that change a channel, manage its credentials and try it."""

from typing import Any

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.errors import Refused
from console.admin.base import ServiceAdmin, actor_of, button, change_url
from console.admin.form_pages import FormPage, WordsField, data_of, done, form_view
from relay.channels.credentials import credential_disable, credential_enable, credential_remove
from relay.channels.services import ChannelTerms, channel_set
from relay.channels.terms import pairs_parse
from relay.channels.trial import channel_test
from relay.models import Channel

ACTIONS = {
    "put": "Add it, or rotate the one with its label",
    "disable": "Use it no more",
    "enable": "Use it again, and end its alarm",
    "remove": "Forget it",
}


class RoutingForm(forms.Form):
    priority = forms.IntegerField(
        widget=UnfoldAdminIntegerFieldWidget, help_text="Higher is tried first."
    )
    weight = forms.IntegerField(
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Its share of the calls among channels of the same priority.",
    )
    concurrency = forms.IntegerField(
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Calls at once in each serving process; 0: no limit.",
    )
    model_map = WordsField(
        required=False,
        label="Model map",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "placeholder": "gpt-4=gpt-4o"}),
        help_text="PUBLIC=UPSTREAM each; with Azure, upstream's name is the deployment.",
    )


class CredentialForm(forms.Form):
    label = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget)
    action = forms.ChoiceField(choices=list(ACTIONS.items()), widget=UnfoldAdminSelectWidget)
    credential = forms.CharField(
        required=False,
        max_length=4096,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Upstream's API key, to add or rotate it. It is never shown again.",
    )


class TrialForm(forms.Form):
    model = forms.CharField(
        required=False, max_length=200, widget=UnfoldAdminTextInputWidget, help_text="Optional."
    )
    stream = forms.BooleanField(required=False, label="Streamed", widget=UnfoldBooleanSwitchWidget)


class ChannelChanges(ServiceAdmin):
    """What `ChannelAdmin` offers beside its list."""

    def has_routing_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.may_change(request) and self.find(request, object_id) is not None

    has_credentials_permission = has_routing_permission
    has_trial_permission = has_routing_permission

    @button("Routing", icon="alt_route", variant=ActionVariant.DEFAULT)
    def routing(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        channel: Channel = self.row(request, object_id)
        renamed = [
            f"{one.model}={one.upstream_model}"
            for one in channel.models.order_by("model")
            if one.model != one.upstream_model
        ]
        initial = {
            "priority": channel.priority,
            "weight": channel.weight,
            "concurrency": channel.concurrency,
            "model_map": "\n".join(renamed),
        }
        page = FormPage(
            title=f"How calls get to {channel.name}",
            submit="Save",
            form=RoutingForm(data_of(request), initial=initial),
            intro="In force within a second.",
            back=change_url(channel),
            about=channel,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            mapped = pairs_parse(values["model_map"] or (), form="PUBLIC=UPSTREAM")
            terms = ChannelTerms(
                priority=values["priority"],
                weight=values["weight"],
                concurrency=values["concurrency"],
                model_map=mapped if mapped or renamed else None,
            )
            channel_set(name=channel.name, terms=terms, actor=actor_of(request))
            return done(request, f"{channel.name} was changed.", page.back)

        return form_view(self, request, page, act)

    @button("Credentials", icon="key", variant=ActionVariant.DEFAULT)
    def credentials(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        channel: Channel = self.row(request, object_id)
        labels = channel.credentials.order_by("pk").values_list("label", flat=True)
        page = FormPage(
            title=f"Credentials of {channel.name}",
            submit="Do it",
            form=CredentialForm(data_of(request)),
            intro=f"It has: {', '.join(labels)}.",
            back=change_url(channel),
            about=channel,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            label, actor = values["label"], actor_of(request)
            if values["action"] == "put":
                secrets = {label: values["credential"]}
                channel_set(
                    name=channel.name, terms=ChannelTerms(), credentials=secrets, actor=actor
                )
            elif values["action"] == "disable":
                credential_disable(channel=channel.name, label=label, actor=actor)
            elif values["action"] == "enable":
                credential_enable(channel=channel.name, label=label, actor=actor)
            else:
                credential_remove(channel=channel.name, label=label, actor=actor)
            return done(request, f"The credentials of {channel.name} were changed.", page.back)

        return form_view(self, request, page, act)

    @button("Test", icon="network_check", variant=ActionVariant.DEFAULT)
    def trial(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        channel: Channel = self.row(request, object_id)
        page = FormPage(
            title=f"Try {channel.name}",
            submit="Call it",
            form=TrialForm(data_of(request)),
            intro="A small real call with each credential; upstream may charge you for it.",
            back=change_url(channel),
            about=channel,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            trials = channel_test(name=channel.name, model=values["model"], stream=values["stream"])
            failed = [f"{one['credential']}: {one['error']}" for one in trials if not one["ok"]]
            if failed:
                raise TrialFailed("; ".join(failed))
            told = ", ".join(f"{one['credential']} {one['total_ms']} ms" for one in trials)
            return done(request, f"{channel.name} answers: {told}.", page.back)

        return form_view(self, request, page, act)


class TrialFailed(Refused):
    """Upstream did not answer as it should."""
