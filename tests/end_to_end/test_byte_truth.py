"""What is relayed is what was said: the client's bytes upstream, upstream's bytes to the client."""

import hashlib
import json
import re
from typing import Any

import httpx2
import pytest

from tests.end_to_end.support import CHAT, MODEL, Customer, Upstream, chat_body, new_tag

OUR_ANSWER = {
    "access-control-allow-origin",
    "access-control-expose-headers",
    "content-type",
    "openai-processing-ms",
    "openai-version",
    "x-request-id",
}
# Whatever JSON allows and a decoder would not keep: order, blanks, escapes, numbers, equal names.
ODD_BODY = (
    b' {"zulu": 1e400,\t"model":"%s" , "messages":[{"content":"\\u0048i \xe4\xbd\xa0\xe5\xa5\xbd",'
    b'"role":"user", "cache_control":{"type":"ephemeral"}}],\n"unknown": [1.0, -0, 1E+2, {}],'
    b'"twice":1,"twice":2, "thinking":{"type":"disabled"}, "tools":[], "stop":null,'
    b'"simulate":{"tag":"%s"} }\r\n'
)
SHAPES: dict[str, dict[str, Any]] = {
    "text": {},
    "unicode": {"simulate": {"text": "naïve 你好 🦜 \u2028 \x7f"}},
    "choices": {"n": 3},
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    "functions": {"functions": [{"name": "f", "parameters": {}}]},
    "json": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "refusal": {"simulate": {"refusal": True}},
    "reasoning": {"simulate": {"reasoning_tokens": 40, "cached_tokens": 3}},
    "long": {"simulate": {"chunks": 600}},
    "byte by byte": {"simulate": {"fault": "split_bytes"}},
}


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def asking_usage(body: bytes) -> bytes:
    """The body as it goes upstream when the client streams and did not ask for usage."""
    return body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)


def is_usage(event: bytes) -> bool:
    return event.startswith(b"data: {") and json.loads(event[6:])["choices"] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_has_the_bytes_of_upstream(
    customer: Customer, upstream: Upstream, shape: str
) -> None:
    body = encoded(chat_body(**SHAPES[shape]))
    assert customer.post(body).content == upstream.chat(body).content


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_has_the_events_of_upstream(
    customer: Customer, upstream: Upstream, shape: str
) -> None:
    asked = encoded(chat_body(stream=True, stream_options={"include_usage": True}, **SHAPES[shape]))
    direct = upstream.chat(asked).content
    assert customer.post(asked).content == direct
    assert sum(map(is_usage, direct.split(b"\n\n"))) == 1

    silent = encoded(chat_body(stream=True, **SHAPES[shape]))
    direct = upstream.chat(asking_usage(silent)).content
    kept = [event for event in direct.split(b"\n\n") if not is_usage(event)]
    assert customer.post(silent).content == b"\n\n".join(kept)


def test_a_body_goes_upstream_as_it_came(customer: Customer, upstream: Upstream) -> None:
    tag = new_tag()
    body = ODD_BODY % (MODEL.encode(), tag.encode())
    reply = customer.post(body)
    assert reply.status_code == 200, reply.text
    received = upstream.received(tag)
    assert received["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert reply.content == upstream.chat(body).content


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False, "include_obfuscation": 1}])
def test_of_a_stream_only_the_wish_for_usage_is_changed(
    customer: Customer, upstream: Upstream, options: Any
) -> None:
    tag = new_tag()
    body = chat_body(stream=True, stream_options=options, user="u1", simulate={"tag": tag})
    assert customer.post(body).status_code == 200
    sent = upstream.received(tag)["body"]
    # And what names an end user is kept apart from other tenants' users.
    assert sent.pop("user").endswith("-u1")
    del body["user"]
    assert sent == {**body, "stream_options": {**(options or {}), "include_usage": True}}
    assert list(sent) == list(body)


