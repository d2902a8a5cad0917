"""Plans: named sets of discounts, and who is on them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from billing.models import Plan, PlanSubscription
from billing.prices.plans import plan_create, plan_subscribe
from console.admin.base import (
    ReadOnlyAdmin,
    actor_of,
    button,
    change_url,
    column,
    link,
    list_url,
)
from console.admin.form_pages import (
    Act,
    AddPageAdmin,
    Confirmation,
    FormPage,
    RowField,
    data_of,
    done,
    form_view,
)
from console.presentation import fraction, moment


class PlanForm(forms.Form):
    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget)
    slug = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its name in commands; made from the name if you leave it empty.",
    )


class SubscriptionForm(forms.Form):
    organization = RowField(PlanSubscription, "organization")


@admin.register(Plan)
class PlanAdmin(AddPageAdmin):
    list_display = ("name_and_slug", "discount_list", "subscriber_count", "created")
    search_fields = ("slug", "name")
    search_help_text = "Name or slug"
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": (("name", "slug"), ("subscriber_count", "created"))}),
        ("To pay of the official price", {"fields": ("discount_list",)}),
    )
    readonly_fields = ("subscriber_count", "discount_list", "created")
    actions_detail = ("subscribe",)
    actions_row = ("subscribe",)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        rows: QuerySet[Plan] = super().get_queryset(request)
        return rows.prefetch_related("discounts").annotate(subscribers=Count("subscriptions"))

    @column("Plan", header=True)
    def name_and_slug(self, row: Plan) -> list[str]:
        return [row.name, row.slug]

    @column("Discounts")
    def discount_list(self, row: Plan) -> str:
        current = (discount for discount in row.discounts.all() if discount.effective_to is None)
        told = [f"{fraction(d.fraction_ppm)} of {d.model or 'every model'}" for d in current]
        return ", ".join(told) or "None: everybody's"

    @column("Organizations")
    def subscriber_count(self, row: Any) -> str:
        return f"{row.subscribers:,}"

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Create a plan",
            submit="Create plan",
            form=PlanForm(data_of(request)),
            intro="Then set its discounts, and put organizations on it.",
            back=list_url("billing_plan"),
        )

        def create(values: dict[str, Any]) -> HttpResponseBase:
            plan = plan_create(
                name=values["name"],
                slug=values["slug"] or None,
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, f"The plan {plan} is there.", change_url(plan))

        return page, create

    def has_subscribe_permission(
        self,
        request: HttpRequest,
        object_id: str | None = None,  # noqa: ARG002  unfold passes it.
    ) -> bool:
        return self.may_change(request)

    @button("Put an organization on it", icon="person_add", variant=ActionVariant.PRIMARY)
    def subscribe(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        plan = self.row(request, object_id)
        page = FormPage(
            title=f"Put an organization on {plan}",
            submit="From now on",
            form=SubscriptionForm(data_of(request)),
            intro="It leaves the plan that it is on. Past calls stay as they were charged.",
            back=change_url(plan),
            about=plan,
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            organization = values["organization"]
            plan_subscribe(
                organization=organization, plan=plan, actor=actor_of(request), now=timezone.now()
            )
            return done(request, f"{organization.name} is on {plan}.", page.back)

        return form_view(self, request, page, act)


@admin.register(PlanSubscription)
class PlanSubscriptionAdmin(ReadOnlyAdmin):
    list_display = ("owner", "plan_link", "begun")
    list_select_related = ("organization", "plan")
    search_fields = ("organization__slug", "plan__slug")
    search_help_text = "Organization or plan"
    ordering = ("-since",)
    fieldsets = ((None, {"fields": (("organization_link", "plan_link"), "begun")}),)
    readonly_fields = ("organization_link", "plan_link", "begun")
    actions_detail = ("leave",)
    actions_row = ("leave",)

    @column("Organization", header=True)
    def owner(self, row: PlanSubscription) -> list[str]:
        return [row.organization.name, row.organization.slug]

    @column("Organization")
    def organization_link(self, row: PlanSubscription) -> SafeString:
        return link(row.organization, row.organization.name)

    @column("Plan")
    def plan_link(self, row: PlanSubscription) -> SafeString:
        return link(row.plan)

    @column("Since (UTC)")
    def begun(self, row: PlanSubscription) -> str:
        return moment(row.since)

    def has_leave_permission(
        self,
        request: HttpRequest,
        object_id: str | None = None,  # noqa: ARG002  unfold passes it.
    ) -> bool:
        return self.may_change(request)

    @button("Take it off the plan", icon="person_remove", variant=ActionVariant.DANGER)
    def leave(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        row = self.row(request, object_id)
        page = FormPage(
            title=f"Take {row.organization.name} off {row.plan}?",
            submit="Take it off",
            form=Confirmation(data_of(request)),
            intro="From now on it pays what everybody pays, unless it has discounts of its own.",
            back=change_url(row),
            about=row,
            danger=True,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            plan_subscribe(
                organization=row.organization,
                plan=None,
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(
                request,
                f"{row.organization.name} is on no plan.",
                list_url("billing_plansubscription"),
            )

        return form_view(self, request, page, act)
