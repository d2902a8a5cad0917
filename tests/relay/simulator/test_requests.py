"""What is refused, and in which words."""

from typing import Any

import pytest

from tests.relay.simulator.support import Upstream, chat_body, stream_body

MISSING = "missing_required_parameter"


def message(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "hi"} | fields]


def bodies() -> list[tuple[dict[str, Any], str | None, str | None]]:
    """Bodies that are refused, with the parameter and the code that the answer names."""
    return [
        ({"messages": message()}, None, None),
        ({"model": "gpt-4o"}, "messages", MISSING),
        (chat_body(messages=[]), "messages", "empty_array"),
        (chat_body(messages=message() * 2049), "messages", "array_above_max_length"),
        (chat_body(messages="hi"), "messages", "invalid_type"),
        (chat_body(messages=["hi"]), "messages[0]", "invalid_type"),
        (chat_body(messages=[{"content": "hi"}]), "messages[0].role", MISSING),
        (chat_body(messages=message(role="robot")), "messages[0].role", "invalid_value"),
        (chat_body(messages=message(content=None)), "messages[0].content", None),
        (chat_body(messages=message(content=[{"type": "smell"}])), None, "invalid_value"),
        (chat_body(messages=message(role="tool")), "messages[0].tool_call_id", MISSING),
        (chat_body(model=7), "model", "invalid_type"),
        (chat_body(stream="yes"), "stream", "invalid_type"),
        (chat_body(n=0), "n", "invalid_type"),
        (chat_body(n=129), "n", "invalid_type"),
        (chat_body(n=True), "n", "invalid_type"),
        (chat_body(max_tokens=0), "max_tokens", "invalid_type"),
        (chat_body(max_completion_tokens=1.5), "max_completion_tokens", "invalid_type"),
        (chat_body(temperature=3), "temperature", "invalid_type"),
        (chat_body(stop=7), "stop", "invalid_type"),
        (chat_body(top_logprobs=2), "top_logprobs", None),
        (chat_body(stream_options={"include_usage": True}), "stream_options", None),
        (chat_body(tools=[{"type": "function"}]), "tools[0].function", MISSING),
        (chat_body(response_format={"type": "xml"}), "response_format.type", "invalid_value"),
        (chat_body(response_format={"type": "json_schema"}), None, MISSING),
        (chat_body(tool_choice={"type": "function", "function": {"name": "x"}}), None, None),
        (chat_body(tool_choice={"type": "function"}), "tool_choice", None),
        (chat_body({"dealy_ms": 1}), "simulate", "invalid_type"),
        (chat_body({"fault": "fire"}), "simulate.fault", "invalid_type"),
        (chat_body({"fault": "no_done"}), "simulate.fault", None),
        (stream_body({"fault": "no_done", "status": 500}), "simulate.fault", None),
        (chat_body({"chunks": 10_000}, n=3), "simulate.chunks", None),
        (chat_body({"text": "x" * 600_000}, n=2), "simulate.text", None),
        (chat_body({"headers": {"x-bad": "a\r\nb: c"}}), None, "invalid_type"),
    ]


@pytest.mark.parametrize(("body", "param", "code"), bodies())
def test_a_bad_request_is_refused(
    upstream: Upstream, body: dict[str, Any], param: str | None, code: str | None
) -> None:
    response = upstream.call(body)
    error = response.document()["error"]

    assert response.status == 400
    assert response.header("content-type") == "application/json"
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["code"] == code
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    "body", [b"", b"{", b"hello", b'{"model":"\xff"}', b'{"x":' + b"[" * 100_000, b"[]"]
)
def test_a_body_that_is_no_json_object_is_refused(upstream: Upstream, body: bytes) -> None:
    response = upstream.call(body)

    assert response.status == 400
    assert response.document()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("model", ["unknown-model", "gpt 4", "", "gpt-4\n", "g" * 200, "gpt-4ö"])
def test_an_unlikely_model_is_unknown(upstream: Upstream, model: str) -> None:
    response = upstream.call(chat_body(model=model))

    assert response.status == (404 if model else 400)
    assert response.document()["error"]["code"] == ("model_not_found" if model else None)


@pytest.mark.parametrize("model", ["gpt-4-1106-preview", "ft:gpt-4o:org::id", "meta/llama-3:70b"])
def test_any_likely_model_is_known(upstream: Upstream, model: str) -> None:
    assert upstream.call(chat_body(model=model)).document()["model"] == model
