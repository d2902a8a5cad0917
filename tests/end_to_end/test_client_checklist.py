"""What every client may rely on, line by line: docs/clients.md has the list, and who needs what.

The lines that other tests show are not shown here again; the list names them.
"""

import gzip
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from backports import zstd

from tests.end_to_end.live import ROOT, LiveGateway
from tests.end_to_end.support import (
    CHAT,
    MODEL,
    Customer,
    Upstream,
    charge_of,
    chat_body,
    error_of,
    events_of,
    new_tag,
    organization_create,
    texts_of,
)

LINES = 46
LIST = (ROOT / "docs" / "clients.md").read_text()
# | 7 | what it promises | `tests/a/test_b.py::test_c`, ... |
ROW = re.compile(r"^\| (\d+) \| .+? \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ORIGIN = {"origin": "https://chat.example"}


def target_of(customer: Customer, method: str, path: str) -> httpx2.Response:
    """The answer to that very path: clients tidy up what they are told."""
    return customer.http.request(
        method, "/", extensions={"target": path.encode()}, headers=customer.authorization
    )


def raw_answer(gateway: LiveGateway, request: bytes) -> httpx2.Response:
    """What the server itself says to what no HTTP library sends."""
    port = int(gateway.origin.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(request)
        received = b"".join(iter(lambda: link.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    return httpx2.Response(int(status.split()[1]), headers=headers, content=body)  # type: ignore[arg-type]  # Each line is a pair.


def test_every_line_names_tests_that_exist() -> None:
    rows = ROW.findall(LIST)
    assert [int(number) for number, _ in rows] == list(range(1, LINES + 1))
    for number, cell in rows:
        named = NAMED.findall(cell)
        assert named, f"line {number} names no test"
        for file, test in named:
            source = Path(ROOT / file).read_text()
            assert f"def {test}(" in source, f"line {number} names {file}::{test}"


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "/usage",
        "/dashboard/billing/usage",
        "/dashboard/billing/subscription",
        "/dashboard/billing/credit_grants",
    ],
)
def test_c01_no_spelling_of_a_path_is_redirected(customer: Customer, path: str) -> None:
    spellings = [f"/v1{path}", f"/v1/v1{path}", f"//v1{path}", f"/v1/{path}", f"/v1{path}/"]
    if path != "/usage":  # Which could be a page.
        spellings.append(path)
    statuses = {one: target_of(customer, "GET", one).status_code for one in spellings}
    assert set(statuses.values()) == {200}, statuses
    for root in ("/v1", "/v1/", "/openai"):
        for method in ("GET", "HEAD", "POST"):
            assert target_of(customer, method, root).status_code == 404


def test_c05_a_websocket_is_refused_by_the_one_status_that_helps(customer: Customer) -> None:
    asked = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    reply = customer.http.get("/v1/responses", headers={**asked, **customer.authorization})
    assert (reply.status_code, reply.headers["upgrade"]) == (426, "websocket")
    assert error_of(reply)["code"] == "upgrade_required"


def test_c06_the_bearer_wins_over_other_keys(customer: Customer, pauper: Customer) -> None:
    for name in ("x_api_key", "api_key"):
        assert customer.post(chat_body(), **{name: customer.api_key}).status_code == 200
        assert customer.post(chat_body(), **{name: pauper.api_key}).status_code == 200
        assert pauper.post(chat_body(), **{name: customer.api_key}).status_code == 429


def test_c08_foreign_organizations_mean_nothing(customer: Customer, upstream: Upstream) -> None:
    for value in ("", "org-of-somebody-else"):
        tag = new_tag()
        named = {"openai_organization": value, "openai_project": value}
        assert customer.post(chat_body(simulate={"tag": tag}), **named).status_code == 200
        headers = {name.lower() for name, _ in upstream.received(tag)["headers"]}
        assert not {"openai-organization", "openai-project"} & headers


def refusals(customer: Customer) -> dict[int, Callable[[], httpx2.Response]]:
    """One of each status that a browser may have to read."""
    http, key = customer.http, {**ORIGIN, **customer.authorization}

    # Of a model that nobody else asks: a channel that failed is left alone for a while.
    failing = chat_body(model="gpt-4-turbo", simulate={"status": 500})
    return {
        401: lambda: http.get("/v1/models", headers=ORIGIN),
        404: lambda: http.get("/v1/nothing", headers=key),
        405: lambda: http.get(CHAT, headers=key),
        415: lambda: customer.post(chat_body(), content_encoding="br"),
        502: lambda: customer.post(failing, **ORIGIN),
    }


@pytest.mark.parametrize("status", [401, 404, 405, 415, 502])
def test_c11_a_page_may_read_every_refusal(customer: Customer, status: int) -> None:
    reply = refusals(customer)[status]()
    assert reply.status_code == status
    assert error_of(reply)["message"]  # Which looks for the headers, too.
    exposed = reply.headers["access-control-expose-headers"]
    assert "x-ratelimit-remaining-requests" in exposed
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", 431),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
        (
            b"POST /v1/embeddings HTTP/1.0\r\ncontent-length: 9\r\n\r\n",
            401,
        ),
    ],
    ids=["no HTTP", "a long head", "no length", "no key"],
)
def test_c31_the_server_itself_speaks_json(
    gateway: LiveGateway, request_bytes: bytes, status: int
) -> None:
    reply = raw_answer(gateway, request_bytes)
    assert reply.status_code == status
    assert error_of(reply)["message"]


