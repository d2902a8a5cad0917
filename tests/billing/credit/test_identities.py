from functools import partial

import pytest
from django.core.management import CommandError

from billing.credit.identities import InvalidIdentity, identity_normal
from billing.models import FreeQuotaClaim, Grant
from billing.organizations import OpenedOrganization, organization_open
from tests.commands import ask
from tests.committing import run_together
from tests.factories import ACTOR, now


def opened(identity: str | None, *, quota: int = 100) -> OpenedOrganization:
    return organization_open(
        name="Acme", quota_nano_usd=quota, identity=identity, actor=ACTOR, now=now()
    )


@pytest.mark.parametrize(
    ("identity", "normal"),
    [
        ("email:ann@example.com", "email:ann@example.com"),
        (" EMAIL: Ann+shop@Example.COM ", "email:ann@example.com"),
        ("email:a.n.n+x@googlemail.com", "email:ann@gmail.com"),
        ("email:a.nn@example.com", "email:a.nn@example.com"),
        ("github:1234", "github:1234"),
        ("google:SubjectsHaveCase", "google:SubjectsHaveCase"),
    ],
)
def test_an_identity_has_one_spelling(identity: str, normal: str) -> None:
    assert identity_normal(identity) == normal


@pytest.mark.parametrize(
    "identity",
    ["", "ann@example.com", "email:", "email:ann", "email:+x@example.com", "e mail:a@b.c", ":x"],
)
def test_what_is_no_identity_is_refused(identity: str) -> None:
    with pytest.raises(InvalidIdentity):
        identity_normal(identity)


@pytest.mark.django_db
def test_an_identity_has_the_free_quota_once() -> None:
    assert opened("email:ann@example.com").balance_nano_usd == 100
    assert opened("email:Ann+again@example.com").balance_nano_usd == 0
    assert opened("email:ben@example.com").balance_nano_usd == 100
    assert opened(None).balance_nano_usd == 100
    assert Grant.objects.filter(kind="free_quota").count() == 3
    assert b"ann" not in b"".join(bytes(claim.digest) for claim in FreeQuotaClaim.objects.all())


@pytest.mark.django_db
def test_who_got_no_quota_can_still_get_one() -> None:
    assert opened("email:ann@example.com", quota=0).balance_nano_usd == 0
    assert opened("email:ann@example.com").balance_nano_usd == 100


def test_of_those_who_open_at_once_one_gets_the_quota(committing_db: str) -> None:
    answers = run_together(*(partial(opened, "email:ann@example.com") for _ in range(6)))
    assert sorted(answer.balance_nano_usd for answer in answers) == [0] * 5 + [100]


@pytest.mark.django_db
def test_the_command_takes_an_identity() -> None:
    create = partial(ask, "organization_create", "Acme", "--quota", "1", "--identity")
    assert create("email:ann@example.com")["balance_nano_usd"] == 10**9
    assert create("email:ann@example.com")["balance_nano_usd"] == 0
    with pytest.raises(CommandError, match="no identity"):
        create("ann")