def test_of_the_clients_headers_only_harmless_ones_go_upstream(
    customer: Customer, upstream: Upstream
) -> None:
    tag = new_tag()
    reply = customer.post(
        chat_body(simulate={"tag": tag}),
        accept="text/event-stream",
        accept_encoding="gzip, br, zstd",
        accept_language="*",
        api_key="another",
        baggage="b=1",
        content_type="text/plain",
        cookie="session=1",
        forwarded="for=192.0.2.1",
        http_referer="https://chat.example",
        idempotency_key="again",
        openai_beta="assistants=v2",
        openai_organization="org-theirs",
        openai_project="proj_theirs",
        origin="https://chat.example",
        originator="codex_cli_rs",
        sec_fetch_mode="cors",
        session_id="0199",
        traceparent="00-1-1-00",
        user_agent="OpenAI/Python 3.3.1",
        x_api_key="another",
        x_forwarded_for="192.0.2.1",
        x_openwebui_user_email="a@b.example",
        x_stainless_lang="python",
        x_title="Somebody",
    )
    assert reply.status_code == 200
    headers = dict(upstream.received(tag)["headers"])
    assert headers.pop("host") == upstream.http.base_url.netloc.decode()
    assert headers.pop("content-length").isdigit()
    assert headers == {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "authorization": "Bearer simu***ated",
        "content-type": "application/json",
        "openai-beta": "assistants=v2",
        "user-agent": "tollgate",
    }


def leaks() -> dict[str, str]:
    """Headers of an upstream that are nobody else's business, whatever it may think of."""
    return {
        "alt-svc": 'h3=":443"',
        "azureml-model-session": "d1",
        "cf-ray": "8f",
        "openai-organization": "org-ours",
        "server": "cloudflare",
        "set-cookie": "__cf_bm=1",
        "via": "1.1 upstream",
        "www-authenticate": "Basic",
        "x-ratelimit-remaining-tokens": "7",
        "x-request-id": "req_theirs",
        "x-should-retry": "true",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_of_upstreams_headers_only_harmless_ones_come_back(
    customer: Customer, *, stream: bool
) -> None:
    reply = customer.chat(stream=stream, simulate={"headers": leaks()})
    framing = {"transfer-encoding", "cache-control", "x-accel-buffering"}
    assert set(reply.headers) == OUR_ANSWER | (framing if stream else {"content-length"})
    assert re.fullmatch("req_[0-9a-f]{32}", reply.headers["x-request-id"])
    kind = "text/event-stream; charset=utf-8" if stream else "application/json"
    assert reply.headers["content-type"] == kind


def test_of_an_error_nothing_tells_of_the_operators_account(customer: Customer) -> None:
    said = {"message": "You, org-abcdef123456, sent sk-proj-abcdefgh12345678 to us.", "code": "odd"}
    knobs = {"status": 400, "error": said, "headers": leaks()}
    reply = customer.chat(simulate=knobs)
    assert set(reply.headers) == OUR_ANSWER - {"openai-version"} | {
        "content-length",
        "x-should-retry",
    }
    assert reply.json()["error"]["message"] == "You, [redacted], sent [redacted] to us."
    assert reply.headers["x-request-id"] != "req_theirs"


def test_what_the_client_accepts_changes_nothing(customer: Customer, upstream: Upstream) -> None:
    body = encoded(chat_body(stream=True))
    plain = customer.post(body).content
    for accept in ("application/json", "text/html", "*/*;q=0"):
        assert customer.post(body, accept=accept).content == plain


def test_what_may_be_null_may_be_null(customer: Customer, upstream: Upstream) -> None:
    tag = new_tag()
    names = ["stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "tools"]
    names += ["functions", "modalities", "service_tier", "stop", "user", "web_search_options"]
    body = chat_body(simulate={"tag": tag}) | dict.fromkeys(names)
    assert customer.post(body).status_code == 200
    assert upstream.received(tag)["body"] == body


def test_a_body_may_be_as_large_as_the_limit(customer: Customer, upstream: Upstream) -> None:
    tag = new_tag()
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    body = chat_body(simulate={"tag": tag})
    body["messages"] = [{"role": "user", "content": [picture]}]
    missing = 32 * 2**20 - len(encoded(body))
    whole = encoded(body).replace(b"base64,", b"base64," + b"A" * missing)
    assert customer.post(whole).status_code == 200
    assert upstream.received(tag)["body_sha256"] == hashlib.sha256(whole).hexdigest()


def test_a_body_may_come_in_chunks(customer: Customer, upstream: Upstream) -> None:
    tag = new_tag()
    body = encoded(chat_body("你好" * 1000, simulate={"tag": tag}))
    pieces = (body[at : at + 97] for at in range(0, len(body), 97))
    reply = customer.http.post(CHAT, content=pieces, headers=customer.authorization)
    assert reply.status_code == 200, reply.text
    assert upstream.received(tag)["body_sha256"] == hashlib.sha256(body).hexdigest()


def test_a_body_needs_no_content_type(customer: Customer, http: httpx2.Client) -> None:
    request = http.build_request(
        "POST", CHAT, content=encoded(chat_body()), headers=customer.authorization
    )
    assert "content-type" not in request.headers
    assert http.send(request).status_code == 200
