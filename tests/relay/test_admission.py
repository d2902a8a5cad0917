import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from accounts.directory import Directory, Principal
from accounts.keys import key_digest, key_generate
from relay.admission import MAX_REMEMBERED_BYTES, SentKeys, authenticate
from relay.errors import RelayError
from relay.exchange import Exchange

PEPPER = "a pepper"
KEY = key_generate(brand_prefix="sk-", pepper=PEPPER).key
DIGEST = key_digest(KEY, pepper=PEPPER)


def exchange_with(**headers: str) -> Exchange:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"method": "POST", "path": "/v1/chat/completions", "headers": named}
    return Exchange(scope, nothing, nothing)


def principal_with(*, revoked: bool = False, expires_at: float | None = None) -> Principal:
    return Principal(
        api_key_id=1,
        api_key_prefix="sk-0123456789",
        organization_id=2,
        organization_slug="acme",
        project_id=3,
        project_slug="default",
        scopes=frozenset({"relay"}),
        allowed_models=None,
        allowed_networks=None,
        expires_at=expires_at,
        revoked=revoked,
        organization_suspended=False,
        project_archived=False,
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer   {KEY} "},
        {"authorization": KEY},
        {"authorization": f"Bearer {KEY}", "x_api_key": "another"},
        {"authorization": "Bearer " + " " * MAX_REMEMBERED_BYTES + KEY},
        {"x_api_key": KEY},
        {"api_key": KEY},
    ],
)
def test_every_spelling_of_a_key_has_its_digest_each_time(headers: dict[str, str]) -> None:
    keys = SentKeys(pepper=PEPPER)
    for _ in range(2):
        assert keys.digest_sent(exchange_with(**headers)) == DIGEST


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY}\u00e9"},
        {"authorization": "Basic x", "x_api_key": KEY},
    ],
)
def test_what_is_no_key_of_ours_is_refused_each_time_and_not_remembered(
    headers: dict[str, str],
) -> None:
    keys = SentKeys(pepper=PEPPER)
    for _ in range(2):
        with pytest.raises(RelayError) as refused:
            keys.digest_sent(exchange_with(**headers))
        assert refused.value.status == 401
    assert keys.bearer_digest.cache_info().currsize == 0


def test_what_is_remembered_is_bounded_in_number_and_size() -> None:
    keys = SentKeys(pepper=PEPPER, max_remembered=2)
    for padding in (1, 2, 3, MAX_REMEMBERED_BYTES):
        keys.digest_sent(exchange_with(authorization="Bearer" + " " * padding + KEY))
    info = keys.bearer_digest.cache_info()
    assert (info.currsize, info.hits, info.misses) == (2, 0, 3)


def test_a_digest_that_is_remembered_says_nothing_about_its_key() -> None:
    """Revocation, expiry and the making of a key reach the next call, whatever was remembered."""
    answers: Iterator[Principal | None] = iter(
        [principal_with(), principal_with(revoked=True), None, principal_with(expires_at=1.0)]
    )

    async def load(digest: bytes) -> Principal | None:
        assert digest == DIGEST
        return next(answers)

    async def scenario() -> None:
        keys, directory = SentKeys(pepper=PEPPER), Directory(load)
        exchange = exchange_with(authorization=f"Bearer {KEY}")
        assert await authenticate(exchange, directory=directory, keys=keys) == principal_with()
        assert await authenticate(exchange, directory=directory, keys=keys) == principal_with()
        for _ in range(3):
            directory.forget_organization(2)
            with pytest.raises(RelayError) as refused:
                await authenticate(exchange, directory=directory, keys=keys)
            assert refused.value.status == 401
        assert keys.bearer_digest.cache_info().currsize == 1

    asyncio.run(scenario())
