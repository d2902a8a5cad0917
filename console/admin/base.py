"""What the console's pages have in common. See Note [Writes]."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from typing_extensions import override
from unfold import paginator
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from accounts.audit_trail import Actor
from accounts.models import User
from console.presentation import moment

MAX_PAGES = 1000

Method = TypeVar("Method", bound=Callable[..., Any])


def column(
    title: str,
    *,
    label: bool | dict[str, str] | None = None,
    header: bool | None = None,
    ordering: str | None = None,
) -> Callable[[Method], Method]:
    """Unfold's `display`, with a type: a column of a list, or a line of a page.

    `label` colours the values named in it; `header` takes two lines, the first one bold.
    """

    def mark(method: Method) -> Method:
        marked: Method = display(description=title, label=label, header=header, ordering=ordering)(
            method
        )
        return marked

    return mark


def button(title: str, *, icon: str, variant: ActionVariant) -> Callable[[Method], Method]:
    """Unfold's `action`, with a type: a page of its own behind a button.

    `has_<name>_permission` decides who sees it and who may open it.
    """

    def mark(method: Method) -> Method:
        name: str = method.__name__
        marked: Method = action(
            description=title, icon=icon, variant=variant, permissions=[name], url_path=name
        )(method)
        return marked

    return mark


class ConsoleAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types.
    list_fullwidth = True
    list_per_page = 50
    list_filter_submit = True
    compressed_fields = True

    @override
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        # Django's own title is an instruction: "Select API key to view".
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    @column("Created (UTC)")
    def created(self, row: Any) -> str:
        return moment(row.created_at)


class ServiceAdmin(ConsoleAdmin):
    """Rows that are shown as they are.

    Note [Writes]: a row changes only by the service that owns its rules, its transaction and its
    audit event. So Django's own forms are read-only here, and each write is a page of its own
    (console.admin.form_pages) that makes one service call, in the name of who pressed the button.
    """

    sortable_by: tuple[str, ...] = ()

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def may_change(self, request: HttpRequest) -> bool:
        """Whether this person may use the pages that change such a row."""
        return bool(super().has_change_permission(request))

    def may_change_row(
        self, request: HttpRequest, object_id: str | None, is_open: Callable[[Any], bool]
    ) -> bool:
        """Whether this person may, and the row is in a state for it.

        Of a list, which asks once for all its rows, only the first is known.
        """
        if not self.may_change(request):
            return False
        row = self.find(request, object_id)
        return object_id is None or (row is not None and is_open(row))

    def find(self, request: HttpRequest, object_id: str | None) -> Any:
        return None if object_id is None else self.get_object(request, unquote(str(object_id)))

    def row(self, request: HttpRequest, object_id: str) -> Any:
        """The row that a page of its own is about."""
        row = self.find(request, object_id)
        if row is None:
            raise Http404
        return row


class ReadOnlyAdmin(ServiceAdmin):
    """Rows that nobody makes by hand."""

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class InfinitePaginator(paginator.InfinitePaginator):  # type: ignore[misc]  # unfold has no types.
    """Previous and next, without ever counting a table that has no bounds.

    unfold's templates know it by its name. Its pages are bounded, for each skips all before it.
    """

    @property
    @override
    def count(self) -> int:
        return MAX_PAGES * int(self.per_page)


class UnboundedAdmin(ReadOnlyAdmin):
    """Tables that grow with the traffic."""

    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = False


def require(permitted: bool) -> None:  # noqa: FBT001  It reads as a sentence.
    if not permitted:
        raise PermissionDenied


def actor_of(request: HttpRequest) -> Actor:
    assert isinstance(request.user, User)
    return Actor.of(request.user)


def change_url(row: Any) -> str:
    meta = row._meta  # noqa: SLF001  Django's public name for it.
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])


def list_url(model: str) -> str:
    """`app_model`, as Django names admin pages."""
    return reverse(f"admin:{model}_changelist")


def link(row: Any, text: str | None = None) -> SafeString:
    return format_html(
        '<a class="tg-link" href="{}">{}</a>', change_url(row), str(row) if text is None else text
    )


def code(text: object) -> SafeString:
    """An identifier, in the face of code."""
    return format_html('<code class="tg-code">{}</code>', text)


def chips(links: Sequence[tuple[str, str]]) -> SafeString:
    """Texts and where they lead."""
    return format_html_join(" ", '<a class="tg-chip" href="{1}">{0}</a>', links)
