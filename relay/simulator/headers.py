"""Response headers as OpenAI sends them, those that must not leak through a gateway included."""

from collections.abc import Iterable
from typing import Final

from relay.simulator.sending import Headers

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
PLAIN_TEXT: Final = b"text/plain; charset=utf-8"
HTML: Final = b"text/html; charset=utf-8"

_ALWAYS: Headers = (
    (b"access-control-expose-headers", b"X-Request-ID"),
    (b"openai-organization", b"simulated-organization"),
    (b"openai-processing-ms", b"7"),
    (b"openai-project", b"proj_simulated"),
    (b"openai-version", b"2020-10-01"),
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-limit-tokens", b"2000000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"1999900"),
    (b"x-ratelimit-reset-requests", b"6ms"),
    (b"x-ratelimit-reset-tokens", b"3ms"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
    (b"cf-cache-status", b"DYNAMIC"),
    (b"set-cookie", b"__cf_bm=simulated-cookie; path=/; HttpOnly; Secure; SameSite=None"),
    (b"x-content-type-options", b"nosniff"),
)


def headers_make(
    *, digest: str, content_type: bytes, length: int | None, more: Iterable[tuple[str, str]] = ()
) -> Headers:
    """The headers of an answer; those in `more` replace others of their name."""
    extra = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in more)
    replaced = {name for name, _ in extra}
    ours: Headers = (
        (b"content-type", content_type),
        *(((b"content-length", b"%d" % length),) if length is not None else ()),
        (b"x-request-id", f"req_{digest[:32]}".encode()),
        *_ALWAYS,
        *(((b"cache-control", b"no-cache"),) if content_type == EVENT_STREAM else ()),
    )
    return tuple(pair for pair in ours if pair[0] not in replaced) + extra
