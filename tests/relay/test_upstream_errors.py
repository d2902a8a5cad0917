import json

import pytest

from relay.errors import render
from relay.upstream_errors import from_upstream, from_upstream_event, scrub

CONTEXT = {
    "message": "This model's maximum context length is 8192 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}


def test_what_is_wrong_with_the_call_is_passed_on() -> None:
    error = from_upstream(400, CONTEXT)
    status, _, body = render(error)
    assert status == 400
    assert json.loads(body) == {"error": CONTEXT}


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_the_class_of_a_client_error_stays(status: int) -> None:
    error = from_upstream(status, {"message": "no", "type": "t", "code": None})
    assert (error.status, error.message, error.type, error.code) == (status, "no", "t", None)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (401, {"message": "Incorrect API key provided: sk-ab", "code": "invalid_api_key"}, 503),
        (402, CONTEXT, 503),
        (403, CONTEXT, 503),
        (407, None, 503),
        (429, {"message": "Rate limit reached for org-abcdefgh", "type": "tokens"}, 503),
        (503, None, 503),
        (408, None, 504),
        (500, CONTEXT, 502),
        (502, "<html>", 502),
        (504, None, 502),
        (599, None, 502),
        (302, CONTEXT, 502),
        (400, None, 502),
        (400, {"message": 5}, 502),
        (400, {"message": "out of money", "type": "insufficient_quota"}, 502),
    ],
)
def test_the_account_of_the_operator_stays_between_us(
    status: int, error: object, expected: int
) -> None:
    told = from_upstream(status, error)
    assert told.status == expected
    shown = json.dumps([told.message, told.type, told.code])
    assert not any(word in shown for word in ("sk-ab", "org-abc", "context", "money", "html"))


def test_a_busy_upstream_tells_how_long_to_wait() -> None:
    assert (b"retry-after", b"7") in from_upstream(429, None, retry_after_seconds=7).headers


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        ({"message": "Boom", "type": "server_error", "code": "x"}, "Boom", "x"),
        ({"message": "Boom", "code": 500}, "Boom", "500"),
        ("just text", "just text", None),
        ({"code": "rate_limit_exceeded", "message": "TPM of org-12345678"}, None, "upstream_error"),
        ({"type": "requests", "message": "pool"}, None, "upstream_error"),
        (["?"], None, "upstream_error"),
        (True, None, "upstream_error"),
    ],
)
def test_an_error_inside_of_a_stream(error: object, message: str | None, code: str | None) -> None:
    told = from_upstream_event(error)
    assert told.code == code
    assert told.message == message or message is None
    assert "org-" not in told.message
    assert "pool" not in told.message


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcd1234",
        "sk-ab**************wxyz",
        "org-AbCdEf123456",
        "proj_AbCdEf12",
        "Bearer x",
    ],
)
def test_secrets_are_taken_out_of_upstreams_words(secret: str) -> None:
    assert scrub(f"Limit in {secret}, sorry") in (
        "Limit in [redacted], sorry",
        "Limit in [redacted] sorry",
    )


@pytest.mark.parametrize("text", ["a risk-averse task-force", "the organization-wide", "disk-full"])
def test_ordinary_words_stay(text: str) -> None:
    assert scrub(text) == text
