"""What real clients of the OpenAI API send, oddities included, gets what they can read."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.end_to_end.support import Customer, error_of, events_of

HI = [{"role": "user", "content": "hi"}]
CHAT_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PYTHON_SDK = {
    "accept": "application/json",
    "user-agent": "OpenAI/Python 3.3.1",
    "x-stainless-lang": "python",
    "x-stainless-async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
    "x-stainless-raw-response": "true",
}
NODE_SDK = {
    "accept": "*/*",
    "user-agent": "OpenAI/JS 7.5.0",
    "sec-fetch-mode": "cors",
    "x-stainless-lang": "js",
    "x-stainless-timeout": "600",
}
NO_PENALTIES = {"presence_penalty": 0, "frequency_penalty": 0, "top_p": 1}


@dataclass(frozen=True)
class Chat:
    body: dict[str, Any]
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)


CHATS = {
    "ChatHub": Chat(
        {"model": "gpt-4-1106-preview", "messages": HI, "stream": True},
        headers={"origin": "chrome-extension://iaakpnchhognanibcahlpcplchdfmgma"},
    ),
    "ChatHub, with a picture": Chat(
        {
            "model": "gpt-4-vision-preview",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"},
                        },
                    ],
                }
            ],
            "max_tokens": 500,
            "stream": True,
        }
    ),
    "NextChat": Chat(
        {
            "model": "gpt-4o-mini",
            "messages": HI,
            "stream": True,
            "temperature": 0.5,
            **NO_PENALTIES,
        },
        headers={"cache-control": "no-store", "accept": "application/json"},
    ),
    "NextChat, reasoning": Chat(
        {
            "model": "o3-mini",
            "messages": [{"role": "developer", "content": "Formatting re-enabled"}, *HI],
            "stream": True,
            "temperature": 1,
            "max_completion_tokens": 4000,
            **NO_PENALTIES,
        },
        headers={"origin": "https://tauri.localhost", "accept": "application/json"},
    ),
    "NextChat, with /v1 typed": Chat(
        {"model": "gpt-4o-mini", "messages": HI, "stream": False}, "/v1/v1/chat/completions"
    ),
    "OpenAI Translator": Chat(
        {
            "model": "gpt-3.5-turbo",
            "messages": [{"role": "user", "content": "Translate: 你好"}],
            "temperature": 0,
            "top_p": 1,
            "frequency_penalty": 1,
            "presence_penalty": 1,
            "stream": True,
        },
        headers={"user-agent": "Mozilla/5.0 (Macintosh) chatall/1.29.40 Chrome/114.0.5735.134"},
    ),
    "Lobe-Chat": Chat(
        {
            "model": "gpt-4o-mini",
            "messages": [{"content": "hello", "role": "user"}],
            "stream": True,
            "enabledContextCaching": False,
            "thinking": {"type": "disabled", "budget_tokens": 0},
            "user": "u1",
            "stream_options": {"include_usage": True},
        },
        headers=NODE_SDK,
    ),
    "Open WebUI, a title": Chat(
        {"model": "gpt-4o-mini", "messages": HI, "stream": False, "max_tokens": 1000},
        headers={"user-agent": "Python/3.11 aiohttp/3.12", "x-openwebui-user-email": "a@b.example"},
    ),
    "Cherry Studio": Chat(
        {"model": "gpt-4o-mini", "messages": [{"role": "system", "content": "test"}, *HI]},
        headers={"x-api-key": "{key}", "http-referer": "https://cherry.example", "x-title": "C"},
    ),
    "LibreChat": Chat(
        {
            "model": "gpt-5",
            "messages": HI,
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": "665f",
            "max_completion_tokens": 2048,
        },
        headers={**NODE_SDK, "user-agent": "langchainjs-openai/1.0.0 (node/v24; linux; x64)"},
    ),
    "Continue": Chat(
        {
            "model": "gpt-4o",
            "messages": HI,
            "max_tokens": 4096,
            "stream": True,
            "stop": ["a1", "b2", "c3", "d4", "e5"],
            "parallel_tool_calls": False,
            "tools": [CHAT_TOOL],
            "stream_options": {"include_usage": True},
        },
        headers={**NODE_SDK, "api-key": "{key}"},
    ),
    "Roo": Chat(
        {
            "model": "gpt-4o",
            "messages": [
                {
                    "role": "system",
                    "content": [
                        {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}
                    ],
                },
                *HI,
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [],
            "temperature": 0,
        },
        headers={**NODE_SDK, "user-agent": "RooCode/3.52.1"},
    ),
    "Aider": Chat(
        {"model": "gpt-4o", "messages": HI, "stream": True, "temperature": 0}, headers=PYTHON_SDK
    ),
    "LangChain": Chat(
        {"model": "gpt-4o", "messages": HI, "stream": True, "max_completion_tokens": 256},
        headers={**PYTHON_SDK, "user-agent": "AsyncOpenAI/Python 2.45.0"},
    ),
    "the SDK, a base URL without /v1": Chat(
        {"model": "gpt-4o-mini", "messages": HI}, "/chat/completions", headers=PYTHON_SDK
    ),
    "Dify, a ping": Chat(
        {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "ping"}],
            "max_tokens": 5,
        },
        headers={"user-agent": "python-requests/2.32"},
    ),
    "Dify": Chat(
        {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "你好"}],
            "stream": True,
            "user": "d1",
            "tool_choice": "auto",
            "tools": [CHAT_TOOL],
        },
        headers={"accept-charset": "utf-8"},
    ),
    "n8n": Chat(
        {"model": "gpt-4o-mini", "messages": HI}, headers={"openai-organization": "", **NODE_SDK}
    ),
}


@pytest.mark.parametrize("client", CHATS)
def test_chats(witness: Customer, client: str) -> None:
    """On the free quota of a first run, as whoever tries it out would."""
    chat = CHATS[client]
    headers = {
        "user-agent": "somebody's",
        **{name: value.format(key=witness.api_key) for name, value in chat.headers.items()},
        **witness.authorization,
    }
    reply = witness.http.post(chat.path, json=chat.body, headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "content-encoding" not in reply.headers
    if not chat.body.get("stream"):
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["object"] == "chat.completion"
        return
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-accel-buffering"] == "no"
    assert "content-length" not in reply.headers
    events = events_of(reply.content)
    assert events[-1] == b"[DONE]"
    asked = "stream_options" in chat.body
    assert sum(b'"choices":[]' in event for event in events) == asked


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1//models",
        "/v1/models/",
        "/models",
        "/v1/models?user=u1",
        "/v1/models?client_version=0.155.0",
        "/v1/models?limit=1",
    ],
)
def test_lists_of_models(witness: Customer, path: str) -> None:
    """Some clients drop the whole list for one `null`, others read fields that must be typed."""
    reply = witness.http.get(
        "/", extensions={"target": path.encode()}, headers=witness.authorization
    )
    assert reply.status_code == 200
    assert b"null" not in reply.content
    listed = reply.json()
    assert listed["object"] == "list"
    assert len(listed["data"]) > 100
    for model in listed["data"]:
        when_it_ends = {"deprecated_on", "retired"} & model.keys()
        assert model.keys() - when_it_ends == {"id", "object", "created", "owned_by"}
        assert len(when_it_ends) in {0, 2}
        assert isinstance(model["created"], int)
        one = f"/v1/models/{model['id']}"
        assert model["object"] == "model", one


def test_models_whose_ids_have_punctuation(witness: Customer) -> None:
    for model in witness.ask("/v1/models")["data"]:
        if ":" in model["id"] or "." in model["id"]:
            assert witness.ask(f"/v1/models/{model['id']}") == model


def test_what_codex_and_continue_try_first_is_refused_at_once(witness: Customer) -> None:
    # To this status alone the agent answers with HTTP at once.
    handshake = {"connection": "upgrade", "upgrade": "websocket", **witness.authorization}
    reply = witness.http.get("/v1/responses", headers=handshake)
    assert (reply.status_code, error_of(reply)["code"]) == (426, "upgrade_required")
    reply = witness.post({"model": "gpt-4o", "prompt": "def f("}, "/v1/fim/completions")
    assert (reply.status_code, error_of(reply)["type"]) == (404, "invalid_request_error")
