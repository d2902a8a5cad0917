from functools import partial

import pytest
from django.db import transaction

from accounts.models import AuditEvent, Organization
from accounts.naming import InvalidName, SlugTaken
from accounts.organizations import (
    UnknownOrganization,
    organization_create,
    organization_get,
    organization_resume,
    organization_suspend,
)
from accounts.slugs import InvalidSlug
from tests.committing import run_together
from tests.factories import ACTOR, make_organization


@pytest.mark.django_db
def test_creating_records_who_did_it() -> None:
    organization = organization_create(name=" Acme GmbH ", actor=ACTOR)
    assert (organization.name, organization.slug) == ("Acme GmbH", "acme-gmbh")
    assert organization.status == "active"
    event = AuditEvent.objects.get()
    assert (event.action, event.subject) == ("organization.create", "acme-gmbh")
    assert (event.actor_label, event.organization) == ("tests", organization)


@pytest.mark.django_db
def test_a_second_of_the_name_gets_a_suffix() -> None:
    first = organization_create(name="Acme", actor=ACTOR)
    second = organization_create(name="Acme", actor=ACTOR)
    assert first.slug == "acme"
    assert second.slug.startswith("acme-")


@pytest.mark.django_db
def test_a_slug_that_was_asked_for_is_taken_or_refused() -> None:
    assert organization_create(name="Acme", slug="big-one", actor=ACTOR).slug == "big-one"
    with pytest.raises(SlugTaken):
        organization_create(name="Acme", slug="big-one", actor=ACTOR)
    for slug in ("v1", "Big", "-x"):
        with pytest.raises(InvalidSlug):
            organization_create(name="Acme", slug=slug, actor=ACTOR)
    assert Organization.objects.count() == 1
    assert AuditEvent.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", "a\x00b"])
def test_a_name_is_needed(name: str) -> None:
    with pytest.raises(InvalidName):
        organization_create(name=name, actor=ACTOR)


def test_creating_outside_a_transaction_is_a_defect(committing_db: str) -> None:
    with pytest.raises(RuntimeError, match="larger transaction"):
        organization_create(name="Acme", actor=ACTOR)
    assert not Organization.objects.filter(name="Acme").exists()


def test_those_who_create_the_same_name_at_once_all_succeed(committing_db: str) -> None:
    def create() -> Organization:
        with transaction.atomic():
            return organization_create(name="Acme", actor=ACTOR)

    created = run_together(*[create] * 4)
    assert len({organization.slug for organization in created}) == 4
    assert "acme" in {organization.slug for organization in created}


@pytest.mark.django_db
def test_suspending_and_resuming() -> None:
    make_organization("acme")
    make_organization("other")
    assert organization_suspend(slug="acme", actor=ACTOR)
    assert organization_get("acme").status == "suspended"
    assert not organization_suspend(slug="acme", actor=ACTOR)
    assert organization_resume(slug="acme", actor=ACTOR)
    assert organization_get("acme").status == "active"
    assert not organization_resume(slug="acme", actor=ACTOR)
    assert organization_get("other").status == "active"
    actions = AuditEvent.objects.order_by("id").values_list("action", "subject")
    assert list(actions) == [("organization.suspend", "acme"), ("organization.resume", "acme")]


def test_of_those_who_suspend_at_once_one_is_recorded(committing_db: str) -> None:
    make_organization("acme")
    suspend = partial(organization_suspend, slug="acme", actor=ACTOR)
    assert sorted(run_together(*[suspend] * 4)) == [False, False, False, True]
    assert AuditEvent.objects.filter(action="organization.suspend").count() == 1


@pytest.mark.django_db
def test_an_unknown_organization_is_refused() -> None:
    for service in (organization_suspend, organization_resume):
        with pytest.raises(UnknownOrganization, match="nobody"):
            service(slug="nobody", actor=ACTOR)
    with pytest.raises(UnknownOrganization):
        organization_get("nobody")
