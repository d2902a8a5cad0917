"""What a client is told when upstream reports an error.

What upstream says about a call is passed on; what it says about the operator's account is not.
"""

import re
from collections.abc import Mapping
from typing import Final

from relay.errors import (
    DO_NOT_RETRY,
    MAX_MESSAGE_CHARACTERS,
    RelayError,
    upstream_failed,
    upstream_refused_credential,
    upstream_timeout,
    upstream_unavailable,
)
from relay.upstream import FirstByteTimeout, IdleTimeout, TotalTimeout, UpstreamError

_ACCOUNT_CODES: Final = frozenset(
    {
        "account_deactivated",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_exhausted",
        "insufficient_quota",
        "invalid_api_key",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "rate_limit_exceeded",
        "unsupported_country_region_territory",
        "requests",
        "tokens",
    }
)
_SECRET: Final = re.compile(
    r"\b(?:sk|pk|sess|rk)-[\w*.\-]{4,}|\b(?:org|proj|user|acct)[-_][A-Za-z0-9]{6,}"
    r"|(?i:\bbearer\s+\S+)"
)
# 402 and 407 too are between the operator and the upstream.
_CREDENTIAL_STATUSES: Final = frozenset({401, 402, 403, 407})
_BUSY_STATUSES: Final = frozenset({429, 503})


def from_upstream(
    status: int, error: object, *, retry_after_seconds: float | None = None
) -> RelayError:
    """What the client gets when upstream answered with an error status.

    `error` is the value of `error` in upstream's JSON body, or anything else if there was none.
    """
    told = _told(error)
    if status in _CREDENTIAL_STATUSES:
        return upstream_refused_credential()
    if status in _BUSY_STATUSES:
        wait = 2 if retry_after_seconds is None else retry_after_seconds
        return upstream_unavailable(retry_after_seconds=wait)
    if status == 408:  # noqa: PLR2004 - Request Timeout; a client would send the call again.
        return upstream_timeout()
    if not 400 <= status < 500 or told is None:  # noqa: PLR2004 - The client-error class.
        return upstream_failed()
    told.status = status
    return told


def from_failure(error: UpstreamError) -> RelayError:
    """What the client gets when the call failed below HTTP."""
    if not error.sent:
        return upstream_unavailable()
    if isinstance(error, FirstByteTimeout | IdleTimeout | TotalTimeout):
        return upstream_timeout()
    return upstream_failed()


def from_upstream_event(error: object) -> RelayError:
    """What the client gets when upstream reports an error inside a stream."""
    return _told(error) or upstream_failed()


def _told(error: object) -> RelayError | None:
    """Upstream's own words, or nothing if they are missing or about the operator's account."""
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, Mapping):
        return None
    message, kind, code, param = (error.get(k) for k in ("message", "type", "code", "param"))
    if code in _ACCOUNT_CODES or kind in _ACCOUNT_CODES or not isinstance(message, str):
        return None
    return RelayError(
        502,
        scrub(message),
        type=scrub(kind) if isinstance(kind, str) else "server_error",
        code=scrub(str(code)) if isinstance(code, str | int) else None,
        param=scrub(param) if isinstance(param, str) else None,
        headers=DO_NOT_RETRY,
    )


def scrub(text: str) -> str:
    """Takes out what upstream's messages are known to leak: keys, organization and project ids."""
    return _SECRET.sub("[redacted]", text[:MAX_MESSAGE_CHARACTERS])
