import pytest

from accounts.models import AuditEvent, Project
from accounts.naming import InvalidName, SlugTaken
from accounts.projects import UnknownProject, project_create, project_get
from accounts.slugs import InvalidSlug
from tests.factories import ACTOR, make_organization, make_project, now

pytestmark = pytest.mark.django_db


def test_creating_records_who_did_it() -> None:
    organization = make_organization("acme")
    project = project_create(organization=organization, name="Search engine", actor=ACTOR)
    assert (project.organization, project.slug) == (organization, "search-engine")
    event = AuditEvent.objects.get()
    assert (event.action, event.subject) == ("project.create", "acme/search-engine")
    assert event.organization == organization


def test_slugs_are_unique_within_the_organization_only() -> None:
    acme, other = make_organization("acme"), make_organization("other")
    for organization in (acme, other):
        project_create(organization=organization, name="Web", slug="web", actor=ACTOR)
    with pytest.raises(SlugTaken):
        project_create(organization=acme, name="Web", slug="web", actor=ACTOR)
    again = project_create(organization=acme, name="Web", actor=ACTOR)
    assert again.slug.startswith("web-")
    assert Project.objects.filter(organization=other).count() == 2


def test_a_bad_slug_or_name_is_refused() -> None:
    organization = make_organization()
    with pytest.raises(InvalidSlug):
        project_create(organization=organization, name="Web", slug="We b", actor=ACTOR)
    with pytest.raises(InvalidName):
        project_create(organization=organization, name=" ", actor=ACTOR)
    assert organization.projects.count() == 1


def test_getting_takes_the_slug_or_the_first_in_use() -> None:
    organization = make_organization("acme")
    first = organization.projects.get()
    second = make_project(organization, "web")
    assert project_get(organization=organization) == first
    assert project_get(organization=organization, slug="web") == second
    Project.objects.filter(pk=first.pk).update(archived_at=now())
    assert project_get(organization=organization) == second
    with pytest.raises(UnknownProject, match="'default'"):
        project_get(organization=organization, slug="default")
    with pytest.raises(UnknownProject):
        project_get(organization=make_organization(), slug="web")
