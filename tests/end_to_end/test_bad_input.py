"""Bad input and what it gets: the exact error, nothing sent upstream, no balance changed."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import (
    CHAT,
    MODEL,
    Customer,
    Upstream,
    chat_body,
    error_of,
    everything_is_recorded,
    new_tag,
)

LIMIT_BYTES = 32 * 2**20
MISSING: Any = object()
CHATTING = b'"messages":[{"role":"user","content":"hi"}]'

UNREADABLE = {
    "nothing": b"",
    "no JSON": b"model=e2e-model",
    "an array": b"[]",
    "a string": b'"hello"',
    "null": b"null",
    "half a document": b'{"model":"e2e-model",' + CHATTING,
    "two documents": b'{"model":"e2e-model",%b}{"model":"e2e-model",%b}' % (CHATTING, CHATTING),
    "a number that is none": b'{"model":"e2e-model","top_p":NaN,' + CHATTING + b"}",
    "no UTF-8": b'{"model":"e2e-model","user":"\xff",' + CHATTING + b"}",
    "half a character": b'{"model":"e2e-model","user":"\\ud83e",' + CHATTING + b"}",
    "UTF-16": ('{"model":"e2e-model",' + CHATTING.decode() + "}").encode("utf-16"),
    "too deep": b'{"model":"e2e-model","x":'
    + b"[" * 50_000
    + b"]" * 50_000
    + b","
    + CHATTING
    + b"}",
}
TWICE = {
    "model": (b'"model":"e2e-model"', b'"model":"gpt-4"'),
    "messages": (CHATTING, CHATTING),
    "stream": (b'"stream":false', b'"stream":true'),
    "n": (b'"n":1', b'"n":128'),
    "max_tokens": (b'"max_tokens":1', b'"max_tokens":9999'),
    "service_tier": (b'"service_tier":"default"', b'"service_tier":"priority"'),
}
ESCAPED = {"model": b"\\u006dodel", "messages": b"messa\\u0067es", "n": b"\\u006E"}
# A field, values that it must not have, and the code of the error.
REFUSED: list[tuple[str, list[Any], str]] = [
    ("model", [MISSING, None, ""], "missing_required_parameter"),
    ("model", [5, ["e2e-model"], {}, True], "invalid_type"),
    ("messages", [MISSING], "missing_required_parameter"),
    ("messages", [[]], "empty_array"),
    ("messages", [None, "hi", {}, 5, [1], ["hi"], [[]], [{"content": 5}]], "invalid_type"),
    ("messages", [[{"content": [5]}], [{"content": [{"type": 5}]}]], "invalid_type"),
    ("n", [0, -1], "integer_below_min_value"),
    ("n", [129, 10**30], "integer_above_max_value"),
    ("n", [1.5, "2", True, []], "invalid_type"),
    ("max_tokens", [0, -5], "integer_below_min_value"),
    ("max_tokens", [2**31, 10**30], "integer_above_max_value"),
    ("max_tokens", ["9", 1.5, True], "invalid_type"),
    ("max_completion_tokens", [0], "integer_below_min_value"),
    ("max_completion_tokens", ["many", {}], "invalid_type"),
    ("stream", ["yes", 1, []], "invalid_type"),
    ("stream_options", [5, [], "usage", True], "invalid_type"),
    ("service_tier", [5, ["flex"]], "invalid_type"),
    ("service_tier", ["no-such-tier"], "unsupported_value"),
    ("tools", [{}, "f", 5], "invalid_type"),
    ("modalities", ["audio", [5]], "invalid_type"),
    ("web_search_options", [[], True], "invalid_type"),
    ("base_url", ["https://elsewhere.example"], "unknown_parameter"),
    ("api_key", ["sk-mine"], "unknown_parameter"),
]


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(customer: Customer, witness: Customer) -> Iterator[None]:
    everything_is_recorded(witness)
    balance, records = customer.balance(), customer.records()
    yield
    everything_is_recorded(witness)
    assert customer.balance() == balance
    assert customer.records() == records


def refused(reply: httpx2.Response, *, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    return error_of(reply)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_json_object_is_a_400(customer: Customer, kind: str) -> None:
    error = refused(customer.post(UNREADABLE[kind]), status=400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] is None
    assert "body" in error["message"]


@pytest.mark.parametrize("field", TWICE)
@pytest.mark.parametrize("order", [1, -1])
def test_a_metered_field_must_not_come_twice(customer: Customer, field: str, order: int) -> None:
    others = {b'"model":"e2e-model"', CHATTING} - set(TWICE[field])
    body = b"{%b}" % b",".join([*TWICE[field], *sorted(others)][::order])
    error = refused(customer.post(body), status=400)
    assert (error["code"], error["param"]) == ("duplicate_parameter", field)


@pytest.mark.parametrize("field", ESCAPED)
@pytest.mark.parametrize("swapped", [False, True])
def test_an_escaped_name_is_the_same_name(customer: Customer, field: str, *, swapped: bool) -> None:
    first, second = TWICE[field]
    second = second.replace(field.encode(), ESCAPED[field], 1)
    others = {b'"model":"e2e-model"', CHATTING} - {first}
    members = [second, first] if swapped else [first, second]
    error = refused(customer.post(b"{%b}" % b",".join([*members, *others])), status=400)
    assert (error["code"], error["param"]) == ("duplicate_parameter", field)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("field", "values", "code"), REFUSED)
def test_a_wrong_value_is_a_400_that_names_the_field(
    customer: Customer, upstream: Upstream, *, field: str, values: Any, code: str, stream: bool
) -> None:
    tag = new_tag()
    for value in values:
        body = chat_body(stream=stream, simulate={"tag": tag}) | {field: value}
        if value is MISSING:
            del body[field]
        error = refused(customer.post(body), status=400)
        assert (error["param"], error["code"]) == (field, code), value
        assert field in error["message"]
    assert upstream.count(tag) == 0


def test_the_wish_for_usage_is_checked_too(customer: Customer) -> None:
    reply = customer.chat(stream=True, stream_options={"include_usage": "yes"})
    assert refused(reply, status=400)["param"] == "stream_options.include_usage"
    twice = b'{"model":"e2e-model","stream":true,"stream_options":{%b,%b},%b}'
    wish = b'"include_usage":true'
    error = refused(customer.post(twice % (wish, wish, CHATTING)), status=400)
    assert error["param"] == "stream_options.include_usage"


@pytest.mark.parametrize(
    "model", ["no-such-model", MODEL.upper(), f" {MODEL}", "x" * 5_000, "a\nb", "../x"]
)
def test_an_unknown_model_is_a_404(customer: Customer, upstream: Upstream, model: str) -> None:
    tag = new_tag()
    error = refused(customer.post(chat_body(simulate={"tag": tag}) | {"model": model}), status=404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert len(error["message"]) < 500
    assert upstream.count(tag) == 0
    assert customer.get("/v1/models/no-such-model").status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer nonsense"},
        {"authorization": "Bearer sk-" + "a" * 38},
        {"authorization": "Bearer sk-" + "é" * 38},
        {"authorization": "Bearer {key}x"},
        {"authorization": "Bearer x{key}"},
        {"authorization": "Bearer {key} {key}"},
        {"authorization": "Bearer nonsense", "x-api-key": "{key}"},
        {"x-api-key": "nonsense"},
        {"cookie": "key={key}"},
    ],
)
def test_without_a_good_key_it_is_a_401(
    customer: Customer, upstream: Upstream, headers: dict[str, str]
) -> None:
    tag = new_tag()
    sent = httpx2.Headers(
        [(name, value.format(key=customer.api_key)) for name, value in headers.items()],
        encoding="utf-8",
    )
    replies = [
        customer.http.post(CHAT, json=chat_body(simulate={"tag": tag}), headers=sent),
        customer.http.get("/v1/models", headers=sent),
        customer.http.get("/v1/usage", headers=sent),
        customer.http.get("/v1/usage/records", headers=sent),
        customer.http.get("/dashboard/billing/subscription", headers=sent),
    ]
    for reply in replies:
        assert refused(reply, status=401)["code"] == "invalid_api_key"
        assert customer.api_key not in reply.text
        assert "www-authenticate" not in reply.headers
    assert upstream.count(tag) == 0


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, identity"])
def test_a_body_that_is_packed_in_an_unknown_way_is_a_415(
    customer: Customer, encoding: str
) -> None:
    error = refused(customer.post(chat_body(), content_encoding=encoding), status=415)
    assert error["code"] == "unsupported_content_encoding"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_a_body_that_is_not_packed_as_it_says_is_a_400(customer: Customer, encoding: str) -> None:
    error = refused(customer.post(chat_body(), content_encoding=encoding), status=400)
    assert error["code"] == "invalid_content_encoding"


def test_a_packed_form_is_a_415(customer: Customer) -> None:
    form = {"content_type": "multipart/form-data; boundary=x", "content_encoding": "gzip"}
    error = refused(customer.post(b"x", "/v1/audio/transcriptions", **form), status=415)
    assert error["code"] == "unsupported_content_encoding"


def test_a_body_that_is_announced_too_large_is_not_read(
    gateway: LiveGateway, customer: Customer
) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {customer.api_key}\r\n"
        f"Content-Length: {LIMIT_BYTES + 1}\r\n\r\n"
    )
    port = int(gateway.origin.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_is_still_sending_sees_the_413(customer: Customer) -> None:
    """Read so late that whoever closes at once would have reset the connection by then."""
    body = b" " * (LIMIT_BYTES + 8 * 2**20)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {customer.api_key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    port = int(customer.gateway.origin.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_large_is_not_read_to_its_end(customer: Customer) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1024):
            sent += 2**20
            yield b" " * 2**20

    try:
        reply = customer.http.post(CHAT, content=pieces(), headers=customer.authorization)
    except httpx2.TransportError:
        pass  # It is closed on those who go on for ever.
    else:
        assert refused(reply, status=413)["code"] == "request_too_large"
    assert LIMIT_BYTES < sent < 512 * 2**20


@pytest.mark.parametrize("stream", [False, True])
def test_without_money_it_is_a_429(pauper: Customer, upstream: Upstream, *, stream: bool) -> None:
    tag = new_tag()
    reply = pauper.chat(stream=stream, simulate={"tag": tag})
    error = refused(reply, status=429)
    assert error["type"] == error["code"] == "insufficient_quota"
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers
    assert upstream.count(tag) == 0
    assert pauper.balance() == 0
    assert json.loads(pauper.get("/v1/models").content)["data"]
