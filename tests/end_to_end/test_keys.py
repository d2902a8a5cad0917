"""Keys that end, organizations that are suspended: every worker obeys soon after the command."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway, wait_for
from tests.end_to_end.support import (
    CHAT,
    MODEL,
    Customer,
    chat_body,
    customer_of,
    error_of,
    organization_create,
    texts_of,
)

# As in the tests of money: the contract says one second.
PATIENCE_SECONDS = 5


@pytest.fixture(scope="module")
def member(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    return organization_create(gateway, http, "Members")


@pytest.fixture
def on_each_worker(member: Customer) -> Iterator[list[Customer]]:
    with member.gateway.worker_clients() as clients:
        yield [replace(member, http=client) for client in clients]


def check_soon(holders: list[Customer], status: int, note: Callable[[str, object], None]) -> None:
    """Each worker answers so, soon and then for good; how soon is noted."""
    changed_at = time.monotonic()
    for holder in holders:
        while (reply := holder.get("/v1/models")).status_code != status:
            assert time.monotonic() - changed_at < PATIENCE_SECONDS, reply.text
        note("change", f"{status} from a worker after {time.monotonic() - changed_at:.3f} s")
    for holder in holders:
        assert holder.get("/v1/models").status_code == status


def test_a_revoked_key_stops_on_every_worker(
    member: Customer,
    on_each_worker: list[Customer],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    other = customer_of(member.gateway, member.http, member.organization)
    holders = [replace(other, http=holder.http) for holder in on_each_worker]
    check_soon(holders, 200, record_testsuite_property)
    assert member.gateway.manage("api_key_revoke", other.prefix)["changed"] is True
    check_soon(holders, 401, record_testsuite_property)
    for holder in holders:
        assert error_of(holder.chat())["code"] == "invalid_api_key"
        assert error_of(holder.get("/v1/usage"))["code"] == "invalid_api_key"
    assert member.gateway.manage("api_key_revoke", other.prefix)["changed"] is False
    check_soon(on_each_worker, 200, record_testsuite_property)


def test_a_key_expires_by_itself(member: Customer, on_each_worker: list[Customer]) -> None:
    # A slow machine gets more time, or else the key would have ended before it was used.
    for seconds in (3, 10, 30):
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        when = ("--expires", end.isoformat())
        issued = member.gateway.manage("api_key_issue", member.organization, *when)
        short = [replace(holder, api_key=issued["api_key"]) for holder in on_each_worker]
        statuses = [holder.chat().status_code for holder in short]
        if dt.datetime.now(dt.UTC) < end:
            break
    assert statuses == [200] * len(short)
    wait_for(lambda: dt.datetime.now(dt.UTC) > end, "the end of the key", seconds=40)
    for holder in short:
        assert error_of(holder.chat())["code"] == "invalid_api_key"
        assert holder.get("/v1/usage").status_code == 401


def test_an_organization_is_suspended_and_resumed(
    member: Customer,
    on_each_worker: list[Customer],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    balance = member.balance()
    member.gateway.manage("organization_suspend", member.organization)
    try:
        check_soon(on_each_worker, 403, record_testsuite_property)
        for holder in on_each_worker:
            for reply in (holder.chat(), holder.chat(stream=True), holder.get("/v1/usage")):
                assert reply.status_code == 403
                assert error_of(reply)["code"] == "organization_suspended"
    finally:
        member.gateway.manage("organization_resume", member.organization)
    check_soon(on_each_worker, 200, record_testsuite_property)
    assert member.balance() == balance
    assert member.chat().status_code == 200


def test_what_runs_goes_on_to_its_end(member: Customer) -> None:
    other = customer_of(member.gateway, member.http, member.organization)
    body = chat_body(stream=True, simulate={"text": "one two three", "chunk_delay_ms": 600})
    with other.http.stream("POST", CHAT, json=body, headers=other.authorization) as reply:
        stream = reply.iter_raw()
        content = next(stream)
        member.gateway.manage("api_key_revoke", other.prefix)
        content += b"".join(stream)
    assert texts_of(content) == "one two three"
    assert content.endswith(b"data: [DONE]\n\n")
    assert other.get("/v1/models").status_code == 401
    assert member.record(reply)["api_key_prefix"] == other.prefix


def test_a_key_for_some_models_sees_no_others(member: Customer) -> None:
    issued = member.gateway.manage(
        "api_key_issue", member.organization, "--models", MODEL, "gpt-4o"
    )
    narrow = replace(member, api_key=issued["api_key"])
    assert {model["id"] for model in narrow.ask("/v1/models")["data"]} == {MODEL, "gpt-4o"}
    assert narrow.chat().status_code == 200
    refused = narrow.post(chat_body() | {"model": "gpt-4o-mini"})
    unknown = narrow.post(chat_body() | {"model": "gpt-4o-none"})
    assert refused.status_code == unknown.status_code == 404
    # Whether it exists is none of this key's business.
    assert refused.text == unknown.text.replace("gpt-4o-none", "gpt-4o-mini")
    assert error_of(narrow.get("/v1/models/gpt-4o-mini"))["code"] == "model_not_found"


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Bearer {key}"},
        {"authorization": "bearer   {key}"},
        {"authorization": "BEARER {key}"},
        {"authorization": "{key}"},
        {"x-api-key": "{key}"},
        {"api-key": "{key}"},
        {"authorization": "Bearer {key}", "x-api-key": "another", "api-key": "third"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage"])
def test_keys_come_in_many_headers(member: Customer, path: str, header: dict[str, str]) -> None:
    headers = {name: value.format(key=member.api_key) for name, value in header.items()}
    assert member.http.get(path, headers=headers).status_code == 200
