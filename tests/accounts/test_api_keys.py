import datetime as dt
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError

from accounts.api_keys import (
    ApiKeyTerms,
    UnableToIssueApiKey,
    UnableToRotateApiKey,
    UnknownApiKey,
    api_key_issue,
    api_key_revoke,
    api_key_rotate,
)
from accounts.audit_trail import Actor
from accounts.keys import key_digest, key_is_well_formed
from accounts.models import ApiKey, AuditEvent, Organization
from tests.commands import ask, say
from tests.committing import run_together
from tests.factories import ACTOR, make_api_key, make_organization, make_user, now


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def test_a_key_is_issued_once_and_stored_as_a_digest(acme: Organization) -> None:
    issued = api_key_issue(
        terms=ApiKeyTerms(project=acme.projects.get(), name="ci"), actor=ACTOR, now=now()
    )
    assert key_is_well_formed(issued.key, pepper=settings.KEY_PEPPER)
    assert issued.key not in repr(issued)
    stored = ApiKey.objects.get()
    assert bytes(stored.digest) == key_digest(issued.key, pepper=settings.KEY_PEPPER)
    assert issued.key.startswith(stored.prefix)
    assert issued.key.endswith(stored.last4)
    assert (stored.organization, stored.project, stored.name) == (acme, acme.projects.get(), "ci")
    assert stored.scopes == ["relay", "usage"]
    restrictions = stored.allowed_models, stored.allowed_networks, stored.expires_at
    assert restrictions == (None, None, None)


def test_the_record_of_issuing_does_not_hold_the_key(acme: Organization) -> None:
    user = make_user("ann@example.com")
    issued = api_key_issue(
        terms=ApiKeyTerms(project=acme.projects.get(), allowed_models=["gpt-4o"]),
        actor=Actor.of(user),
        now=now(),
    )
    event = AuditEvent.objects.get()
    assert (event.action, event.subject) == ("api_key.issue", issued.api_key.prefix)
    assert (event.actor, event.actor_label) == (user, "ann@example.com")
    assert event.details["allowed_models"] == ["gpt-4o"]
    assert issued.key not in str(event.details)
    assert issued.api_key.created_by == user


def test_restrictions_are_stored_in_one_form(acme: Organization) -> None:
    expires_at = now() + dt.timedelta(days=1)
    api_key, _ = make_api_key(
        acme,
        allowed_models=["gpt-5", " gpt-4o ", "gpt-5"],
        allowed_networks=["10.0.0.0/8", "::1", "192.0.2.7"],
        scopes=["usage"],
        expires_at=expires_at,
    )
    assert api_key.allowed_models == ["gpt-4o", "gpt-5"]
    assert api_key.allowed_networks == ["10.0.0.0/8", "192.0.2.7/32", "::1/128"]
    assert (api_key.scopes, api_key.expires_at) == (["usage"], expires_at)


@pytest.mark.parametrize(
    "terms",
    [
        {"allowed_models": []},
        {"allowed_models": [" "]},
        {"allowed_models": ["x" * 201]},
        {"allowed_networks": []},
        {"allowed_networks": ["10.0.0.1/8"]},
        {"allowed_networks": ["example.com"]},
        {"scopes": []},
        {"scopes": ["relay", "root"]},
        {"name": "x" * 201},
        {"name": "a\nb"},
        {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)},
    ],
)
def test_terms_without_sense_are_refused(acme: Organization, terms: dict[str, Any]) -> None:
    with pytest.raises(UnableToIssueApiKey):
        make_api_key(acme, **terms)
    assert not ApiKey.objects.exists()
    assert not AuditEvent.objects.exists()


def test_an_archived_project_gets_no_key(acme: Organization) -> None:
    project = acme.projects.get()
    project.archived_at = now()
    with pytest.raises(UnableToIssueApiKey, match="archived"):
        make_api_key(acme, project=project)


