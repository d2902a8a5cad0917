"""What may be done to an organization. Its money lives in billing, which opens one whole."""

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import Organization
from accounts.naming import insert_under_free_slug, name_check
from accounts.slugs import organization_slug_check, slug_candidates
from accounts.transactions import durable, transaction_required


class UnknownOrganization(Refused):
    """No organization has that slug."""


def organization_get(slug: str) -> Organization:
    """The organization of that slug, or UnknownOrganization."""
    organization = Organization.objects.filter(slug=slug).first()
    if organization is None:
        raise UnknownOrganization(f"There is no organization {slug!r}.")
    return organization


@transaction_required
def organization_create(*, name: str, slug: str | None = None, actor: Actor) -> Organization:
    """Create an organization without money: a part of billing's `organization_open`.

    Without a slug one is made from the name. Raises InvalidName, InvalidSlug, SlugTaken.
    """
    name = name_check(name)
    organization = insert_under_free_slug(
        [organization_slug_check(slug)] if slug else slug_candidates(name, fallback="org"),
        insert=lambda free: Organization.objects.create(name=name, slug=free),
        is_taken=lambda tried: Organization.objects.filter(slug=tried).exists(),
    )
    audit_event_record(
        actor=actor,
        action="organization.create",
        subject=organization.slug,
        organization=organization,
        details={"name": name},
    )
    return organization


@durable
def organization_suspend(*, slug: str, actor: Actor) -> bool:
    """Stop an organization's keys; False if it was suspended already."""
    return _status_set(slug, Organization.Status.SUSPENDED, action="suspend", actor=actor)


@durable
def organization_resume(*, slug: str, actor: Actor) -> bool:
    """Let a suspended organization's keys work again; False if they did."""
    return _status_set(slug, Organization.Status.ACTIVE, action="resume", actor=actor)


def _status_set(slug: str, status: Organization.Status, *, action: str, actor: Actor) -> bool:
    organization = organization_get(slug)
    # Of two that do the same at once only one changes a row, and only that one is recorded.
    others = Organization.objects.filter(pk=organization.pk).exclude(status=status)
    if not others.update(status=status):
        return False
    audit_event_record(
        actor=actor,
        action=f"organization.{action}",
        subject=slug,
        organization=organization,
    )
    return True
