"""One gateway under every base URL: all prefixes, what people make of them, what is not there."""

import httpx2
import pytest

from tests.end_to_end.support import (
    MODEL,
    Customer,
    Upstream,
    chat_body,
    error_of,
    new_tag,
)

PREFIXES = ("/v1", "/openai/v1", "/openai", "/api/openai/v1")
OWN = ("/v1/{organization}/{project}/openai", "/v1/{organization}/{project}/openai/v1")
READS = (
    "/models",
    f"/models/{MODEL}",
    "/usage",
    "/usage/records?limit=2",
    "/dashboard/billing/usage",
    "/dashboard/billing/subscription",
    "/dashboard/billing/credit_grants",
)
FOLDED = (
    "//v1/chat/completions",
    "/v1//chat///completions",
    "/v1/chat/completions/",
    "/v1/v1/chat/completions",
    "/openai/v1/v1/chat/completions",
    "/chat/completions",
    "/v1/chat/completions/chat/completions",
    "/v1/chat/completions/v1/chat/completions",
)
BARE = ("/models", f"/models/{MODEL}", *(path for path in READS if path.startswith("/dashboard")))
NOT_OFFERED = (
    ("POST", "/v1/fim/completions"),
    ("GET", "/v1"),
    ("GET", "/v1/"),
    ("GET", "/openai"),
    ("GET", "/v1/nothing"),
    ("POST", "/v1/../admin"),
    ("POST", "/v1/chat/completions/.."),
    ("GET", "/v1/models/.."),
    ("DELETE", "/v1/nothing"),
)

OFFERED_ELSEWHERE = (
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-1/content"),
    ("POST", "/openai/v1/batches"),
    ("POST", "/v1/realtime/sessions"),
    ("POST", "/v1/videos"),
    ("GET", "/v1/chat/completions/chatcmpl-1"),
    ("DELETE", "/v1/conversations/conv_1"),
    ("POST", "/v1/responses/resp_1/retry"),
)


def prefix_of(customer: Customer, prefix: str) -> str:
    return prefix.format(organization=customer.organization, project=customer.project)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prefix", [*PREFIXES, *OWN])
def test_chat_is_the_same_under_every_prefix(
    customer: Customer, prefix: str, *, stream: bool
) -> None:
    body = chat_body("Where am I?", stream=stream)
    reply = customer.post(body, prefix_of(customer, prefix) + "/chat/completions")
    assert reply.status_code == 200, reply.text
    assert reply.content == customer.post(body).content
    record = customer.record(reply)
    assert record["project"] == customer.project
    assert record["endpoint"] == "chat/completions"


def test_reads_are_the_same_under_every_prefix(customer: Customer) -> None:
    customer.record(customer.chat())
    for path in READS:
        expected = customer.ask("/v1" + path)
        for prefix in (*PREFIXES, *OWN):
            assert customer.ask(prefix_of(customer, prefix) + path) == expected, (prefix, path)
    for path in BARE:
        assert customer.ask(path) == customer.ask("/v1" + path), path


@pytest.mark.parametrize("path", FOLDED)
def test_paths_that_people_mistype_are_folded(customer: Customer, path: str) -> None:
    reply = customer.http.post(
        "/",
        extensions={"target": path.encode()},  # As it is: clients tidy up what they are told.
        json=chat_body(),
        headers=customer.authorization,
    )
    assert reply.status_code == 200, reply.text
    assert reply.json()["object"] == "chat.completion"


@pytest.mark.parametrize("path", ["/chat/completions", "/models", "/usage", "/nothing"])
def test_a_key_is_of_use_only_under_its_own_project(
    customer: Customer, pauper: Customer, upstream: Upstream, path: str
) -> None:
    tag = new_tag()
    method, body = ("GET", None) if path != "/chat/completions" else ("POST", chat_body())
    wrong = [
        (pauper.organization, pauper.project),
        (customer.organization, "no-such-project"),
        ("no-such-organization", "default"),
    ]
    for organization, project in wrong:
        reply = customer.http.request(
            method,
            f"/v1/{organization}/{project}/openai{path}",
            json=body and {**body, "simulate": {"tag": tag}},
            headers=customer.authorization,
        )
        assert reply.status_code == 404
        expected = "unknown_url" if path == "/nothing" else "project_not_found"
        assert error_of(reply)["code"] == expected
    assert upstream.count(tag) == 0


