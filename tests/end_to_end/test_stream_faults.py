"""Streams that break or come oddly: what the client reads, and what it pays."""

import json
from typing import Any

import pytest

from tests.end_to_end.live import wait_for
from tests.end_to_end.support import (
    CHAT,
    Customer,
    Upstream,
    charge_of,
    chat_body,
    events_of,
    new_tag,
    texts_of,
)

WORDS = ["one", " two", " three", " four", " five", " six"]
SAID = "".join(WORDS)
PROMPT_TOKENS = 8
FAILED = {
    "message": "The upstream failed while it processed the request.",
    "type": "server_error",
    "param": None,
    "code": "upstream_error",
}
# So that each event is read by itself.
APART = {"chunk_delay_ms": 20}


def knobs_of(fault: str, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "text": SAID, **more}


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("fault", ["cut", "truncated", "garbage", "error_event_after"])
def test_a_stream_that_breaks_ends_with_an_error(
    customer: Customer, fault: str, after: int
) -> None:
    said = {"message": "It broke.", "type": "server_error", "param": None, "code": "broken"}
    knobs = knobs_of(fault, after_chunks=after, error=said, **APART)
    reply = customer.chat(stream=True, simulate=knobs)
    assert reply.status_code == 200
    *_, error, end = events_of(reply.content)
    assert end == b"[DONE]"
    assert json.loads(error) == {"error": said if fault == "error_event_after" else FAILED}
    assert texts_of(reply.content) == "".join(WORDS[:after])
    record = customer.record(reply)
    assert (record["outcome"], record["usage_source"]) == ("interrupted", "estimated")
    assert record["completion_tokens"] == after
    assert PROMPT_TOKENS <= record["prompt_tokens"] <= PROMPT_TOKENS + 4
    assert record["charge_nano_usd"] == charge_of(record["prompt_tokens"], after)


@pytest.mark.parametrize(
    "knobs",
    [
        {"fault": "error_event_first"},
        {"fault": "cut", "after_chunks": 0},
        {"fault": "truncated", "after_chunks": 0},
        {"fault": "garbage", "after_chunks": 0, **APART},
        {"fault": "gzip"},
    ],
)
def test_a_stream_that_breaks_before_any_output_is_free(
    customer: Customer, knobs: dict[str, Any]
) -> None:
    balance = customer.balance()
    reply = customer.chat(stream=True, simulate=knobs)
    assert reply.status_code == 200
    *_, error, end = events_of(reply.content)
    assert end == b"[DONE]"
    assert json.loads(error)["error"]["type"] == "server_error"
    assert texts_of(reply.content) == ""
    record = customer.record(reply)
    assert (record["outcome"], record["usage_source"]) == ("upstream_error", "none")
    assert record["charge_nano_usd"] == 0
    assert customer.balance() == balance


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        "no_done",
        "usage_twice",
        "data_after_done",
        "crlf",
        "cr",
        "bom",
        "event_lines",
        "split_bytes",
        "big_line",
        "bad_content_length",
    ],
)
def test_a_stream_that_comes_oddly_leaves_in_order(
    customer: Customer, fault: str, *, asked: bool
) -> None:
    options = {"include_usage": asked}
    reply = customer.chat(stream=True, stream_options=options, simulate=knobs_of(fault))
    *chunks, end = events_of(reply.content)
    assert end == b"[DONE]"
    assert texts_of(reply.content) == SAID
    usages = [usage for chunk in chunks if (usage := json.loads(chunk).get("usage"))]
    assert [usage["completion_tokens"] for usage in usages] == ([6] if asked else [])
    record = customer.record(reply)
    assert (record["outcome"], record["usage_source"]) == ("completed", "upstream")
    assert record["charge_nano_usd"] == charge_of(PROMPT_TOKENS, 6)


def test_events_of_many_lines_stay_so(customer: Customer) -> None:
    reply = customer.chat(stream=True, simulate=knobs_of("multi_line"))
    *chunks, end = reply.text.removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    lines = [line for chunk in chunks for line in chunk.split("\n")]
    assert all(line.startswith("data: ") for line in lines)
    parsed = [json.loads(chunk.replace("data: ", "")) for chunk in chunks]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in parsed) == SAID
    assert customer.record(reply)["charge_nano_usd"] == charge_of(PROMPT_TOKENS, 6)


def test_comments_take_the_one_form_that_every_client_knows(customer: Customer) -> None:
    reply = customer.chat(stream=True, simulate=knobs_of("comments"))
    assert set(reply.text.split("\n\n")) >= {": keepalive"}
    kept = reply.content.replace(b": keepalive\n\n", b"")
    assert texts_of(kept) == SAID


def test_what_is_no_utf8_is_mended(customer: Customer) -> None:
    reply = customer.chat(stream=True, simulate=knobs_of("invalid_utf8"))
    assert "\ufffd" in reply.content.decode("utf-8")
    assert texts_of(reply.content) == SAID
    assert customer.record(reply)["charge_nano_usd"] == charge_of(PROMPT_TOKENS, 6)


@pytest.mark.parametrize("fault", ["done_without_usage", "no_usage"])
def test_a_whole_stream_without_usage_is_estimated(customer: Customer, fault: str) -> None:
    reply = customer.chat(stream=True, simulate=knobs_of(fault))
    assert texts_of(reply.content) == SAID
    assert events_of(reply.content)[-1] == b"[DONE]"
    record = customer.record(reply)
    assert (record["outcome"], record["usage_source"]) == ("completed", "estimated")
    assert record["completion_tokens"] == 6


def test_a_client_that_leaves_pays_what_upstream_counted(
    customer: Customer, upstream: Upstream
) -> None:
    tag = new_tag()
    knobs = {"tag": tag, "text": SAID, "chunk_delay_ms": 50}
    with customer.http.stream(
        "POST", CHAT, json=chat_body(stream=True, simulate=knobs), headers=customer.authorization
    ) as reply:
        next(reply.iter_raw())
    record = customer.record(reply)
    assert (record["outcome"], record["usage_source"]) == ("client_left", "upstream")
    assert record["charge_nano_usd"] == charge_of(PROMPT_TOKENS, 6)
    wait_for(lambda: upstream.received(tag)["outcome"] == "complete", "the end of the drain")
