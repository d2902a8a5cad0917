"""Every error that a client of the relay may see, and the one place that renders them.

The body always has OpenAI's shape, because the SDKs read `error.message`, `error.type`,
`error.param` and `error.code` from it and choose their exception class by the status. Both official
SDKs obey `x-should-retry` before they look at the status.
"""

import math
from dataclasses import dataclass
from typing import Final

import msgspec
from typing_extensions import override

Headers = tuple[tuple[bytes, bytes], ...]

DO_NOT_RETRY: Final[Headers] = ((b"x-should-retry", b"false"),)
# openai-node ignores a longer wait and retries at once, openai-python gives up on a longer one.
MAX_RETRY_AFTER_SECONDS: Final = 60
MAX_MESSAGE_CHARACTERS: Final = 2000
MAX_QUOTED_CHARACTERS: Final = 120


@dataclass(eq=False)
class RelayError(Exception):
    """An error with the status, body and headers that the client gets."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Headers = ()

    @override
    def __str__(self) -> str:
        return f"{self.status} {self.code or self.type}: {self.message}"


def render(error: RelayError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """The status, the headers and the JSON body that answer a request."""
    body = _body(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *error.headers,
    ]
    return error.status, headers, body


def render_event(error: RelayError) -> bytes:
    """The one SSE event that ends a chat stream; JSON escapes line ends, so it is one line."""
    return b"data: " + _body(error) + b"\n\n"


def _body(error: RelayError) -> bytes:
    fields = {
        "message": _encodable(error.message[:MAX_MESSAGE_CHARACTERS]),
        "type": _encodable(error.type),
        "param": error.param if error.param is None else _encodable(error.param),
        "code": error.code if error.code is None else _encodable(error.code),
    }
    return msgspec.json.encode({"error": fields})


def _encodable(text: str) -> str:
    # A lone surrogate in a path or a name must not turn a 404 into a 500.
    return text.encode("utf-8", "replace").decode()


def _quoted(text: str) -> str:
    return f"`{text[:MAX_QUOTED_CHARACTERS]}`"


def retry_headers(seconds: float) -> Headers:
    """Both spellings of "wait this long"; at least a millisecond, at most a minute."""
    wait = min(max(seconds, 0.001), MAX_RETRY_AFTER_SECONDS)
    return (
        (b"retry-after", str(math.ceil(wait)).encode()),
        (b"retry-after-ms", str(math.ceil(wait * 1000)).encode()),
    )


# Who calls.


def missing_api_key() -> RelayError:
    return RelayError(
        401,
        "No API key was sent. Send it as `Authorization: Bearer YOUR_KEY`.",
        code="invalid_api_key",
    )


def invalid_api_key() -> RelayError:
    """The key is unknown, revoked or expired; it is never echoed."""
    return RelayError(
        401,
        "Incorrect API key provided. It may be mistyped, revoked or expired.",
        code="invalid_api_key",
    )


def organization_suspended() -> RelayError:
    return RelayError(
        403,
        "This organization is suspended. Ask the operator of this gateway.",
        code="organization_suspended",
    )


def permission_denied(message: str) -> RelayError:
    return RelayError(403, message, code="permission_denied")


def project_not_found() -> RelayError:
    """The URL names another organization or project than the key's own, or none that exists."""
    return RelayError(
        404,
        "The organization or project in this URL does not exist or is not the API key's own.",
        code="project_not_found",
    )


# What is called.


def model_not_found(model: str) -> RelayError:
    return RelayError(
        404,
        f"The model {_quoted(model)} does not exist, or this API key may not use it.",
        code="model_not_found",
        param="model",
    )


def model_not_served(model: str, endpoint: str) -> RelayError:
    """The model exists, but it is called elsewhere."""
    return RelayError(
        404,
        f"The model {_quoted(model)} is not offered at /v1/{endpoint}.",
        code="model_not_found",
        param="model",
    )


def unknown_url(method: str, path: str) -> RelayError:
    return RelayError(
        404,
        f"Unknown request URL: {method} {path[:MAX_QUOTED_CHARACTERS]}. Chat completions live at"
        " /v1/chat/completions, so a base URL ends in /v1.",
        code="unknown_url",
    )


def id_not_found(field: str, value: str) -> RelayError:
    """It may exist upstream, but it is not the organization's own: that is the same to it."""
    return RelayError(
        404,
        f"Nothing with the id {_quoted(value)} was found ({field}).",
        code="not_found",
        param=field,
    )


def not_offered(method: str, path: str) -> RelayError:
    return RelayError(
        404,
        f"{method} {path[:MAX_QUOTED_CHARACTERS]} is not offered: this gateway has only a part of"
        " the OpenAI API.",
        code="unknown_url",
    )


def no_websocket() -> RelayError:
    """Codex asks for one first, and takes this status, and only this, for a plain no."""
    return RelayError(
        426,
        "There are no WebSockets here. Send the request by HTTP.",
        code="upgrade_required",
        headers=((b"upgrade", b"websocket"),),
    )


