"""The official SDK for Node.js: one program uses it, the tests judge what it saw."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.live import LiveGateway
from tests.end_to_end.node_package import NODE, run
from tests.end_to_end.support import MODEL, Customer, charge_of


@pytest.fixture(scope="module")
def seen(
    package: Path,
    gateway: LiveGateway,
    customer: Customer,
    pauper: Customer,
    suspended: Customer,
) -> Any:
    said = run(
        "node",
        "sdk.mjs",
        folder=package,
        BASE_URL=gateway.quickstart["base_url"],
        API_KEY=customer.api_key,
        POOR_KEY=pauper.api_key,
        SUSPENDED_KEY=suspended.api_key,
        MODEL=MODEL,
    )
    return json.loads(said)


def message_of(completion: Any) -> Any:
    return completion["choices"][0]["message"]


def text_of(chunks: list[Any]) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((NODE / "package-lock.json").read_bytes())
    assert all("resolved" not in package for package in lock["packages"].values())


def test_chat(seen: Any, customer: Customer) -> None:
    chat = seen["chat"]
    assert message_of(chat)["content"].startswith('You said: "Hello".')
    usage = chat["usage"]
    record = customer.record_of(chat["requestID"])
    assert record["charge_nano_usd"] == charge_of(
        usage["prompt_tokens"], usage["completion_tokens"]
    )


def test_streams(seen: Any) -> None:
    plain, asked = seen["plainStream"], seen["usageStream"]
    assert text_of(plain) == text_of(asked) == message_of(seen["chat"])["content"]
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in plain)
    *chunks, last = asked
    assert not any(chunk["usage"] for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == seen["chat"]["usage"]


@pytest.mark.parametrize("kind", ["tools", "streamedTools"])
def test_tools(seen: Any, kind: str) -> None:
    (call,) = message_of(seen[kind])["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert "city" in json.loads(call["function"]["arguments"])


def test_json_mode_and_turns(seen: Any) -> None:
    assert "Hello" in json.loads(message_of(seen["jsonMode"])["content"])["answer"]
    assert 'Before that you said: "One".' in message_of(seen["turns"])["content"]


def test_models(seen: Any) -> None:
    assert MODEL in seen["models"]
    assert seen["model"]["id"] == MODEL


@pytest.mark.parametrize(
    ("case", "kind", "status", "code"),
    [
        ("authentication", "AuthenticationError", 401, "invalid_api_key"),
        ("permission", "PermissionDeniedError", 403, "organization_suspended"),
        ("notFound", "NotFoundError", 404, "model_not_found"),
        ("badRequest", "BadRequestError", 400, "integer_below_min_value"),
        ("tooLarge", "APIError", 413, "request_too_large"),
        ("largeAndUnknown", "AuthenticationError", 401, "invalid_api_key"),
        ("noMoney", "RateLimitError", 429, "insufficient_quota"),
        ("upstreamFailed", "InternalServerError", 502, "upstream_error"),
    ],
)
def test_refusals_are_told_once(seen: Any, case: str, kind: str, status: int, code: str) -> None:
    error = seen[case]
    assert (error["kind"], error["status"], error["code"]) == (kind, status, code)
    assert error["requestID"].startswith("req_")
    assert error["sent"] == 1


def test_a_broken_stream_is_an_error(seen: Any) -> None:
    error = seen["brokenStream"]
    assert error == {"kind": "APIError", "code": "upstream_error", "chunks": error["chunks"]}
    assert error["chunks"] >= 2
