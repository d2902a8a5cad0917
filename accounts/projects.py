"""Projects: the parts of an organization that keys belong to and usage is booked to."""

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import Organization, Project
from accounts.naming import insert_under_free_slug, name_check
from accounts.slugs import slug_candidates, slug_check
from accounts.transactions import durable, transaction_required

DEFAULT_NAME = "Default"


class UnknownProject(Refused):
    """The organization has no such project in use."""


def project_get(*, organization: Organization, slug: str | None = None) -> Project:
    """The project of that slug; without one, the organization's first. Archived ones are gone."""
    projects = organization.projects.filter(archived_at__isnull=True)
    project = projects.filter(slug=slug).first() if slug else projects.order_by("id").first()
    if project is None:
        wanted = f"project {slug!r}" if slug else "project"
        raise UnknownProject(f"{organization.slug!r} has no {wanted} in use.")
    return project


@durable
def project_create(
    *, organization: Organization, name: str, slug: str | None = None, actor: Actor
) -> Project:
    """Create a project; without a slug one is made from the name.

    Raises InvalidName, InvalidSlug, SlugTaken.
    """
    return project_add(organization=organization, name=name, slug=slug, actor=actor)


@transaction_required
def project_add(
    *, organization: Organization, name: str, slug: str | None = None, actor: Actor
) -> Project:
    """The same as a part of a larger transaction."""
    name = name_check(name)
    project = insert_under_free_slug(
        [slug_check(slug)] if slug else slug_candidates(name, fallback="project"),
        insert=lambda free: Project.objects.create(organization=organization, name=name, slug=free),
        is_taken=lambda tried: organization.projects.filter(slug=tried).exists(),
    )
    audit_event_record(
        actor=actor,
        action="project.create",
        subject=f"{organization.slug}/{project.slug}",
        organization=organization,
        details={"name": name},
    )
    return project
