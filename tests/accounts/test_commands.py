import datetime as dt
import os
import pwd

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from accounts.keys import key_digest
from accounts.models import ApiKey, AuditEvent, Organization
from tests.commands import ask, manage, say
from tests.factories import make_api_key, make_organization, make_project, now


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def test_a_key_is_issued_for_the_first_project(acme: Organization) -> None:
    answer = ask("api_key_issue", "acme")
    assert answer.keys() == {"api_key", "prefix", "organization", "project"}
    assert (answer["organization"], answer["project"]) == ("acme", "default")
    api_key = ApiKey.objects.get(prefix=answer["prefix"])
    assert bytes(api_key.digest) == key_digest(answer["api_key"], pepper=settings.KEY_PEPPER)
    assert (api_key.expires_at, api_key.allowed_models) == (None, None)


def test_a_key_takes_its_terms_from_the_options(acme: Organization) -> None:
    make_project(acme, "web")
    before = now()
    answer = ask(
        *("api_key_issue", "acme", "--project", "web", "--name", "ci"),
        *("--expires", "30d", "--models", "gpt-4o", "gpt-5"),
    )
    assert answer["project"] == "web"
    api_key = ApiKey.objects.get(prefix=answer["prefix"])
    assert (api_key.name, api_key.allowed_models) == ("ci", ["gpt-4o", "gpt-5"])
    assert api_key.expires_at is not None
    assert before <= api_key.expires_at - dt.timedelta(days=30) <= now()


def test_a_person_is_told_the_key_and_that_it_is_shown_once(acme: Organization) -> None:
    text = say("api_key_issue", "acme")
    [key] = [word for word in text.split() if word.startswith("sk-") and len(word) == 41]
    assert "shown only now" in text
    assert ApiKey.objects.get().digest == key_digest(key, pepper=settings.KEY_PEPPER)


def test_a_key_is_revoked_by_its_prefix(acme: Organization) -> None:
    api_key, _ = make_api_key(acme)
    assert ask("api_key_revoke", api_key.prefix) == {"prefix": api_key.prefix, "changed": True}
    assert ask("api_key_revoke", api_key.prefix) == {"prefix": api_key.prefix, "changed": False}
    assert say("api_key_revoke", api_key.prefix) == f"{api_key.prefix} is revoked already.\n"
    api_key.refresh_from_db()
    assert api_key.revoked_at is not None


def test_an_organization_is_suspended_and_resumed(acme: Organization) -> None:
    assert say("organization_suspend", "acme") == "acme is suspended.\n"
    acme.refresh_from_db()
    assert acme.status == "suspended"
    suspended = {"organization": "acme", "status": "suspended", "changed": False}
    assert ask("organization_suspend", "acme") == suspended
    assert ask("organization_resume", "acme") == {
        "organization": "acme",
        "status": "active",
        "changed": True,
    }
    assert say("organization_resume", "acme") == "acme is active already.\n"
    acme.refresh_from_db()
    assert acme.status == "active"


def test_the_audit_trail_names_the_command_and_who_ran_it(acme: Organization) -> None:
    ask("organization_suspend", "acme")
    user = pwd.getpwuid(os.getuid()).pw_name
    event = AuditEvent.objects.get()
    assert event.actor_label == f"command:organization_suspend ({user})"
    assert event.actor is None


def test_a_user_without_a_name_is_known_by_number(
    acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    ask("organization_suspend", "acme")
    event = AuditEvent.objects.get()
    assert event.actor_label == "command:organization_suspend (uid 4000000000)"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["api_key_issue", "nobody"], "no organization 'nobody'"),
        (["api_key_issue", "acme", "--project", "x"], "no project 'x' in use"),
        (["api_key_issue", "acme", "--expires", "soon"], "is no moment"),
        (["api_key_issue", "acme", "--expires", "2020-01-01"], "not in the future"),
        (["api_key_revoke", "sk-nobody"], "no API key 'sk-nobody'"),
        (["organization_suspend", "nobody"], "no organization 'nobody'"),
        (["organization_resume", "nobody"], "no organization 'nobody'"),
    ],
)
def test_what_the_domain_refuses_is_an_error_and_changes_nothing(
    acme: Organization, arguments: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint) as refused:
        call_command(*arguments)
    assert refused.value.returncode == 1
    assert not AuditEvent.objects.exists()
    assert not ApiKey.objects.exists()


def test_a_refusal_ends_the_process_with_status_1_and_no_answer(fresh_database_url: str) -> None:
    done = manage("organization_suspend", "nobody", "--json", DATABASE_URL=fresh_database_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "CommandError: There is no organization 'nobody'.\n"
