"""What the database refuses beyond the models' own constraints."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import ApiKey, AuditEvent
from tests.factories import make_api_key, make_organization, make_user
from tests.raw_sql import execute, violates

pytestmark = pytest.mark.django_db


def test_a_keys_project_belongs_to_its_organization() -> None:
    key, _ = make_api_key(make_organization())
    other = make_organization()
    with violates("api_key_project_is_its_organizations"):
        execute("UPDATE accounts_apikey SET organization_id = %s WHERE id = %s", other.pk, key.pk)


def test_a_digest_is_whole() -> None:
    key, _ = make_api_key(make_organization())
    with violates("api_key_digest_is_whole"):
        ApiKey.objects.filter(pk=key.pk).update(digest=b"short")


@pytest.mark.parametrize(
    "change", ["UPDATE accounts_auditevent SET action = 'x'", "DELETE FROM accounts_auditevent"]
)
def test_the_audit_trail_stays(change: str) -> None:
    AuditEvent.objects.create(actor_label="somebody", action="a", subject="s", at=timezone.now())
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        execute(change)


def test_a_person_may_go_and_the_trail_keeps_the_name() -> None:
    user = make_user()
    event = AuditEvent.objects.create(
        actor=user, actor_label="somebody", action="a", subject="s", at=timezone.now()
    )
    user.delete()
    event.refresh_from_db()
    assert (event.actor, event.actor_label) == (None, "somebody")
