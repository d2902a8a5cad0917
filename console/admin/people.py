"""People, what they may do here, and where they belong."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.audit_trail import audit_event_record
from accounts.models import Membership, User
from console.admin.base import ConsoleAdmin, actor_of, column
from console.presentation import moment

admin.site.unregister(Group)


class AuditedAdmin(ConsoleAdmin):
    """Rows without rules of their own: Django's forms change them, and each change is recorded."""

    @override
    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        self._record(request, obj, "change" if change else "create", form.changed_data)

    @override
    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        self._record(request, obj, "delete", [])
        super().delete_model(request, obj)

    @override
    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}  # Deleting many at once would pass by `delete_model`.

    def _record(self, request: HttpRequest, row: Model, verb: str, fields: list[str]) -> None:
        audit_event_record(
            actor=actor_of(request),
            action=f"{row._meta.model_name}.{verb}",  # noqa: SLF001  Django's public name for it.
            subject=str(row),
            organization=getattr(row, "organization", None),
            details={"fields": sorted(fields)},
        )


class NewUserForm(UserCreationForm):  # type: ignore[misc]  # unfold has no types.
    class Meta:
        model = User
        fields = ("email", "name")


class UserForm(UserChangeForm):  # type: ignore[misc]  # unfold has no types.
    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class UserAdmin(AuditedAdmin, DjangoUserAdmin):  # type: ignore[type-arg]  # Generic only for the type checker.
    """Only a superuser changes people: whoever may edit permissions has them all."""

    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email_and_name", "standing", "is_active", "seen", "created")
    list_filter = ()
    search_fields = ("email", "name")
    search_help_text = "E-mail or name"
    ordering = ("email",)
    filter_horizontal = ("groups", "user_permissions")
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        ("Console", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Single permissions", {"fields": ("user_permissions",), "classes": ("collapse",)}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "password1", "password2")}),)

    @column("Person", header=True)
    def email_and_name(self, row: User) -> list[str]:
        return [row.email, row.name]

    @column("Console", label={"Superuser": "warning", "Staff": "info"})
    def standing(self, row: User) -> str:
        if row.is_superuser:
            return "Superuser"
        return "Staff" if row.is_staff else "No access"

    @column("Last login (UTC)")
    def seen(self, row: User) -> str:
        return moment(row.last_login)

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # The audit trail names them; deactivate instead.


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    list_display = ("user", "organization", "role", "created")
    list_filter = (("role", ChoicesDropdownFilter), ("organization", AutocompleteSelectFilter))
    list_select_related = ("user", "organization")
    autocomplete_fields = ("user", "organization")
    search_fields = ("user__email", "organization__slug")
    search_help_text = "E-mail or organization"
    ordering = ("-id",)


@admin.register(Group)
class GroupAdmin(AuditedAdmin, DjangoGroupAdmin):
    pass
