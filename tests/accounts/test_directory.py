"""The directory over look-ups that the test holds in its hands; its query over a database."""

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import psycopg
import pytest
from django.conf import settings

from accounts.api_keys import api_key_revoke
from accounts.directory import Directory, Principal, principal_load
from accounts.keys import key_digest
from accounts.models import Project
from accounts.organizations import organization_suspend
from tests.factories import ACTOR, make_api_key, make_organization, now

SOMEBODY = Principal(
    api_key_id=1,
    api_key_prefix="sk-1",
    organization_id=10,
    organization_slug="acme",
    project_id=100,
    project_slug="default",
    scopes=frozenset({"relay"}),
    allowed_models=None,
    allowed_networks=None,
    expires_at=None,
    revoked=False,
    organization_suspended=False,
    project_archived=False,
)


class Database:
    """Principals by digest; look-ups are counted, and wait at the gate while it is shut."""

    def __init__(self, **principals: Principal) -> None:
        self.principals = {name.encode(): principal for name, principal in principals.items()}
        self.asked: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def load(self, digest: bytes) -> Principal | None:
        self.asked.append(digest)
        answer = self.principals.get(digest)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return answer


async def soon(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_a_principal_is_looked_up_once() -> None:
    database = Database(a=SOMEBODY)
    directory = Directory(database.load)
    assert [await directory.find(b"a") for _ in range(3)] == [SOMEBODY] * 3
    assert database.asked == [b"a"]


async def test_an_unknown_key_is_remembered_briefly() -> None:
    database, time = Database(), [100.0]
    directory = Directory(database.load, unknown_seconds=5, clock=lambda: time[0])
    assert await directory.find(b"a") is None
    time[0] = 104.9
    assert await directory.find(b"a") is None
    assert database.asked == [b"a"]
    time[0] = 105.0
    database.principals[b"a"] = SOMEBODY
    assert await directory.find(b"a") is SOMEBODY


async def test_those_who_miss_the_same_key_share_a_look_up() -> None:
    database = Database(a=SOMEBODY)
    database.gate.clear()
    directory = Directory(database.load)
    finds = [asyncio.create_task(directory.find(b"a")) for _ in range(5)]
    await soon(lambda: database.asked)
    database.gate.set()
    assert await asyncio.gather(*finds) == [SOMEBODY] * 5
    assert database.asked == [b"a"]


async def test_one_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    database = Database(a=SOMEBODY)
    database.gate.clear()
    directory = Directory(database.load)
    leaver, stayer = (asyncio.create_task(directory.find(b"a")) for _ in range(2))
    await soon(lambda: database.asked)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    database.gate.set()
    assert await stayer is SOMEBODY
    assert database.asked == [b"a"]


async def test_a_failed_look_up_reaches_who_asked_and_is_not_remembered() -> None:
    database = Database(a=SOMEBODY)
    database.failure = OSError("the database is away")
    directory = Directory(database.load)
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            await directory.find(b"a")
    database.failure = None
    assert await directory.find(b"a") is SOMEBODY


async def test_forgetting_an_organization_forgets_its_keys_and_no_others() -> None:
    stranger = replace(SOMEBODY, organization_id=20)
    database = Database(a=SOMEBODY, b=SOMEBODY, c=stranger)
    directory = Directory(database.load)
    for digest in (b"a", b"b", b"c"):
        await directory.find(digest)
    revoked = replace(SOMEBODY, revoked=True)
    database.principals[b"a"] = revoked
    directory.forget_organization(10)
    assert [await directory.find(digest) for digest in (b"a", b"b", b"c")] == [
        revoked,
        SOMEBODY,
        stranger,
    ]
    assert database.asked == [b"a", b"b", b"c", b"a", b"b"]


async def test_any_change_forgets_what_was_unknown() -> None:
    database = Database()
    directory = Directory(database.load)
    assert await directory.find(b"new") is None
    database.principals[b"new"] = SOMEBODY
    directory.forget_organization(10)
    assert await directory.find(b"new") is SOMEBODY


async def test_forgetting_all_forgets_all() -> None:
    database = Database(a=SOMEBODY)
    directory = Directory(database.load)
    await directory.find(b"a")
    await directory.find(b"unknown")
    directory.forget_all()
    await directory.find(b"a")
    await directory.find(b"unknown")
    assert database.asked == [b"a", b"unknown"] * 2


@pytest.mark.parametrize(
    "change",
    [lambda directory: directory.forget_organization(10), lambda directory: directory.forget_all()],
)
@pytest.mark.parametrize("before", [SOMEBODY, None])
async def test_an_answer_from_before_a_change_is_not_remembered(
    change: Callable[[Directory], None], before: Principal | None
) -> None:
    database = Database(**({"a": before} if before else {}))
    database.gate.clear()
    directory = Directory(database.load)
    early = asyncio.create_task(directory.find(b"a"))
    await soon(lambda: database.asked)
    after = replace(SOMEBODY, revoked=True)
    database.principals[b"a"] = after
    change(directory)
    # Who asks after the change does not join the look-up from before it.
    late = asyncio.create_task(directory.find(b"a"))
    await soon(lambda: len(database.asked) == 2)
    database.gate.set()
    assert (await early, await late) == (before, after)
    assert await directory.find(b"a") is after
    assert len(database.asked) == 2


async def test_an_answer_that_a_change_overtook_is_asked_for_again() -> None:
    database = Database(a=SOMEBODY)
    database.gate.clear()
    directory = Directory(database.load)
    early = asyncio.create_task(directory.find(b"a"))
    await soon(lambda: database.asked)
    after = replace(SOMEBODY, revoked=True)
    database.principals[b"a"] = after
    directory.forget_organization(SOMEBODY.organization_id)
    database.gate.set()
    assert await early is SOMEBODY
    assert await directory.find(b"a") is after


async def test_the_least_recently_used_principal_makes_room() -> None:
    database = Database(a=SOMEBODY, b=SOMEBODY, c=SOMEBODY)
    directory = Directory(database.load, max_principals=2)
    for digest in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await directory.find(digest)
    assert database.asked == [b"a", b"b", b"c", b"b"]
    directory.forget_organization(10)  # Knows what was evicted.
    await directory.find(b"a")
    assert database.asked[4:] == [b"a"]


async def test_unknown_keys_are_bounded_too() -> None:
    database = Database()
    directory = Directory(database.load, max_unknown=2, clock=lambda: 0.0)
    for digest in (b"a", b"b", b"c", b"b", b"c", b"a"):
        await directory.find(digest)
    assert database.asked == [b"a", b"b", b"c", b"a"]


async def test_closing_ends_the_look_ups_under_way() -> None:
    database = Database(a=SOMEBODY)
    database.gate.clear()
    directory = Directory(database.load)
    find = asyncio.create_task(directory.find(b"a"))
    await soon(lambda: database.asked)
    directory.forget_all()  # Also those that nobody can join any more.
    await directory.close()
    with pytest.raises(asyncio.CancelledError):
        await find


def loaded(database_url: str, digest: bytes) -> Principal | None:
    async def load() -> Principal | None:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            return await principal_load(connection, digest)

    return asyncio.run(load())


def test_the_query_reads_all_that_decides(committing_db: str) -> None:
    organization = make_organization("acme")
    expires_at = now() + dt.timedelta(days=1)
    terms: dict[str, Any] = {
        "allowed_models": ["gpt-5", "gpt-4o"],
        "allowed_networks": ["10.0.0.0/8", "::1"],
        "expires_at": expires_at,
    }
    api_key, key = make_api_key(organization, **terms)
    digest = key_digest(key, pepper=settings.KEY_PEPPER)
    project = organization.projects.get()
    principal = Principal(
        api_key_id=api_key.pk,
        api_key_prefix=api_key.prefix,
        organization_id=organization.pk,
        organization_slug="acme",
        project_id=project.pk,
        project_slug="default",
        scopes=frozenset({"relay", "usage"}),
        allowed_models=frozenset({"gpt-4o", "gpt-5"}),
        allowed_networks=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
        expires_at=expires_at.timestamp(),
        revoked=False,
        organization_suspended=False,
        project_archived=False,
        api_key_family_id=api_key.pk,
    )
    assert loaded(committing_db, digest) == principal
    api_key_revoke(prefix=api_key.prefix, actor=ACTOR, now=now())
    assert loaded(committing_db, digest) == replace(principal, revoked=True)
    organization_suspend(slug="acme", actor=ACTOR)
    Project.objects.filter(pk=project.pk).update(archived_at=now())
    assert loaded(committing_db, digest) == replace(
        principal, revoked=True, organization_suspended=True, project_archived=True
    )


def test_the_query_knows_no_restriction_and_no_stranger(committing_db: str) -> None:
    _, key = make_api_key(make_organization())
    principal = loaded(committing_db, key_digest(key, pepper=settings.KEY_PEPPER))
    assert principal is not None
    restrictions = principal.allowed_models, principal.allowed_networks, principal.expires_at
    assert restrictions == (None, None, None)
    assert loaded(committing_db, b"\x00" * 32) is None