def test_revoking_is_for_ever_and_recorded_once(acme: Organization) -> None:
    api_key, _ = make_api_key(acme)
    other, _ = make_api_key(acme)
    first, second = now(), now() + dt.timedelta(hours=1)
    assert api_key_revoke(prefix=api_key.prefix, actor=ACTOR, now=first)
    assert not api_key_revoke(prefix=api_key.prefix, actor=ACTOR, now=second)
    api_key.refresh_from_db()
    other.refresh_from_db()
    assert (api_key.revoked_at, other.revoked_at) == (first, None)
    event = AuditEvent.objects.get(action="api_key.revoke")
    assert (event.subject, event.organization) == (api_key.prefix, acme)


def test_an_unknown_prefix_is_refused(acme: Organization) -> None:
    with pytest.raises(UnknownApiKey, match="sk-nobody"):
        api_key_revoke(prefix="sk-nobody", actor=ACTOR, now=now())


def test_of_those_who_revoke_at_once_one_is_recorded(committing_db: str) -> None:
    api_key, _ = make_api_key(make_organization())
    revoke = partial(api_key_revoke, prefix=api_key.prefix, actor=ACTOR, now=now())
    assert sorted(run_together(*[revoke] * 4)) == [False, False, False, True]
    assert AuditEvent.objects.filter(action="api_key.revoke").count() == 1


# --- Rotation -------------------------------------------------------------------------------------


def rotate(prefix: str, grace: dt.timedelta = dt.timedelta(hours=24)) -> ApiKey:
    return api_key_rotate(prefix=prefix, grace=grace, actor=ACTOR, now=now()).api_key


def test_a_rotated_key_has_the_same_terms_and_the_old_one_ends_after_the_grace(
    acme: Organization,
) -> None:
    old, _ = make_api_key(
        acme, name="ci", allowed_models=["gpt-4o"], allowed_networks=["10.0.0.0/8"]
    )
    before = now()
    new = rotate(old.prefix)
    old.refresh_from_db()
    assert old.expires_at is not None
    assert before <= old.expires_at - dt.timedelta(hours=24) <= now()
    assert new.prefix != old.prefix
    for field in ("organization", "project", "name", "scopes", "allowed_models"):
        assert getattr(new, field) == getattr(old, field), field
    assert (new.allowed_networks, new.expires_at) == (["10.0.0.0/8"], None)
    event = AuditEvent.objects.get(action="api_key.rotate")
    assert (event.subject, event.details["successor"]) == (old.prefix, new.prefix)


def test_all_rotations_of_a_key_are_one_family(acme: Organization) -> None:
    first, _ = make_api_key(acme)
    second = rotate(first.prefix)
    third = rotate(second.prefix)
    assert (first.family, second.family, third.family) == (None, first, first)


def test_a_grace_never_prolongs_a_key(acme: Organization) -> None:
    ends_at = now() + dt.timedelta(hours=1)
    old, _ = make_api_key(acme, expires_at=ends_at)
    new = rotate(old.prefix)
    old.refresh_from_db()
    assert (old.expires_at, new.expires_at) == (ends_at, ends_at)


def test_a_key_that_works_no_more_is_not_rotated(acme: Organization) -> None:
    old, _ = make_api_key(acme)
    rotate(old.prefix, dt.timedelta(0))
    with pytest.raises(UnableToRotateApiKey, match="works no more"):
        rotate(old.prefix)
    revoked, _ = make_api_key(acme)
    api_key_revoke(prefix=revoked.prefix, actor=ACTOR, now=now())
    with pytest.raises(UnableToRotateApiKey, match="works no more"):
        rotate(revoked.prefix)
    with pytest.raises(UnableToRotateApiKey, match="not negative"):
        rotate(make_api_key(acme)[0].prefix, dt.timedelta(seconds=-1))
    with pytest.raises(UnknownApiKey):
        rotate("sk-nobody")


def test_the_command_rotates(acme: Organization) -> None:
    old, _ = make_api_key(acme)
    answer = ask("api_key_rotate", old.prefix, "--grace", "30m")
    new = ApiKey.objects.get(prefix=answer["prefix"])
    assert bytes(new.digest) == key_digest(str(answer["api_key"]), pepper=settings.KEY_PEPPER)
    for span in ("soon", "-1h", "1y", ""):
        with pytest.raises(CommandError, match="no span of time"):
            ask("api_key_rotate", answer["prefix"], f"--grace={span}")
    assert "shown only now" in say("api_key_rotate", str(answer["prefix"]))
