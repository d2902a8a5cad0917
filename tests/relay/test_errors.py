import json
from typing import Any

import pytest

from relay import errors
from relay.errors import RelayError, render, render_event

NO_RETRY = {"x-should-retry": "false"}
# Constructor, status, type, code, param, headers.
TABLE: list[tuple[RelayError, int, str, str | None, str | None, dict[str, str]]] = [
    (errors.missing_api_key(), 401, "invalid_request_error", "invalid_api_key", None, {}),
    (errors.invalid_api_key(), 401, "invalid_request_error", "invalid_api_key", None, {}),
    (
        errors.organization_suspended(),
        403,
        "invalid_request_error",
        "organization_suspended",
        None,
        {},
    ),
    (errors.permission_denied("No."), 403, "invalid_request_error", "permission_denied", None, {}),
    (errors.project_not_found(), 404, "invalid_request_error", "project_not_found", None, {}),
    (errors.model_not_found("x"), 404, "invalid_request_error", "model_not_found", "model", {}),
    (errors.unknown_url("GET", "/v1/x"), 404, "invalid_request_error", "unknown_url", None, {}),
    (
        errors.method_not_allowed("PUT", ("GET", "HEAD")),
        405,
        "invalid_request_error",
        "method_not_allowed",
        None,
        {"allow": "GET, HEAD"},
    ),
    (errors.request_too_large(9), 413, "invalid_request_error", "request_too_large", None, {}),
    (
        errors.unsupported_content_encoding("zstd"),
        415,
        "invalid_request_error",
        "unsupported_content_encoding",
        None,
        {},
    ),
    (
        errors.insufficient_quota(),
        429,
        "insufficient_quota",
        "insufficient_quota",
        None,
        NO_RETRY,
    ),
    (
        errors.rate_limited("3 per minute", retry_after_seconds=1.5),
        429,
        "requests",
        "rate_limit_exceeded",
        None,
        {"retry-after": "2", "retry-after-ms": "1500"},
    ),
    (
        errors.upstream_unavailable(),
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        None,
        {"retry-after": "2", "retry-after-ms": "2000"},
    ),
    (
        errors.upstream_refused_credential(),
        503,
        "service_unavailable_error",
        "upstream_refused",
        None,
        {"retry-after": "30", "retry-after-ms": "30000"},
    ),
    (errors.upstream_failed(), 502, "server_error", "upstream_error", None, NO_RETRY),
    (errors.upstream_timeout(), 504, "server_error", "upstream_timeout", None, NO_RETRY),
    (
        errors.server_draining(),
        503,
        "service_unavailable_error",
        "server_draining",
        None,
        {"retry-after": "1", "retry-after-ms": "1000"},
    ),
    (
        errors.store_unavailable(),
        503,
        "service_unavailable_error",
        "service_unavailable",
        None,
        {"retry-after": "2", "retry-after-ms": "2000"},
    ),
    (errors.internal(), 500, "server_error", None, None, {}),
    (errors.internal(retry=False), 500, "server_error", None, None, NO_RETRY),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[1]}-{row[0].code}")
def test_what_the_client_sees(
    row: tuple[RelayError, int, str, str | None, str | None, dict[str, str]],
) -> None:
    error, status, kind, code, param, extra = row
    got_status, raw_headers, body = render(error)
    headers = {name.decode(): value.decode() for name, value in raw_headers}
    assert got_status == status
    assert headers == {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **extra,
    }
    assert list(json.loads(body)) == ["error"]
    told: dict[str, Any] = json.loads(body)["error"]
    assert told == {"message": error.message, "type": kind, "param": param, "code": code}
    assert len(told["message"]) > 2


def test_out_of_money_is_recognised_by_its_words_and_never_asks_to_come_back() -> None:
    error = errors.insufficient_quota()
    assert "quota" in error.message
    assert "billing" in error.message
    assert b"retry-after" not in dict(error.headers)


@pytest.mark.parametrize(("seconds", "expected"), [(0, ("1", "1")), (0.0006, ("1", "1"))])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_wait_is_at_least_a_millisecond(
    seconds: float, sign: int, expected: tuple[str, str]
) -> None:
    values = tuple(value.decode() for _, value in errors.retry_headers(seconds * sign))
    assert values == expected


def test_a_wait_is_at_most_what_both_sdks_obey() -> None:
    assert errors.retry_headers(3600)[0] == (b"retry-after", b"60")
    message = errors.rate_limited("x", retry_after_seconds=3600).message
    assert "try again in 60s" in message


@pytest.mark.parametrize(
    "name", ["a\r\n\r\ndata: {}", 'a"}}\n', "\u2028", "\x00", "\ud800", "x" * 100_000]
)
def test_no_name_breaks_out_of_an_event(name: str) -> None:
    event = render_event(errors.model_not_found(name))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    assert len(event) < 1000
    assert json.loads(event[6:])["error"]["code"] == "model_not_found"


def test_a_message_is_bounded() -> None:
    error = errors.permission_denied("x" * 100_000)
    assert len(render(error)[2]) < 2200


def test_an_error_says_what_it_is_in_a_log() -> None:
    assert str(errors.internal()).startswith("500 server_error: ")
    assert str(errors.upstream_timeout()).startswith("504 upstream_timeout: ")
