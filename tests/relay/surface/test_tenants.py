"""What upstream must not be told of tenants, and tenants not of it or each other, everywhere."""

import json
from typing import Any

from relay.bodies.fields import NAMESPACED
from relay.endpoints.table import BodyKind
from tests.adversary.gateway import USD, Customer, Gateway
from tests.relay.simulator.support import BOUNDARY
from tests.relay.surface.calls import EXAMPLES, OFFERED, error_of, path_of, send

WITH_BODY = [name for name, row in OFFERED.items() if row.body is not BodyKind.NONE]
DESTINATIONS = ("api_base", "base_url", "api_key", "extra_headers", "extra_body")
TO_UPSTREAM = {
    "accept",
    "accept-encoding",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "openai-beta",
    "transfer-encoding",
    "user-agent",
}
TO_CLIENT = {
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "openai-processing-ms",
    "openai-version",
    "transfer-encoding",
    "x-accel-buffering",
    "x-request-id",
    "x-should-retry",  # Our own: upstream's is not read.
}
NOSY = {
    "accept": "application/json",
    "accept_language": "tlh",
    "baggage": "b=1",
    "cookie": "session=1",
    "forwarded": "for=192.0.2.1",
    "openai_organization": "org-theirs",
    "openai_project": "proj_theirs",
    "origin": "https://chat.example",
    "traceparent": "00-1-1-00",
    "user_agent": "theirs",
    "x_api_key": "another",
    "x_forwarded_for": "192.0.2.1",
    "x_openwebui_user_email": "a@b.example",
    "x_stainless_lang": "python",
}


def last_received(shop: Gateway) -> dict[str, Any]:
    received: dict[str, Any] = shop._simulator._recorder.report(tag=None)["data"][-1]
    return received


async def test_headers_pass_by_two_short_lists(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name in OFFERED:
        path = await path_of(shop, customer, name)
        answer = await send(shop.workers[0], customer, path, EXAMPLES[name].body(), **NOSY)
        headers = dict(last_received(shop)["headers"])
        assert headers.keys() <= TO_UPSTREAM, name
        assert (headers["user-agent"], headers["accept"]) == ("tollgate", "application/json")
        assert customer.api_key[-4:] not in headers["authorization"]
        assert answer.headers.keys() <= TO_CLIENT, name
        assert answer.headers["x-request-id"].startswith("req_01")


async def test_a_stream_has_no_further_headers(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    leaks = {"headers": {"x-ours": "1", "set-cookie": "a=b", "openai-organization": "org-ours"}}
    for name in WITH_BODY:
        if OFFERED[name].streamed:
            body = EXAMPLES[name].body(**(EXAMPLES[name].streamed or {}), simulate=leaks)
            answer = await send(shop.workers[0], customer, name, body)
            assert answer.status == 200, (name, answer.body)
            assert answer.headers.keys() <= TO_CLIENT, name


async def test_no_client_chooses_where_a_call_goes(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name in WITH_BODY:
        for field in DESTINATIONS:
            body = EXAMPLES[name].body(**{field: "http://192.0.2.1/v1"})
            answer = await send(shop.workers[0], customer, name, body)
            assert answer.status == 400, (name, field)
            error = error_of(answer)
            assert (error["param"], error["code"]) == (field, "unknown_parameter"), name
    assert shop.arrived() == 0


async def test_each_tenants_users_and_caches_are_apart(shop: Gateway) -> None:
    one, other = await shop.customer(USD), await shop.customer(USD)
    named = dict.fromkeys(NAMESPACED, "alice")
    for name in WITH_BODY:
        seen = [await told_upstream(shop, customer, name, named) for customer in (one, other, one)]
        assert seen[0] == seen[2]
        for field in NAMESPACED:
            values = [sent[field] for sent in seen[:2]]
            assert all(value.endswith("-alice") for value in values), (name, values)
            assert len(set(values)) == 2


async def told_upstream(
    shop: Gateway, customer: Customer, name: str, named: dict[str, str]
) -> dict[str, str]:
    """The same fields as upstream got them."""
    body = EXAMPLES[name].body(**named)
    answer = await send(shop.workers[0], customer, name, body)
    assert answer.status == 200, (name, answer.body)
    sent = last_received(shop)["body"]
    if OFFERED[name].body is BodyKind.MULTIPART:
        return {field: of_form(sent, field) for field in named}
    return {field: sent[field] for field in named}


def of_form(form: str, field: str) -> str:
    (part,) = [part for part in form.split(f"--{BOUNDARY}") if f'name="{field}"' in part]
    return part.partition("\r\n\r\n")[2].removesuffix("\r\n")


async def test_a_field_that_matters_comes_once(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    for name in WITH_BODY:
        if OFFERED[name].body is not BodyKind.JSON:
            continue
        content, kind = EXAMPLES[name].body()
        fields = {"model": "gpt-4o-mini", "user": "a", "stream": False} | json.loads(content)
        for field in ("model", "user", "stream"):
            twice = json.dumps(fields)[:-1] + f', "{field}": {json.dumps(fields[field])}}}'
            answer = await send(shop.workers[0], customer, name, (twice.encode(), kind))
            assert answer.status == 400, (name, field)
            assert error_of(answer)["code"] == "duplicate_parameter"
    assert shop.arrived() == 0