PACKERS: dict[str, Callable[[bytes], bytes]] = {"zstd": zstd.compress, "gzip": gzip.compress}


@pytest.mark.parametrize("encoding", PACKERS)
def test_c12_packed_bodies_are_read_unpacked(
    customer: Customer, upstream: Upstream, encoding: str
) -> None:
    tag = new_tag()
    body = json.dumps(chat_body("Hello " * 50, simulate={"tag": tag})).encode()
    reply = customer.post(PACKERS[encoding](body), content_encoding=encoding)
    assert reply.status_code == 200, reply.text
    received = upstream.received(tag)
    assert received["body"] == json.loads(body)
    assert "content-encoding" not in {name.lower() for name, _ in received["headers"]}
    bomb = PACKERS[encoding](b" " * (40 * 2**20))
    assert len(bomb) < 2**17
    assert customer.post(bomb, content_encoding=encoding).status_code == 413


def test_c13_text_may_be_raw_or_escaped(customer: Customer) -> None:
    raw = json.dumps(chat_body("你好"), ensure_ascii=False).encode()
    escaped = json.dumps(chat_body("你好")).encode()
    assert raw != escaped
    texts = [customer.post(one).json()["choices"][0]["message"] for one in (raw, escaped)]
    assert texts[0] == texts[1]
    assert "你好" in texts[0]["content"]


def test_c14_what_we_do_not_know_passes(customer: Customer, upstream: Upstream) -> None:
    cached = {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}
    odd: dict[str, Any] = {
        "enabledContextCaching": False,
        "thinking": {"type": "disabled", "budget_tokens": 0},
        "tools": [],
        "stop": [],
        "top_p": None,
        "max_tokens": None,
        "user": None,
    }
    body = chat_body(**odd, simulate={"tag": (tag := new_tag())})
    body["messages"] = [{"role": "system", "content": [cached]}, *body["messages"]]
    assert customer.post(body).status_code == 200
    assert upstream.received(tag)["body"] == body


def test_c15_retired_models_may_live_on_in_others(
    gateway: LiveGateway, customer: Customer, upstream: Upstream
) -> None:
    """The ids that ChatHub has built in are gone upstream; the operator maps them."""
    dead = ["gpt-3.5-turbo-1106", "gpt-4", "gpt-4-1106-preview", "gpt-4-vision-preview"]
    base_url = f"{gateway.simulator_url}/v1"
    options = ("--base-url", base_url, "--key-env", "ALIAS_KEY", "--models", *dead)
    maps = ("--priority", "10", "--model-map", *(f"{model}=gpt-4o" for model in dead))
    gateway.manage("channel_add", "aliases", *options, *maps, ALIAS_KEY="any")
    try:
        for model in dead:
            tag = new_tag()
            reply = customer.chat(model=model, stream=True, simulate={"tag": tag})
            assert events_of(reply.content)[-1] == b"[DONE]"
            assert upstream.received(tag)["body"]["model"] == "gpt-4o"
            assert customer.record(reply)["model"] == model
    finally:
        gateway.manage("channel_disable", "aliases")


def test_c17_base64_of_embeddings_passes(customer: Customer, upstream: Upstream) -> None:
    tag = new_tag()
    body = {
        "model": "text-embedding-3-small",
        "input": "a",
        "encoding_format": "base64",
        "simulate": {"tag": tag},
    }
    answer = customer.post(body, "/v1/embeddings")
    assert upstream.received(tag)["body"]["encoding_format"] == "base64"
    direct = upstream.http.post(
        "/v1/embeddings", json=body, headers={"authorization": "Bearer direct"}
    )
    assert answer.json()["data"] == direct.json()["data"]


