"""What real clients send besides chats, exactly as they send it: see docs/clients.md."""

import json
from typing import Any

import httpx2
import pytest
from backports import zstd

from tests.end_to_end.support import Customer, error_of, events_of
from tests.end_to_end.test_real_clients import HI, NODE_SDK, PYTHON_SDK

AI_SDK = {
    "user-agent": "ai/7.0.77 ai-sdk/openai-compatible/3.0.35 ai-sdk/provider-utils/5.0.29"
    " runtime/node.js/24"
}
CODEX = {
    "accept": "text/event-stream",
    "user-agent": "codex_cli_rs/0.155.0 (Ubuntu 24.4.0; x86_64) xterm",
    "originator": "codex_cli_rs",
    "session_id": "0199",
}
TURN = {
    "model": "gpt-5.4",
    "instructions": "You are Codex",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    ],
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": None,
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199",
    "client_metadata": {"session_id": "0199"},
}


def responses_of(reply: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream of the Responses API."""
    assert reply.status_code == 200, reply.text
    found = []
    for one in reply.text.removesuffix("\n\n").split("\n\n"):
        name, data = one.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"model": "gpt-4o-mini", "stream_options": {"include_usage": True}}, PYTHON_SDK),
        ({"model": "gpt-4o", "temperature": 0.1}, PYTHON_SDK | {"x-stainless-read-timeout": "60"}),
        (
            {
                "model": "gpt-5",
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "read",
                            "parameters": {"type": "object", "properties": {}},
                        },
                    }
                ],
                "tool_choice": "auto",
                "stream_options": {"include_usage": True},
                "max_completion_tokens": 8192,
            },
            AI_SDK,
        ),
    ],
    ids=["the Python SDK", "LlamaIndex", "Cline"],
)
def test_streamed_chats(customer: Customer, body: dict[str, Any], headers: dict[str, str]) -> None:
    reply = customer.http.post(
        "/v1/chat/completions",
        json={**body, "messages": HI, "stream": True},
        headers={**headers, **customer.authorization},
    )
    events = events_of(reply.content)
    assert events[-1] == b"[DONE]"
    assert sum(b'"choices":[]' in event for event in events) == ("stream_options" in body)


def test_embeddings_of_the_sdks_stay_base64(witness: Customer) -> None:
    body = {"input": ["a", "b"], "model": "text-embedding-3-small", "encoding_format": "base64"}
    reply = witness.http.post(
        "/v1/embeddings", json=body, headers={**PYTHON_SDK, **witness.authorization}
    )
    vectors = [one["embedding"] for one in reply.json()["data"]]
    assert [type(vector) for vector in vectors] == [str, str]


def test_a_form_of_the_python_sdk(customer: Customer) -> None:
    sound = b"\xff\xfb\x90\x64" + bytes(413)
    reply = customer.http.post(
        "/v1/audio/transcriptions",
        data={"model": "whisper-1"},
        files={"file": ("a.mp3", sound * 4, "audio/mpeg")},
        headers={**PYTHON_SDK, **customer.authorization},
    )
    assert reply.status_code == 200, reply.text
    assert isinstance(reply.json()["text"], str)


def test_a_completion_of_llamaindex(witness: Customer) -> None:
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": "hi", "stream": False, "temperature": 0.1}
    assert witness.post(body, "/v1/completions").json()["object"] == "text_completion"


def test_a_picture_of_nextchat(customer: Customer) -> None:
    body = {
        "model": "dall-e-3",
        "prompt": "a cat",
        "response_format": "b64_json",
        "n": 1,
        "size": "1024x1024",
        "quality": "standard",
        "style": "vivid",
    }
    (picture,) = customer.post(body, "/v1/images/generations").json()["data"]
    assert isinstance(picture["b64_json"], str)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?start_date=2026-11-01&end_date=2026-11-21",
        "?path=dashboard&path=billing&path=usage",
    ],
)
def test_balances_of_nextchat(witness: Customer, query: str) -> None:
    headers = {"cache-control": "no-store", "content-type": "application/json"}
    answers = [
        witness.http.get(path + query, headers={**headers, **witness.authorization})
        for path in ("/dashboard/billing/usage", "/dashboard/billing/subscription")
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert isinstance(answers[0].json()["total_usage"], float)
    assert isinstance(answers[1].json()["hard_limit_usd"], float)


@pytest.mark.parametrize(
    ("origin", "method", "names"),
    [
        (
            "https://chat.example",
            "POST",
            (
                "authorization,content-type,user-agent,x-stainless-arch,x-stainless-helper-method,"
                "x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,"
                "x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
            ),
        ),
        ("moz-extension://0a1b", "GET", "authorization,content-type"),
        ("app://obsidian.md", "POST", "authorization,content-type"),
    ],
)
def test_preflights(http: httpx2.Client, origin: str, method: str, names: str) -> None:
    asked = {"origin": origin, "access-control-request-method": method}
    reply = http.options(
        "/v1/chat/completions", headers={**asked, "access-control-request-headers": names}
    )
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (204, "*")
    allowed = reply.headers["access-control-allow-headers"].replace(" ", "").split(",")
    assert allowed == names.split(",")
    assert method in reply.headers["access-control-allow-methods"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-openwebui-user-email": "a@b.example", "x-openwebui-user-role": "admin"},
        {"x-api-key": "{key}", "http-referer": "https://cherry.example", "x-title": "Cherry"},
        {"openai-organization": "", "openai-project": ""},
    ],
    ids=["Open WebUI", "Cherry Studio", "n8n"],
)
def test_lists_of_models(witness: Customer, headers: dict[str, str]) -> None:
    named = {name: value.format(key=witness.api_key) for name, value in headers.items()}
    reply = witness.http.get("/v1/models", headers={**named, **witness.authorization})
    assert reply.status_code == 200
    assert {"gpt-4o", "gpt-5"} <= {model["id"] for model in reply.json()["data"]}


@pytest.mark.parametrize("packed", [False, True])
def test_a_turn_of_codex(customer: Customer, *, packed: bool) -> None:
    body = json.dumps(TURN).encode()
    headers = {**CODEX, **customer.authorization, "content-type": "application/json"}
    if packed:
        body, headers["content-encoding"] = zstd.compress(body), "zstd"
    events = responses_of(customer.http.post("/v1/responses", content=body, headers=headers))
    last = events[-1]
    assert last["type"] == "response.completed"
    assert last["response"]["id"].startswith("resp_")
    usage = last["response"]["usage"]
    assert {"input_tokens", "output_tokens", "total_tokens"} <= usage.keys()
    assert "cached_tokens" in usage["input_tokens_details"]
    assert "reasoning_tokens" in usage["output_tokens_details"]


def test_codex_may_forget_the_model(customer: Customer) -> None:
    reply = customer.post({"input": [], "stream": True, "store": False}, "/v1/responses", **CODEX)
    assert reply.status_code == 400
    error = error_of(reply)
    assert (error["code"], error["param"]) == ("missing_required_parameter", "model")


def test_the_ai_sdk_refers_to_what_was_said_before(customer: Customer) -> None:
    said = {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    first = {"model": "gpt-5", "input": [said], "stream": True}
    done = responses_of(customer.post(first, "/v1/responses", **AI_SDK))[-1]["response"]
    (item,) = [one["id"] for one in done["output"] if one["type"] == "message"]
    following = {**first, "input": [said, {"type": "item_reference", "id": item}, said]}
    answer = responses_of(customer.post(following, "/v1/responses", **AI_SDK))
    assert answer[-1]["type"] == "response.completed"


@pytest.mark.parametrize("path", ["/v1/messages?beta=true", "/v1/messages/count_tokens?beta=true"])
def test_claude_code_is_told_that_it_is_not_served(customer: Customer, path: str) -> None:
    body = {"model": "claude-sonnet-4-6", "max_tokens": 32000, "stream": True, "messages": HI}
    reply = customer.post(body, path, anthropic_version="2023-06-01", **NODE_SDK)
    assert (reply.status_code, error_of(reply)["code"]) == (404, "unknown_url")
