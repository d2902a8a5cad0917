"""What the database refuses whoever writes, and what it tells the workers."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from accounts.models import ConfigurationVersion, Membership, Organization, User
from tests.committing import Listener
from tests.factories import make_api_key, make_organization, make_user, now
from tests.raw_sql import Break, Row, check_break, constraints_of, execute, insert

BREAKS = [
    Break(
        "user_email_is_unique_in_any_case",
        "accounts_user",
        {"email": "ANN@example.com"},
        beside={"email": "ann@example.com"},
    ),
    Break("organization_status_is_known", "accounts_organization", {"status": "gone"}),
    Break("organization_slug_is_a_slug", "accounts_organization", {"slug": "-a"}),
    Break("organization_slug_is_a_slug", "accounts_organization", {"slug": "Acme"}),
    Break("organization_slug_is_a_slug", "accounts_organization", {"slug": "a/b"}),
    Break("organization_slug_is_a_slug", "accounts_organization", {"slug": "a\n"}),
    Break("organization_slug_is_a_slug", "accounts_organization", {"slug": ""}),
    Break("project_slug_is_unique_in_organization", "accounts_project", beside={}),
    Break("project_slug_is_a_slug", "accounts_project", {"slug": "a_b"}),
    Break("project_slug_is_a_slug", "accounts_project", {"slug": "a\nb"}),
    Break("membership_is_unique", "accounts_membership", {"role": "viewer"}, beside={}),
    Break("membership_role_is_known", "accounts_membership", {"role": "king"}),
    Break("api_key_scopes_are_known", "accounts_apikey", {"scopes": ["relay", "root"]}),
    Break("api_key_scopes_are_known", "accounts_apikey", {"scopes": []}),
    Break("api_key_scopes_are_known", "accounts_apikey", {"scopes": [None]}),
    Break("api_key_allowed_models_not_empty", "accounts_apikey", {"allowed_models": []}),
]


def valid_rows() -> dict[str, Row]:
    organization, user = make_organization("acme"), make_user("someone@example.com")
    return {
        "accounts_user": {
            "email": "bob@example.com",
            "password": "x",
            "name": "Bob",
            "is_active": True,
            "is_staff": False,
            "is_superuser": False,
            "created_at": now(),
        },
        "accounts_organization": {
            "slug": "other",
            "name": "Other",
            "status": "active",
            "time_zone": "UTC",
            "created_at": now(),
        },
        "accounts_project": {
            "organization_id": organization.pk,
            "slug": "web",
            "name": "Web",
            "created_at": now(),
        },
        "accounts_membership": {
            "organization_id": organization.pk,
            "user_id": user.pk,
            "role": "owner",
            "created_at": now(),
        },
        "accounts_apikey": {
            "organization_id": organization.pk,
            "project_id": organization.projects.get().pk,
            "name": "",
            "prefix": "sk-1",
            "last4": "abcd",
            "digest": b"\x01" * 32,
            "scopes": ["relay"],
            "allowed_models": None,
            "created_at": now(),
        },
    }


@pytest.mark.django_db
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.constraint)
def test_the_database_refuses(broken: Break) -> None:
    check_break(broken, valid_rows()[broken.table])


@pytest.mark.django_db
def test_the_rows_that_are_broken_were_valid() -> None:
    for table, row in valid_rows().items():
        insert(table, row)


def test_every_constraint_is_tried() -> None:
    assert constraints_of("accounts") == {broken.constraint for broken in BREAKS}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "column", "other"),
    [
        ("accounts_user", "email", {}),
        ("accounts_organization", "slug", {}),
        ("accounts_apikey", "prefix", {"digest": b"\x02" * 32}),
        ("accounts_apikey", "digest", {"prefix": "sk-2"}),
    ],
)
def test_names_and_digests_are_unique(table: str, column: str, other: Row) -> None:
    row = valid_rows()[table]
    insert(table, row)
    taken = pytest.raises(IntegrityError, match=rf"Key \({column}\)=.* already exists")
    with taken, transaction.atomic():
        insert(table, row | other)


@pytest.mark.django_db
def test_what_money_or_usage_may_name_cannot_be_deleted() -> None:
    organization = make_organization("acme")
    make_api_key(organization)
    with pytest.raises(ProtectedError):
        organization.delete()
    refused = pytest.raises(IntegrityError, match="accounts_apikey_project_id")
    with refused, transaction.atomic():
        execute("DELETE FROM accounts_project WHERE organization_id = %s", organization.pk)
        execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.django_db
def test_a_person_who_leaves_takes_only_memberships_along() -> None:
    organization, user = make_organization(), make_user()
    Membership.objects.create(organization=organization, user=user, role="owner")
    user.delete()
    assert not Membership.objects.exists()
    assert Organization.objects.filter(pk=organization.pk).exists()
    assert not User.objects.exists()


CHANGES = [
    "UPDATE accounts_organization SET name = 'x' WHERE id = %(id)s",
    "UPDATE accounts_project SET name = 'x' WHERE organization_id = %(id)s",
    "UPDATE accounts_apikey SET name = 'x' WHERE organization_id = %(id)s",
    "DELETE FROM accounts_apikey WHERE organization_id = %(id)s",
    "DELETE FROM accounts_project WHERE organization_id = %(id)s",
]


def version(topic: str) -> int:
    return ConfigurationVersion.objects.get(topic=topic).version


def test_each_change_raises_the_version_and_names_the_organization(
    committing_db: str, listener: Listener
) -> None:
    start = version("accounts")
    organization = make_organization("acme")  # With its project.
    make_api_key(organization)
    identifier = organization.pk
    assert listener.heard() == [f"accounts {start + step} {identifier}" for step in (1, 2, 3)]
    for step, statement in enumerate(CHANGES, start=4):
        with connection.cursor() as cursor:
            cursor.execute(statement, {"id": identifier})
            assert cursor.rowcount == 1
        assert listener.heard() == [f"accounts {start + step} {identifier}"]
    assert version("accounts") == start + 3 + len(CHANGES)


def test_one_statement_names_every_organization_that_it_changed(
    committing_db: str, listener: Listener
) -> None:
    identifiers = [make_organization().pk for _ in range(3)]
    listener.heard()
    raised = version("accounts") + 1
    execute("UPDATE accounts_organization SET name = 'x' WHERE id = ANY(%s)", identifiers)
    assert sorted(listener.heard()) == sorted(f"accounts {raised} {one}" for one in identifiers)


def test_what_is_rolled_back_is_not_told(committing_db: str, listener: Listener) -> None:
    start = version("accounts")
    with transaction.atomic():
        make_organization()
        transaction.set_rollback(True)
    assert listener.heard() == []
    assert version("accounts") == start