@pytest.mark.parametrize("accepts", ["gzip, deflate, br, zstd", "identity"])
def test_c20_whole_answers_are_plain_json(customer: Customer, accepts: str) -> None:
    reply = customer.post(chat_body(), accept_encoding=accepts)
    assert reply.headers["content-type"] == "application/json"
    assert "content-encoding" not in reply.headers
    assert reply.json()["object"] == "chat.completion"
    assert type(reply.json()["created"]) is int


@pytest.mark.parametrize("tools", [False, True])
def test_c26_every_chunk_has_what_strict_readers_want(customer: Customer, *, tools: bool) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    fields: dict[str, Any] = {}
    if tools:
        fields["tools"] = [{"type": "function", "function": function}]
    *chunks, end = events_of(customer.chat(stream=True, **fields).content)
    assert end == b"[DONE]"
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    assert len(choices) == len(chunks)
    assert {choice["index"] for choice in choices} == {0}
    assert {choice["delta"].get("role", "assistant") for choice in choices} == {"assistant"}
    calls = [call for one in choices for call in one["delta"].get("tool_calls", ())]
    assert bool(calls) is tools
    assert all(type(call["index"]) is int for call in calls)
    assert choices[-1]["finish_reason"] == ("tool_calls" if tools else "stop")


def test_c30_no_write_of_ours_ends_inside_of_a_character(
    gateway: LiveGateway, customer: Customer
) -> None:
    """Some apps decode each piece that they get by itself; upstream's pieces are single bytes."""
    text = "你好, 世界 🎈" * 50
    body = json.dumps(
        chat_body(stream=True, simulate={"text": text, "fault": "split_bytes"})
    ).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {customer.api_key}\r\n"
    head += f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    reply = raw_answer(gateway, head.encode() + body)
    pieces, rest = [], reply.content
    while rest:
        length, _, rest = rest.partition(b"\r\n")
        pieces.append(rest[: int(length, 16)].decode("utf-8"))
        rest = rest[int(length, 16) + 2 :]
    assert texts_of("".join(pieces).encode()) == text


def test_c38_codex_finds_no_models_of_its_own_kind(customer: Customer) -> None:
    asked = customer.ask("/v1/models", client_version="0.155.0")
    assert asked.pop("models") == []
    assert asked == customer.ask("/v1/models", limit=1, user="u1", model_type="llm")


PINGS: dict[str, dict[str, Any]] = {
    "Dify": {"max_tokens": 5, "messages": [{"role": "user", "content": "ping"}]},
    "Cherry Studio": {
        "messages": [{"role": "system", "content": "test"}, {"role": "user", "content": "hi"}]
    },
    "Lobe Chat": {"messages": [{"role": "user", "content": "hello"}], "stream": True},
}


def test_c39_tests_of_a_connection_succeed_on_a_small_quota(
    gateway: LiveGateway, http: httpx2.Client
) -> None:
    poor = organization_create(gateway, http, "Newcomer", "--quota", "0.01")
    for app, ping in PINGS.items():
        reply = poor.post({"model": "gpt-4o-mini", **ping})
        assert reply.status_code == 200, (app, reply.text)
        assert texts_of(reply.content) if "stream" in ping else reply.json()["choices"]


def test_c43_each_retry_is_a_call_and_says_so(customer: Customer) -> None:
    """Whose stream broke asks again; upstream has worked for both."""
    broken = chat_body("Again", stream=True, simulate={"fault": "truncated", "after_chunks": 3})
    replies = [customer.post(broken, x_stainless_retry_count=str(count)) for count in (0, 1)]
    records = [customer.record(reply) for reply in replies]
    assert [record["retry_count"] for record in records] == [0, 1]
    assert records[0]["charge_nano_usd"] == records[1]["charge_nano_usd"] > 0
    assert records[0]["request_id"] != records[1]["request_id"]
    for record in records:
        tokens = record["prompt_tokens"], record["completion_tokens"]
        assert record["charge_nano_usd"] == charge_of(*tokens)


def test_c45_what_anthropics_clients_ask_is_refused_in_json(customer: Customer) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        reply = customer.post({"model": MODEL, "messages": []}, path)
        assert (reply.status_code, error_of(reply)["code"]) == (404, "unknown_url")
    assert customer.http.head("/").status_code == 200
