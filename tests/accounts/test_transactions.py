import pytest
from django.db import transaction

from accounts.audit_trail import Actor, audit_event_record
from accounts.models import AuditEvent
from accounts.projects import project_add
from accounts.transactions import durable
from tests.factories import ACTOR, make_organization, make_user


@durable
def record_and(fail: bool) -> str:
    audit_event_record(actor=ACTOR, action="test", subject="a change")
    if fail:
        raise ValueError("after the record")
    return "done"


def test_a_durable_service_commits_whole_or_not_at_all(committing_db: str) -> None:
    with pytest.raises(ValueError, match="after the record"):
        record_and(True)
    assert not AuditEvent.objects.filter(action="test").exists()
    assert record_and(False) == "done"
    assert AuditEvent.objects.filter(action="test").count() == 1


def test_a_durable_service_is_no_part_of_another_transaction(committing_db: str) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        record_and(False)


def test_a_part_alone_is_a_defect(committing_db: str) -> None:
    organization = make_organization()
    with pytest.raises(RuntimeError, match="audit_event_record is part of a larger transaction"):
        audit_event_record(actor=ACTOR, action="test", subject="a change")
    with pytest.raises(RuntimeError, match="project_add is part of a larger transaction"):
        project_add(organization=organization, name="Web", actor=ACTOR)
    with transaction.atomic():
        assert project_add(organization=organization, name="Web", actor=ACTOR).slug == "web"


@pytest.mark.django_db
def test_a_record_keeps_its_label_when_the_person_is_gone() -> None:
    user = make_user("ann@example.com")
    event = audit_event_record(actor=Actor.of(user), action="test", subject="s" * 300)
    user.delete()
    event.refresh_from_db()
    assert (event.actor, event.actor_label, event.details) == (None, "ann@example.com", {})
    assert event.subject == "s" * 200
