import pytest

from relay.headers import (
    MAX_REQUESTED_NAMES,
    STREAM_HEADERS,
    Header,
    client_headers,
    cors_headers,
    preflight_headers,
    upstream_headers,
)

OURS = {
    b"host": b"api.example",
    b"authorization": b"Bearer upstream",
    b"user-agent": b"tollgate",
    b"accept-encoding": b"identity",
    b"content-type": b"application/json",
}
LEAKS = [
    (b"authorization", b"Bearer client"),
    (b"x-api-key", b"client"),
    (b"api-key", b"client"),
    (b"host", b"evil.example"),
    (b"cookie", b"session=1"),
    (b"origin", b"https://chat.example"),
    (b"user-agent", b"OpenAI/Python 3.3.1"),
    (b"accept-encoding", b"gzip, zstd"),
    (b"content-encoding", b"zstd"),
    (b"content-length", b"7"),
    (b"content-type", b"text/plain"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"keep-alive"),
    (b"openai-organization", b"org-1"),
    (b"openai-project", b"proj_1"),
    (b"x-openwebui-user-email", b"a@b.example"),
    (b"x-stainless-lang", b"python"),
    (b"http-referer", b"https://chat.example"),
    (b"x-title", b"Chat"),
    (b"originator", b"codex_cli_rs"),
    (b"session_id", b"1"),
    (b"x-forwarded-for", b"10.0.0.1"),
]


def sent(client: list[Header]) -> list[Header]:
    return upstream_headers(client, host=b"api.example", authorization=b"Bearer upstream")


def test_only_our_own_headers_and_the_allowed_go_upstream() -> None:
    got = sent([*LEAKS, (b"accept", b"*/*"), (b"openai-beta", b"x=1"), (b"accept", b"second")])
    assert len(got) == len(dict(got))
    assert dict(got) == {**OURS, b"accept": b"*/*", b"openai-beta": b"x=1"}


@pytest.mark.parametrize("connection", [b"openai-beta", b"close, OpenAI-Beta", b" openai-beta ,x"])
def test_what_connection_names_is_for_this_hop_only(connection: bytes) -> None:
    headers = [(b"openai-beta", b"x"), (b"accept", b"a"), (b"connection", connection)]
    assert dict(sent(headers)) == {**OURS, b"accept": b"a"}


def test_an_oversized_value_is_dropped() -> None:
    assert dict(sent([(b"accept", b"a" * 1025)])) == OURS


def test_of_upstreams_answer_only_the_allowed_headers_pass() -> None:
    upstream = {
        b"content-type": b"application/json",
        b"openai-processing-ms": b"12",
        b"openai-version": b"2020-10-01",
        b"openai-organization": b"acme-prod",
        b"set-cookie": b"__cf_bm=1",
        b"x-ratelimit-limit-requests": b"5000",
        b"x-request-id": b"req_theirs",
        b"www-authenticate": b"Basic",
        b"content-length": b"9",
        b"transfer-encoding": b"chunked",
        b"content-encoding": b"gzip",
        b"location": b"https://evil.example",
    }
    assert client_headers(upstream.get) == [
        (b"content-type", b"application/json"),
        (b"openai-processing-ms", b"12"),
        (b"openai-version", b"2020-10-01"),
    ]


def test_an_oversized_or_missing_value_of_upstreams_is_left_out() -> None:
    upstream = {b"content-type": b"a" * 1024, b"openai-version": b"a" * 1025}
    assert client_headers(upstream.get) == [(b"content-type", b"a" * 1024)]


def test_every_answer_may_be_read_by_any_origin_without_credentials() -> None:
    headers = dict(cors_headers())
    assert headers[b"access-control-allow-origin"] == b"*"
    exposed = headers[b"access-control-expose-headers"].split(b", ")
    for name in (b"x-request-id", b"x-should-retry", b"retry-after", b"retry-after-ms"):
        assert name in exposed
    assert b"access-control-allow-credentials" not in headers


def echoed(requested: bytes | None) -> bytes:
    headers = dict(preflight_headers(requested))
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"POST" in headers[b"access-control-allow-methods"]
    assert b"vary" in headers
    return headers[b"access-control-allow-headers"]


def test_a_preflight_echoes_the_requested_names() -> None:
    requested = b"authorization,content-type,x-stainless-arch, x-new-in-the-next-sdk"
    assert echoed(requested) == (
        b"authorization, content-type, x-stainless-arch, x-new-in-the-next-sdk"
    )
    assert echoed(None) == b"authorization, content-type"


@pytest.mark.parametrize("bad", [b"cookie", b"Cookie", b"a b", b"x\r\ny", b"", b"\xff", b"*/*"])
def test_cookies_and_what_is_no_name_are_not_echoed(bad: bytes) -> None:
    assert echoed(b"authorization," + bad) == b"authorization"


def test_the_echo_is_bounded() -> None:
    assert echoed(b"a," * 2000).count(b"a") == MAX_REQUESTED_NAMES
    assert echoed(b"a" * 5000) == b"authorization, content-type"


def test_a_stream_is_neither_cached_nor_buffered() -> None:
    headers = dict(STREAM_HEADERS)
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-accel-buffering"] == b"no"