@pytest.mark.parametrize(("method", "path"), NOT_OFFERED)
def test_what_is_not_offered_is_a_404_in_json(customer: Customer, method: str, path: str) -> None:
    reply = customer.http.request(
        method,
        "/",
        extensions={"target": path.encode()},
        json=chat_body() if method == "POST" else None,
        headers=customer.authorization,
    )
    assert reply.status_code == 404
    assert error_of(reply)["code"] == "unknown_url"
    assert "/v1/chat/completions" in error_of(reply)["message"]


@pytest.mark.parametrize(("method", "path"), OFFERED_ELSEWHERE)
def test_what_only_openai_offers_says_so(customer: Customer, method: str, path: str) -> None:
    body = chat_body() if method == "POST" else None
    reply = customer.http.request(method, path, json=body, headers=customer.authorization)
    assert (reply.status_code, error_of(reply)["code"]) == (404, "unknown_url")
    assert "not offered" in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("PUT", "/openai/chat/completions", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", f"/v1/models/{MODEL}", {"GET", "HEAD"}),
        ("POST", "/v1/usage", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/dashboard/billing/usage", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_other_methods_are_a_405_in_json(
    customer: Customer, method: str, path: str, allowed: set[str]
) -> None:
    reply = customer.http.request(method, path, headers=customer.authorization)
    assert reply.status_code == 405
    assert error_of(reply)["code"] == "method_not_allowed"
    assert set(reply.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}", "/v1/usage"])
def test_head_is_a_get_without_its_body(customer: Customer, path: str) -> None:
    reply = customer.http.head(path, headers=customer.authorization)
    assert reply.status_code == 200
    assert reply.content == b""
    assert customer.http.head("/v1/models").status_code == 401
    assert customer.http.head("/v1/nothing", headers=customer.authorization).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:99", "[::1", "a_b", ""])
def test_any_host_is_answered_in_json(customer: Customer, host: str) -> None:
    headers = {**customer.authorization, "host": host}
    assert customer.post(chat_body(), host=host).json()["object"] == "chat.completion"
    for path in ("/v1/models", "/v1/usage", "/openai/dashboard/billing/usage"):
        assert customer.http.get(path, headers=headers).json()["object"]
    assert error_of(customer.http.get("/v1/nothing", headers=headers))["code"] == "unknown_url"
    assert error_of(customer.http.get("/v1/usage", headers={"host": host}))["code"]


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/models", "/openai/v1/usage", "/dashboard/billing/usage", "/v1/x"],
)
@pytest.mark.parametrize("origin", ["https://chat.example", "chrome-extension://x", "null"])
def test_a_browser_may_ask_without_a_key(http: httpx2.Client, path: str, origin: str) -> None:
    wanted = "authorization, content-type, x-stainless-new-header"
    reply = http.options(
        path,
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": wanted + ", cookie",
        },
    )
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["access-control-allow-headers"] == wanted
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert int(reply.headers["access-control-max-age"]) > 0
    assert reply.headers["vary"] == "Access-Control-Request-Headers"
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage", "/v1/chat/completions", "/v1/x"])
def test_every_answer_may_be_read_by_a_browser(customer: Customer, path: str) -> None:
    for headers in (customer.authorization, {}):
        reply = customer.http.get(path, headers={**headers, "origin": "https://chat.example"})
        assert reply.headers["access-control-allow-origin"] == "*"
        exposed = reply.headers["access-control-expose-headers"]
        for name in ("x-request-id", "x-should-retry", "retry-after", "retry-after-ms"):
            assert name in exposed
        assert "www-authenticate" not in reply.headers
