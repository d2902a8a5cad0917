"""A gateway of little patience, with channels of the operator's own."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway, running_gateway
from tests.end_to_end.support import (
    CHAT,
    MODEL,
    Customer,
    Upstream,
    charge_of,
    chat_body,
    customer_of,
    error_of,
    events_of,
    new_tag,
    texts_of,
)
from tests.ports import free_port

UNREACHABLE = "e2e-unreachable"
CHANNEL_LESS = "gpt-4o-mini"
OUR_KEY = "sk-ours-and-nobody-elses"
WORDS = "one two three four five six seven eight nine ten"
TIMED_OUT = {
    "message": "The upstream did not answer in time.",
    "type": "server_error",
    "param": None,
    "code": "upstream_timeout",
}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    """One model has two channels, one has a channel without a listener, all others have none."""
    settings = {"FIRST_BYTE_SECONDS": "1", "IDLE_SECONDS": "1", "MAX_CALL_SECONDS": "3"}
    with running_gateway(tmp_path_factory.mktemp("hasty"), **settings) as gateway:
        simulator, nobody = f"{gateway.simulator_url}/v1", f"http://127.0.0.1:{free_port()}/v1"
        for model in (MODEL, UNREACHABLE):
            gateway.manage("price_set", model, "--input", "10", "--output", "30")
        channel_add(gateway, "first", simulator, MODEL)
        channel_add(gateway, "second", simulator, MODEL)
        channel_add(gateway, "nobody", nobody, UNREACHABLE)
        assert gateway.manage("channel_disable", "simulator")["channel"] == "simulator"
        gateway.manage("credit_grant", gateway.quickstart["organization"], "10")
        yield gateway
        assert gateway.manage("audit") == {"ok": True, "findings": []}


def channel_add(gateway: LiveGateway, name: str, base_url: str, model: str) -> None:
    where = ("--base-url", base_url, "--key-env", "OUR_KEY", "--models", model)
    assert gateway.manage("channel_add", name, *where, OUR_KEY=OUR_KEY) == {"channel": name}


@pytest.fixture(scope="module")
def user(hasty: LiveGateway) -> Iterator[Customer]:
    with httpx2.Client(base_url=hasty.origin, timeout=30) as http:
        yield customer_of(hasty, http, hasty.quickstart["organization"])


@pytest.fixture(scope="module")
def its_upstream(hasty: LiveGateway) -> Iterator[Upstream]:
    with httpx2.Client(base_url=hasty.simulator_url, timeout=30) as http:
        yield Upstream(http)


def outcome_of(record: dict[str, Any]) -> tuple[str, str, int]:
    return record["outcome"], record["usage_source"], record["charge_nano_usd"]


@pytest.mark.parametrize("stream", [False, True])
def test_no_first_byte_in_time(user: Customer, its_upstream: Upstream, *, stream: bool) -> None:
    tag, balance = new_tag(), user.balance()
    reply = user.chat(stream=stream, simulate={"tag": tag, "fault": "hang"})
    assert reply.status_code == 504
    assert error_of(reply) == TIMED_OUT
    assert reply.headers["x-should-retry"] == "false"
    assert its_upstream.count(tag) == 1
    assert outcome_of(user.record(reply)) == ("upstream_error", "none", 0)
    assert user.balance() == balance


@pytest.mark.parametrize("said", [0, 2])
def test_a_stream_that_falls_silent(user: Customer, said: int) -> None:
    knobs = {"text": WORDS, "fault": "silent_stream", "after_chunks": said}
    reply = user.chat(stream=True, simulate=knobs)
    assert reply.status_code == 200
    *_, error, end = events_of(reply.content)
    assert (json.loads(error), end) == ({"error": TIMED_OUT}, b"[DONE]")
    record = user.record(reply)
    if said:
        charge = charge_of(record["prompt_tokens"], said)
        assert outcome_of(record) == ("interrupted", "estimated", charge)
    else:
        assert outcome_of(record) == ("upstream_error", "none", 0)


def test_a_client_that_leaves_a_silent_stream_pays_what_it_got(user: Customer) -> None:
    knobs = {"text": WORDS, "fault": "silent_stream", "after_chunks": 3}
    body = chat_body(stream=True, simulate=knobs)
    with user.http.stream("POST", CHAT, json=body, headers=user.authorization) as reply:
        content = b""
        for piece in reply.iter_raw():
            content += piece
            if b"three" in content:
                break
    record = user.record(reply)
    charge = charge_of(record["prompt_tokens"], 3)
    assert outcome_of(record) == ("client_left", "estimated", charge)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_goes_on_for_too_long(user: Customer, *, stream: bool) -> None:
    """Each of its parts comes in time, but there are too many of them."""
    knobs = {"text": WORDS, "chunk_delay_ms": 400}
    fault = {} if stream else {"fault": "split_bytes"}
    reply = user.chat(stream=stream, simulate=knobs | fault)
    record = user.record(reply)
    if not stream:
        assert (reply.status_code, error_of(reply)) == (504, TIMED_OUT)
        assert outcome_of(record) == ("upstream_error", "none", 0)
        return
    *_, error, end = events_of(reply.content)
    assert (json.loads(error), end) == ({"error": TIMED_OUT}, b"[DONE]")
    delivered = len(texts_of(reply.content).split())
    assert 0 < delivered < 10
    charge = charge_of(record["prompt_tokens"], delivered)
    assert outcome_of(record) == ("interrupted", "estimated", charge)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_without_a_channel_does_not_exist(user: Customer, *, stream: bool) -> None:
    assert user.record(user.chat(stream=stream))["outcome"] == "completed"
    body = {"model": CHANNEL_LESS, "messages": [{"role": "user", "content": "hi"}]}
    refused = user.post(body | {"stream": stream})
    assert refused.status_code == 404
    assert error_of(refused)["code"] == "model_not_found"
    assert {model["id"] for model in user.ask("/v1/models")["data"]} == {MODEL, UNREACHABLE}
    assert user.get(f"/v1/models/{CHANNEL_LESS}").status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_where_nobody_listens_nothing_is_charged(user: Customer, *, stream: bool) -> None:
    balance = user.balance()
    body = {"model": UNREACHABLE, "messages": [{"role": "user", "content": "hi"}]}
    reply = user.post(body | {"stream": stream})
    assert reply.status_code == 503
    assert error_of(reply)["code"] == "server_is_overloaded"
    assert int(reply.headers["retry-after"]) >= 1
    assert "x-should-retry" not in reply.headers
    assert outcome_of(user.record(reply)) == ("upstream_error", "none", 0)
    assert user.balance() == balance


@pytest.fixture
def new_model(hasty: LiveGateway) -> str:
    """On two channels of its own: what other calls met closes or disables those of others."""
    name = f"e2e-{new_tag()[:8]}"
    hasty.manage("price_set", name, "--input", "10", "--output", "30")
    for number in (1, 2):
        channel_add(hasty, f"{name}-{number}", f"{hasty.simulator_url}/v1", name)
    return name


@pytest.mark.parametrize(("status", "calls"), [(429, 2), (503, 2), (500, 1), (401, 2), (400, 1)])
def test_only_what_was_not_taken_is_tried_on_another_channel(
    user: Customer, its_upstream: Upstream, new_model: str, status: int, calls: int
) -> None:
    tag = new_tag()
    reply = user.chat(model=new_model, simulate={"tag": tag, "status": status})
    assert error_of(reply)
    assert its_upstream.count(tag) == calls
    assert outcome_of(user.record(reply)) == ("upstream_error", "none", 0)


def test_upstream_sees_the_credential_of_the_channel(
    user: Customer, its_upstream: Upstream, new_model: str
) -> None:
    tag = new_tag()
    assert user.chat(model=new_model, simulate={"tag": tag}).status_code == 200
    headers = dict(its_upstream.received(tag)["headers"])
    assert headers["authorization"] == "Bearer sk-o***lses"
    assert OUR_KEY not in user.gateway.log_file.read_text("utf-8")
