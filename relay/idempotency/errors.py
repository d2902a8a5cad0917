"""What a client is told of an Idempotency-Key that cannot be honoured as it is. Pure."""

from relay.errors import DO_NOT_RETRY, RelayError, retry_headers


def invalid_key(reason: str) -> RelayError:
    return RelayError(
        400,
        f"The Idempotency-Key cannot be used: {reason}.",
        code="invalid_idempotency_key",
    )


def still_running() -> RelayError:
    """Both official SDKs try a 409 again, and then get the answer."""
    return RelayError(
        409,
        "The first request with this Idempotency-Key has not ended yet. Ask again for its answer.",
        code="idempotency_key_in_use",
        headers=retry_headers(1),
    )


def other_body() -> RelayError:
    return RelayError(
        422,
        "This Idempotency-Key was used with another request body. Use a new key for a new request.",
        code="idempotency_key_reused",
        headers=DO_NOT_RETRY,
    )


def answer_not_kept(request_id: str, charge_nano_usd: int | None = None) -> RelayError:
    """The call was made, and must not be made again under the same key."""
    charged = "" if charge_nano_usd is None else f" and charged {charge_nano_usd} nano-USD"
    return RelayError(
        409,
        f"The first request with this Idempotency-Key ({request_id}) was carried out{charged}, but"
        " its answer was not kept: it was too large, or a server stopped. A new key is a new call.",
        code="idempotent_answer_not_kept",
        headers=DO_NOT_RETRY,
    )


def too_many_keys(limit: int, *, retry_after_seconds: float) -> RelayError:
    return RelayError(
        429,
        f"This organization has used {limit} Idempotency-Keys in a day, which is the limit. Call"
        " without one, or later.",
        type="requests",
        code="too_many_idempotency_keys",
        headers=(*DO_NOT_RETRY, *retry_headers(retry_after_seconds)),
    )
