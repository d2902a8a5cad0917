"""Routes, keys, headers and error statuses."""

import asyncio
import json
import socket
from typing import Any

import openai
import pytest
from openai import OpenAI

from relay.simulator import application
from relay.simulator.asgi import CACHED_REPLIES, MAX_BODY_BYTES, Simulator
from tests.relay.simulator.shapes import model_check
from tests.relay.simulator.support import (
    KEY,
    RawResponse,
    Upstream,
    chat_body,
    response_parse,
    stream_body,
)

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "query_string": b"",
    "headers": [(b"authorization", b"Bearer k")],
}


def send(upstream: Upstream, head: str) -> RawResponse:
    """The answer to a request without a body."""
    received = bytearray()
    host, port = upstream.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}\r\nHost: simulator\r\nConnection: close\r\n\r\n".encode())
        while part := connection.recv(1 << 16):
            received += part
    return response_parse(bytes(received))


def test_models_are_listed(client: OpenAI) -> None:
    models = list(client.models.list())

    assert {"gpt-4o", "gpt-4", "gpt-3.5-turbo"} <= {model.id for model in models}
    for model in models:
        model_check(model.to_dict(exclude_unset=True))


@pytest.mark.parametrize("model", ["gpt-4o", "meta/llama-3:70b"])
def test_a_model_is_described(client: OpenAI, model: str) -> None:
    assert client.models.retrieve(model).id == model


def test_an_unknown_model_is_not_described(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("unknown-model")

    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "GET /v1",
        "POST /v1/files",
        "GET /v1/embeddings",
        "GET /v1/responses/",
        "POST /v1/responses/resp_1/unknown",
        "GET /v1/chat/completions",
        "POST /v1/models",
        "GET /v1/chat/completions/",
    ],
)
def test_any_other_url_is_unknown(upstream: Upstream, line: str) -> None:
    response = send(upstream, f"{line} HTTP/1.1\r\nAuthorization: Bearer {KEY}")
    error = response.document()["error"]

    assert response.status == 404
    assert error["code"] == "unknown_url"
    assert error["message"] == f"Invalid URL ({line})"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("X-Api-Key: sk-good", None),
        ("Authorization:", None),
        ("Authorization: Bearer", None),
        ("Authorization: Basic c2s=", None),
        ("Authorization: Bearer sk-invalid", "invalid_api_key"),
    ],
)
def test_a_bad_key_is_refused(upstream: Upstream, authorization: str, code: str | None) -> None:
    response = send(upstream, f"GET /v1/models HTTP/1.1\r\n{authorization}")
    error = response.document()["error"]

    assert response.status == 401
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert "sk-invalid" not in error["message"]


def test_the_scheme_is_case_insensitive(upstream: Upstream) -> None:
    assert send(upstream, "GET /v1/models HTTP/1.1\r\nAuthorization: bearer  k ").status == 200


def test_headers_are_those_of_openai(upstream: Upstream) -> None:
    for body in (chat_body(), stream_body(), chat_body({"status": 500})):
        response = upstream.call(body)
        request_id = response.header("x-request-id")

        assert request_id is not None
        assert request_id.startswith("req_")
        assert response.header("openai-organization") == "simulated-organization"
        assert response.header("openai-version") == "2020-10-01"
        assert response.header("openai-processing-ms") == "7"
        assert response.header("x-ratelimit-remaining-tokens") is not None
        assert "simulated-cookie" in (response.header("set-cookie") or "")


def test_the_same_request_has_the_same_answer_to_the_byte(upstream: Upstream) -> None:
    for body in (chat_body(n=2), stream_body(n=2), {"model": "gpt-4o"}):
        first, again = upstream.call(body), upstream.call(body)

        assert first.body == again.body
        assert first.header("x-request-id") == again.header("x-request-id")


def test_more_headers_replace_ours(upstream: Upstream) -> None:
    headers = {"X-Request-Id": "req_mine", "x-long": "y" * 50_000}
    response = upstream.call(chat_body({"headers": headers}))

    assert response.header("x-request-id") == "req_mine"
    assert response.header("x-long") == "y" * 50_000


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "invalid_api_key"),
        (403, openai.PermissionDeniedError, "unsupported_country_region_territory"),
        (404, openai.NotFoundError, "model_not_found"),
        (409, openai.ConflictError, None),
        (422, openai.UnprocessableEntityError, None),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, None),
        (503, openai.InternalServerError, "server_is_overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_status_is_what_the_sdk_expects(
    client: OpenAI, status: int, kind: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hi"}],
            stream=stream,
            extra_body={"simulate": {"status": status}},
        )

    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.response.headers["content-type"] == "application/json"


def test_an_error_can_be_worded(upstream: Upstream) -> None:
    error = {"message": "No money.", "type": "insufficient_quota", "code": "insufficient_quota"}
    response = upstream.call(chat_body({"status": 429, "error": error}))

    assert response.document() == {"error": error | {"param": None}}


@pytest.mark.parametrize(
    ("simulate", "seconds", "milliseconds"),
    [
        ({"status": 429}, "1", None),
        ({"status": 503}, "1", None),
        ({"status": 500}, None, None),
        ({"status": 429, "retry_after": ""}, None, None),
        ({"status": 429, "retry_after": 7, "retry_after_ms": 6500.5}, "7", "6500.5"),
        ({"status": 500, "retry_after": "soon"}, "soon", None),
    ],
)
def test_when_to_come_back_is_told(
    upstream: Upstream, simulate: dict[str, Any], seconds: str | None, milliseconds: str | None
) -> None:
    response = upstream.call(chat_body(simulate))

    assert response.header("retry-after") == seconds
    assert response.header("retry-after-ms") == milliseconds


async def test_finished_answers_are_kept_in_bounds() -> None:
    simulator = Simulator()
    sent: list[Any] = []

    async def call(body: dict[str, Any]) -> bytes:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(body).encode()}

        async def keep(message: Any) -> None:
            sent.append(message)

        await simulator(SCOPE, receive, keep)
        answer: bytes = sent[-1]["body"]
        return answer

    first = await call(chat_body({"text": "answer 0"}))
    for number in range(1, 3 * CACHED_REPLIES):
        await call(chat_body({"text": f"answer {number}"}))
        # What is asked for all the time stays.
        kept = dict(simulator._replies)
        assert await call(chat_body({"text": "answer 0"})) == first
        assert dict(simulator._replies) == kept
    await call(chat_body({"text": "x" * 100_000}))

    assert len(simulator._replies) == CACHED_REPLIES
    assert max(map(len, simulator._replies)) < 1_000


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read_whole() -> None:
    block = b" " * (MAX_BODY_BYTES // 4)
    read = 0
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": block, "more_body": True}

    async def keep(message: Any) -> None:
        sent.append(message)

    await Simulator()(SCOPE, receive, keep)

    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["error"]["type"] == "invalid_request_error"
    assert read == 5


async def test_a_client_that_leaves_before_its_body_gets_nothing() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send_nothing(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/models", "headers": []}
    await Simulator()(scope, receive, send_nothing)


async def test_the_server_starts_and_stops_it() -> None:
    events = asyncio.Queue[dict[str, Any]]()
    answers: list[str] = []
    for kind in ("lifespan.startup", "lifespan.shutdown"):
        events.put_nowait({"type": kind})

    async def keep(message: Any) -> None:
        answers.append(message["type"])

    await application({"type": "lifespan"}, events.get, keep)

    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
