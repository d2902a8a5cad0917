import json
from typing import Any

import pytest

from relay.metering.meter import meter_body

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
ERROR = {"message": "The server is on fire", "type": "server_error", "param": None, "code": "fire"}


def completion(**fields: Any) -> bytes:
    answer = {
        "id": "chatcmpl-2",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "service_tier": "flex",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}],
        "usage": USAGE,
        **fields,
    }
    return json.dumps(answer, ensure_ascii=False).encode()


def test_a_completion_is_read() -> None:
    reading = meter_body(completion())
    assert reading.kind == "completion"
    assert reading.usage == USAGE
    assert reading.upstream_id == "chatcmpl-2"
    assert reading.served_model == "gpt-4o-2024-08-06"
    assert reading.served_tier == "flex"
    assert reading.error is None
    assert reading.output_text() == "Hello"


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([], ""),
        ([{}], ""),
        ([{"message": {"content": "a"}}, {"message": {"refusal": "b"}}], "a\nb"),
        ([{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}], "f{}"),
        ([{"message": {"reasoning_content": "r", "content": None}}], "r"),
        ([{"message": {"content": [{"type": "text", "text": "part"}]}}], "part"),
        (["odd"], "odd"),
    ],
)
def test_the_output_of_a_completion(choices: Any, expected: str) -> None:
    assert meter_body(completion(choices=choices, usage=None)).output_text() == expected


def test_a_completion_may_lack_everything_else() -> None:
    reading = meter_body(b'{"choices":[],"usage":{},"model":5,"service_tier":null}')
    assert reading.kind == "completion"
    assert reading.usage is None
    assert (reading.served_model, reading.served_tier, reading.upstream_id) == (None, None, None)


def test_an_error_with_a_status_of_success() -> None:
    reading = meter_body(json.dumps({"error": ERROR}).encode())
    assert reading.kind == "error"
    assert reading.error is not None
    assert reading.error.message == ERROR["message"]
    assert reading.output_text() == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices":{}}',
        b'{"choices":null}',
        b'{"data":[]}',
        completion()[:-1],
        completion() + b"x",
        completion().replace(b"Hello", b"\xff"),
        b"data: {}\n\n",
        b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_completion_is_unreadable(body: bytes) -> None:
    reading = meter_body(body)
    assert reading.kind == "unreadable"
    assert reading.usage is None
    assert reading.output_text() == ""
