"""Who changed what."""

from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from accounts.models import AuditEvent
from console.admin.base import UnboundedAdmin, column, link
from console.presentation import moment


@admin.register(AuditEvent)
class AuditEventAdmin(UnboundedAdmin):
    list_display = ("time", "actor_label", "action", "subject", "organization_link")
    list_filter = (("organization", AutocompleteSelectFilter),)
    list_select_related = ("organization",)
    search_fields = ("action", "subject", "actor_label")
    search_help_text = "Action, subject or actor"
    ordering = ("-at",)
    fieldsets = (
        (None, {"fields": (("time", "action"), ("actor_label", "actor"))}),
        ("About", {"fields": (("subject", "organization_link"), "details")}),
    )
    readonly_fields = ("time", "organization_link")

    @column("Time (UTC)")
    def time(self, row: AuditEvent) -> str:
        return moment(row.at)

    @column("Organization")
    def organization_link(self, row: Any) -> SafeString | str:
        return link(row.organization) if row.organization else "-"