def method_not_allowed(method: str, allowed: tuple[str, ...]) -> RelayError:
    return RelayError(
        405,
        f"The method {_quoted(method)} is not allowed here. Use {' or '.join(allowed)}.",
        code="method_not_allowed",
        headers=((b"allow", ", ".join(allowed).encode()),),
    )


def request_too_large(limit_bytes: int) -> RelayError:
    return RelayError(
        413,
        f"The request body is larger than {limit_bytes} bytes.",
        code="request_too_large",
    )


def request_timeout() -> RelayError:
    return RelayError(
        408,
        "The request body did not arrive in time.",
        code="request_timeout",
        headers=DO_NOT_RETRY,
    )


def unsupported_content_encoding(encoding: str) -> RelayError:
    return RelayError(
        415,
        f"The content encoding {_quoted(encoding)} is not supported here. Send the body"
        " uncompressed.",
        code="unsupported_content_encoding",
    )


# Limits.


def insufficient_quota() -> RelayError:
    # LangChain and ChatHub recognise the case by the words "quota" and "billing". A retry can not
    # help, and a retry-after would make the SDKs try.
    return RelayError(
        429,
        "You have used up your quota: the balance of this organization does not cover this call."
        " Check its billing details and top it up.",
        type="insufficient_quota",
        code="insufficient_quota",
        headers=DO_NOT_RETRY,
    )


def spend_limit_reached(
    limit: str, *, resets: str = "", resets_in_seconds: float = math.inf
) -> RelayError:
    """`limit` says in words which limit it is, `resets` when there is room again, if ever.

    A retry helps nobody before that, and clients wait a minute at most.
    """
    is_soon = resets_in_seconds <= MAX_RETRY_AFTER_SECONDS
    ending = f"It resets at {resets}." if resets else "It does not reset."
    return RelayError(
        429,
        f"You have used up your quota: the spend limit of {limit}. {ending} Whoever manages billing"
        " can raise it.",
        type="insufficient_quota",
        code="insufficient_quota",
        headers=retry_headers(resets_in_seconds) if is_soon else DO_NOT_RETRY,
    )


def rate_limited(limit: str, *, retry_after_seconds: float, kind: str = "requests") -> RelayError:
    """`limit` says in words which limit; `kind` is requests or tokens, as OpenAI's type is."""
    wait = min(max(retry_after_seconds, 0.001), MAX_RETRY_AFTER_SECONDS)
    return RelayError(
        429,
        f"Rate limit reached: {limit}. Please try again in {wait:.3g}s.",
        type=kind,
        code="rate_limit_exceeded",
        headers=retry_headers(wait),
    )


# Upstream, and ourselves.


def upstream_unavailable(*, retry_after_seconds: float = 2) -> RelayError:
    """Nothing was sent, or upstream refused before it began: the client may safely try again."""
    return RelayError(
        503,
        "The model is overloaded or no upstream is reachable right now. Please try again later.",
        type="service_unavailable_error",
        code="server_is_overloaded",
        headers=retry_headers(retry_after_seconds),
    )


def upstream_refused_credential(*, retry_after_seconds: float = 30) -> RelayError:
    """Upstream does not accept the operator's credential, which is no fault of the client's key."""
    return RelayError(
        503,
        "This gateway can not use its upstream right now. The operator has been told.",
        type="service_unavailable_error",
        code="upstream_refused",
        headers=retry_headers(retry_after_seconds),
    )


def upstream_failed() -> RelayError:
    """The call was sent and may be billed upstream, so the SDKs are told not to buy it again."""
    return RelayError(
        502,
        "The upstream failed while it processed the request.",
        type="server_error",
        code="upstream_error",
        headers=DO_NOT_RETRY,
    )


def upstream_timeout() -> RelayError:
    return RelayError(
        504,
        "The upstream did not answer in time.",
        type="server_error",
        code="upstream_timeout",
        headers=DO_NOT_RETRY,
    )


def server_draining(*, retry_after_seconds: float = 1) -> RelayError:
    return RelayError(
        503,
        "This server is shutting down. Please try again.",
        type="service_unavailable_error",
        code="server_draining",
        headers=retry_headers(retry_after_seconds),
    )


def server_stopped() -> RelayError:
    """The call was sent and may be billed upstream, but this server could not wait for its end."""
    return RelayError(
        503,
        "This server stopped before the answer was complete.",
        type="service_unavailable_error",
        code="server_draining",
        headers=DO_NOT_RETRY,
    )


def store_unavailable(*, retry_after_seconds: float = 2) -> RelayError:
    """The database is away, so a key or a balance can be neither confirmed nor refused."""
    return RelayError(
        503,
        "This gateway can not reach its database right now. Please try again.",
        type="service_unavailable_error",
        code="service_unavailable",
        headers=retry_headers(retry_after_seconds),
    )


def internal(*, retry: bool = True) -> RelayError:
    """`retry=False` once the call may have been billed upstream."""
    return RelayError(
        500,
        "The server had an unexpected error while it processed the request.",
        type="server_error",
        headers=() if retry else DO_NOT_RETRY,
    )
