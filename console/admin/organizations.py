"""Organizations and their projects."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.models import Organization, Project
from accounts.organizations import organization_resume, organization_suspend
from accounts.projects import project_create
from billing.credit.balance import unspent_of_leases
from billing.models import Wallet
from billing.organizations import organization_open
from console.admin.base import (
    ServiceAdmin,
    actor_of,
    button,
    change_url,
    chips,
    column,
    link,
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
from console.presentation import usd

STATUS_LABELS = {"Active": "success", "Suspended": "danger"}
HOLDS = {
    "": ("Strict until the first payment", None),
    "strict": ("Always strict: a call never costs more than was set aside for it", True),
    "standard": ("Standard: a call may run over what was set aside for it", False),
}


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget)
    slug = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its name in URLs and commands; made from the name if you leave it empty.",
    )
    quota = UsdField(label="Free quota in USD", help_text="Granted once, at the beginning.")
    holds = forms.ChoiceField(
        required=False,
        choices=[(value, label) for value, (label, _) in HOLDS.items()],
        widget=UnfoldAdminSelectWidget,
    )


class ProjectForm(forms.Form):
    organization = RowField(Project, "organization")
    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget)
    slug = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its name in URLs and commands; made from the name if you leave it empty.",
    )


@admin.register(Organization)
class OrganizationAdmin(ServiceAdmin):
    list_display = ("name_and_slug", "status_label", "balance", "project_count", "created")
    list_filter = (("status", ChoicesDropdownFilter),)
    search_fields = ("slug", "name")
    search_help_text = "Name or slug"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("name", "slug"), ("status_label", "created"))}),
        ("Money", {"fields": (("balance", "holds"),)}),
        ("More", {"fields": ("pages",)}),
    )
    readonly_fields = ("created", "status_label", "balance", "holds", "pages", "next_steps")
    actions_detail = ("suspend", "resume")

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        steps = ("accounts.add_apikey", "billing.add_grant")
        if request.user.has_perms(steps):
            return (*self.fieldsets, ("Next steps", {"fields": ("next_steps",)}))
        return self.fieldsets

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        rows: QuerySet[Organization] = super().get_queryset(request)
        return rows.select_related("wallet").annotate(
            balance_nano_usd=F("wallet__balance_nano_usd") + unspent_of_leases("pk"),
            project_count=_project_count(),
        )

    @column("Organization", header=True, ordering="name")
    def name_and_slug(self, row: Organization) -> list[str]:
        return [row.name, row.slug]

    @column("Status", label=STATUS_LABELS)
    def status_label(self, row: Organization) -> str:
        return str(Organization.Status(row.status).label)

    @column("Balance")
    def balance(self, row: Any) -> SafeString:
        return usd(row.balance_nano_usd)

    @column("Projects")
    def project_count(self, row: Any) -> int:
        return int(row.project_count)

    @column("Holds")
    def holds(self, row: Organization) -> str:
        return holds_of(row.wallet) if hasattr(row, "wallet") else "No wallet"

    @column("Its pages")
    def pages(self, row: Organization) -> SafeString:
        of_organization = f"?organization__id__exact={row.pk}"
        return chips(
            [
                ("API keys", list_url("accounts_apikey") + of_organization),
                ("Projects", list_url("accounts_project") + of_organization),
                ("Grants", list_url("billing_grant") + of_organization),
                ("Ledger", list_url("billing_ledgerentry") + of_organization),
                ("Usage", f"{list_url('billing_usagerecord')}?organization={row.pk}"),
            ]
        )

    @column("For this organization")
    def next_steps(self, row: Organization) -> SafeString:
        steps = [("Issue an API key", reverse("admin:accounts_apikey_add"))]
        if hasattr(row, "wallet"):
            grant = reverse("admin:billing_wallet_grant_credit", args=[row.pk])
            steps += [("Grant credit", grant), ("Wallet", change_url(row.wallet))]
        return chips(steps)

    @override
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        require(self.has_add_permission(request))
        page = FormPage(
            title="New organization",
            submit="Create organization",
            form=OrganizationForm(data_of(request), initial={"quota": settings.FREE_QUOTA_USD}),
            intro="It gets a wallet, the project “default” and its free quota.",
            back=list_url("accounts_organization"),
        )

        def create(values: dict[str, Any]) -> HttpResponseBase:
            opened = organization_open(
                name=values["name"],
                slug=values["slug"] or None,
                quota_nano_usd=values["quota"],
                strict=HOLDS[values["holds"]][1],
                actor=actor_of(request),
                now=timezone.now(),
            )
            organization = opened.organization
            return done(request, f"{organization.name} was created.", change_url(organization))

        return form_view(self, request, page, create)

    def has_suspend_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_leave(request, object_id, Organization.Status.ACTIVE)

    def has_resume_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_leave(request, object_id, Organization.Status.SUSPENDED)

    def _may_leave(self, request: HttpRequest, object_id: str | None, status: str) -> bool:
        organization = self.find(request, object_id)
        return self.may_change(request) and getattr(organization, "status", None) == status

    @button("Suspend", icon="block", variant=ActionVariant.DANGER)
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        organization = self.row(request, object_id)
        page = FormPage(
            title=f"Suspend {organization.name}?",
            submit="Suspend",
            form=Confirmation(data_of(request)),
            intro="Its keys are refused with status 403 within a second, until you resume it."
            " Calls that are running go on; nothing is lost.",
            back=change_url(organization),
            about=organization,
            danger=True,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            organization_suspend(slug=organization.slug, actor=actor_of(request))
            return done(request, f"{organization.name} is suspended.", page.back)

        return form_view(self, request, page, act)

    @button("Resume", icon="play_arrow", variant=ActionVariant.DEFAULT)
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        organization = self.row(request, object_id)
        page = FormPage(
            title=f"Resume {organization.name}?",
            submit="Resume",
            form=Confirmation(data_of(request)),
            intro="Its keys work again within a second.",
            back=change_url(organization),
            about=organization,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            organization_resume(slug=organization.slug, actor=actor_of(request))
            return done(request, f"{organization.name} is active again.", page.back)

        return form_view(self, request, page, act)


@admin.register(Project)
class ProjectAdmin(ServiceAdmin):
    list_display = ("name_and_slug", "organization_link", "state", "created")
    list_filter = (("organization", AutocompleteSelectFilter),)
    list_select_related = ("organization",)
    search_fields = ("slug", "name", "organization__slug")
    search_help_text = "Name or slug, of the project or its organization"
    ordering = ("-id",)
    fieldsets = ((None, {"fields": (("name", "slug"), ("organization", "state"), "created")}),)
    readonly_fields = ("state",)

    @column("Project", header=True)
    def name_and_slug(self, row: Project) -> list[str]:
        return [row.name, row.slug]

    @column("Organization")
    def organization_link(self, row: Project) -> SafeString:
        return link(row.organization)

    @column("State", label={"In use": "success"})
    def state(self, row: Project) -> str:
        return "Archived" if row.archived_at else "In use"

    @override
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        require(self.has_add_permission(request))
        page = FormPage(
            title="New project",
            submit="Create project",
            form=ProjectForm(data_of(request)),
            intro="Keys belong to a project, and usage is booked to it.",
            back=list_url("accounts_project"),
        )

        def create(values: dict[str, Any]) -> HttpResponseBase:
            project = project_create(
                organization=values["organization"],
                name=values["name"],
                slug=values["slug"] or None,
                actor=actor_of(request),
            )
            return done(request, f"{project.name} was created.", change_url(project))

        return form_view(self, request, page, create)


def holds_of(wallet: Wallet) -> str:
    if wallet.strict_always:
        return "Always strict"
    return "Strict until the first payment" if wallet.strict else "Standard"


def _project_count() -> Coalesce:
    counts = Project.objects.filter(organization=OuterRef("pk")).values("organization")
    return Coalesce(Subquery(counts.annotate(number=Count("*")).values("number")), 0)
