"""Who uses Tollgate: people, organizations, projects and API keys. Nothing here knows money."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from typing_extensions import override

DIGEST_BYTES = 32


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person, known by an e-mail address."""

    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField("may use the admin console", default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    USERNAME_FIELD = "email"
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email_is_unique_in_any_case"),
        ]

    @override
    def __str__(self) -> str:
        return self.email


class Organization(models.Model):
    """A tenant: it owns projects, keys and one wallet."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=9, choices=Status, default=Status.ACTIVE)
    time_zone = models.CharField(max_length=63, default="UTC")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="organization_status_is_known", condition=Q(status__in=["active", "suspended"])
            ),
            models.CheckConstraint(
                name="organization_slug_is_a_slug", condition=Q(slug__regex=r"^[a-z0-9][a-z0-9-]*$")
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.slug


class Project(models.Model):
    """A part of an organization that keys belong to and usage is booked to."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="projects")
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="project_slug_is_unique_in_organization", fields=["organization", "slug"]
            ),
            models.CheckConstraint(
                name="project_slug_is_a_slug", condition=Q(slug__regex=r"^[a-z0-9][a-z0-9-]*$")
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.organization.slug}/{self.slug}"


class Membership(models.Model):
    """What a person may do in an organization."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        DEVELOPER = "developer"
        BILLING = "billing"
        VIEWER = "viewer"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=9, choices=Role)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="membership_is_unique", fields=["organization", "user"]),
            models.CheckConstraint(
                name="membership_role_is_known",
                condition=Q(role__in=["owner", "admin", "developer", "billing", "viewer"]),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.organization}"


class ApiKey(models.Model):
    """A credential that Tollgate issued. The key itself is shown once and never stored."""

    class Scope(models.TextChoices):
        RELAY = "relay"
        USAGE = "usage"
        ADMIN = "admin"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="api_keys")
    project = models.ForeignKey(Project, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=200, blank=True)
    prefix = models.CharField(max_length=40, unique=True)
    last4 = models.CharField(max_length=4)
    digest = models.BinaryField(max_length=DIGEST_BYTES, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=5, choices=Scope))
    # NULL means every model; an empty list would mean none and is refused.
    allowed_models = ArrayField(models.CharField(max_length=200), null=True, blank=True)
    allowed_networks = ArrayField(models.CharField(max_length=43), null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # The first of the keys that replaced each other by rotation; limits count for all of them.
    family = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, editable=False, related_name="successors"
    )
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        constraints = [
            models.CheckConstraint(
                name="api_key_scopes_are_known",
                condition=Q(scopes__contained_by=["relay", "usage", "admin"])
                & Q(scopes__len__gt=0),
            ),
            models.CheckConstraint(
                name="api_key_allowed_models_not_empty",
                condition=Q(allowed_models__isnull=True) | Q(allowed_models__len__gt=0),
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.prefix}...{self.last4}"


class AuditEvent(models.Model):
    """Who changed what, written in the same transaction as the change."""

    at = models.DateTimeField(default=timezone.now, editable=False)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, blank=True)
    # A command, a job or the system where no person acted; kept when a person is deleted.
    actor_label = models.CharField(max_length=254)
    action = models.CharField(max_length=60)
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, blank=True)
    subject = models.CharField(max_length=200)
    details = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(name="audit_event_newest_first", fields=["-at"])]

    @override
    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor_label} {self.action} {self.subject}"


class ConfigurationVersion(models.Model):
    """How often a topic of configuration changed; raised by triggers, watched by the workers."""

    topic = models.CharField(max_length=20, primary_key=True)
    version = models.BigIntegerField(default=0)

    @override
    def __str__(self) -> str:
        return f"{self.topic} {self.version}"
