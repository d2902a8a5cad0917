"""The money engine at work: workers, their leases, and records that were refused."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.enums import ActionVariant

from billing.models import AuditRun, Lease, SetAsideRecord, Worker
from billing.set_aside import set_aside_resolve
from console.admin.base import (
    ReadOnlyAdmin,
    UnboundedAdmin,
    actor_of,
    button,
    change_url,
    code,
    column,
    link,
)
from console.admin.form_pages import Confirmation, FormPage, data_of, done, form_view
from console.engine_totals import seconds, total_cards, totals_or_none
from console.presentation import count, moment, usd

SHOWN_BYTES = 4096
WORKER_LABELS = {"Live": "success", "Overdue": "warning", "Expired": "danger", "Lost": "danger"}


@admin.register(Worker)
class WorkerAdmin(UnboundedAdmin):
    list_display = (
        "name_and_id",
        "state_label",
        "open_leases",
        "held",
        "behind",
        "settled",
        "refused",
        "estimated",
        "beyond",
        "expires",
    )
    list_before_template = "console/engine_totals.html"
    list_filter = (("state", ChoicesDropdownFilter),)
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("id", "state_label"), ("node", "pid"))}),
        ("Time", {"fields": (("started", "expires"),)}),
        ("Journal", {"fields": (("shipped", "behind"), "was_lost")}),
        (
            "As it said with its last renewal, counted since its start",
            {"fields": (("held", "settled"), ("refused", "estimated", "beyond"))},
        ),
    )
    readonly_fields = (
        "state_label",
        "started",
        "expires",
        "shipped",
        "held",
        "behind",
        "settled",
        "refused",
        "estimated",
        "beyond",
    )

    @override
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        now = totals_or_none()
        totals = total_cards(now) if now is not None else []
        return super().changelist_view(request, {**(extra_context or {}), "totals": totals})

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        rows: QuerySet[Worker] = super().get_queryset(request)
        is_open = Q(leases__state=Lease.State.OPEN)
        return rows.annotate(open_lease_count=Count("leases", filter=is_open))

    @column("Worker", header=True)
    def name_and_id(self, row: Worker) -> list[str]:
        return [f"{row.node}, pid {row.pid}", str(row.pk)]

    @column("State", label=WORKER_LABELS)
    def state_label(self, row: Worker) -> str:
        if row.state == Worker.State.LIVE and row.expires_at < timezone.now():
            return "Overdue"
        return str(Worker.State(row.state).label)

    @column("Open leases")
    def open_leases(self, row: Any) -> int:
        return int(row.open_lease_count)

    @column("Alive until, at least (UTC)")
    def expires(self, row: Worker) -> str:
        return moment(row.expires_at)

    @column("Started (UTC)")
    def started(self, row: Worker) -> str:
        return moment(row.started_at)

    @column("Journal shipped")
    def shipped(self, row: Worker) -> str:
        return f"{count(row.shipped_offset)} bytes"

    @column("Held")
    def held(self, row: Worker) -> SafeString:
        return usd(row.report.get("held_nano_usd", 0))

    @column("Shipping behind")
    def behind(self, row: Worker) -> str:
        return seconds(row.report.get("ship_lag_ms", 0))

    @column("Settled")
    def settled(self, row: Worker) -> str:
        return count(row.report.get("calls_settled", 0))

    @column("Refused")
    def refused(self, row: Worker) -> str:
        return count(row.report.get("refused", 0))

    @column("Estimated")
    def estimated(self, row: Worker) -> str:
        return count(row.report.get("estimated", 0))

    @column("Beyond hold")
    def beyond(self, row: Worker) -> str:
        return count(row.report.get("bound_exceeded", 0))


@admin.register(Lease)
class LeaseAdmin(UnboundedAdmin):
    list_display = ("organization_link", "state_label", "granted", "spent", "worker_link", "opened")
    list_filter = (("state", ChoicesDropdownFilter), ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization", "worker")
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": ("id", ("organization_link", "worker_link"), "state_label")}),
        ("Money", {"fields": (("granted", "spent"), "version")}),
        ("Time", {"fields": (("opened", "closed"), "usable")}),
    )
    readonly_fields = (
        "organization_link",
        "worker_link",
        "state_label",
        "granted",
        "spent",
        "opened",
        "closed",
        "usable",
    )

    @column("Organization")
    def organization_link(self, row: Lease) -> SafeString:
        return link(row.organization)

    @column("Worker")
    def worker_link(self, row: Lease) -> SafeString:
        return link(row.worker, f"{row.worker.node}, pid {row.worker.pid}")

    @column("State", label={"Open": "info"})
    def state_label(self, row: Lease) -> str:
        return str(Lease.State(row.state).label)

    @column("Set aside")
    def granted(self, row: Lease) -> SafeString:
        return usd(row.granted_nano_usd)

    @column("Spent of it")
    def spent(self, row: Lease) -> SafeString:
        return usd(row.spent_nano_usd)

    @column("Opened (UTC)")
    def opened(self, row: Lease) -> str:
        return moment(row.opened_at)

    @column("Closed (UTC)")
    def closed(self, row: Lease) -> str:
        return moment(row.closed_at)

    @column("Takes new calls until (UTC)")
    def usable(self, row: Lease) -> str:
        return moment(row.usable_until)


@admin.register(SetAsideRecord)
class SetAsideRecordAdmin(ReadOnlyAdmin):
    list_display = ("record", "state", "reason", "created")
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("worker_id", "journal_offset"), ("state", "created"), "reason")}),
        ("Record", {"fields": ("content",)}),
    )
    readonly_fields = ("created", "state", "content")
    actions_detail = ("resolve",)

    @column("Record")
    def record(self, row: SetAsideRecord) -> str:
        return str(row)

    @column("State", label={"Open": "danger", "Resolved": "success"})
    def state(self, row: SetAsideRecord) -> str:
        return "Resolved" if row.resolved_at else "Open"

    @column("As the journal has it")
    def content(self, row: SetAsideRecord) -> SafeString:
        return code(bytes(row.payload)[:SHOWN_BYTES].decode("utf-8", "backslashreplace"))

    def has_resolve_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        record = self.find(request, object_id)
        return self.may_change(request) and record is not None and record.resolved_at is None

    @button("Resolve", icon="check", variant=ActionVariant.DEFAULT)
    def resolve(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        record = self.row(request, object_id)
        page = FormPage(
            title="Is this record dealt with?",
            submit="Mark as resolved",
            form=Confirmation(data_of(request)),
            intro="The alarm on the first page ends. The record stays as it is, and its call is"
            " never charged. Where the cause was repaired, manage.py journal retry charges it.",
            back=change_url(record),
            about=record,
        )

        def act(_: dict[str, Any]) -> HttpResponseBase:
            set_aside_resolve(record_id=record.pk, actor=actor_of(request), now=timezone.now())
            return done(request, "The record is resolved.", page.back)

        return form_view(self, request, page, act)


@admin.register(AuditRun)
class AuditRunAdmin(ReadOnlyAdmin):
    list_display = ("started", "state", "duration")
    ordering = ("-started_at",)
    fieldsets = ((None, {"fields": (("started", "state", "duration"), "content")}),)
    readonly_fields = ("started", "state", "duration", "content")

    @column("Started (UTC)")
    def started(self, row: AuditRun) -> str:
        return moment(row.started_at)

    @column("State", label={"Clean": "success", "Breach": "danger"})
    def state(self, row: AuditRun) -> str:
        return "Breach" if row.findings else "Clean"

    @column("Took")
    def duration(self, row: AuditRun) -> str:
        return f"{count(row.duration_ms)} ms"

    @column("Findings")
    def content(self, row: AuditRun) -> SafeString:
        lines = [f"{f['invariant']}\n  {f['subject']}: {f['detail']}" for f in row.findings]
        return code("\n".join(lines) or "All invariants held.")
