"""Streams of the Responses API, whole and broken, however their bytes are cut."""

import json
from typing import Any

import pytest

from relay.endpoints.response_answers import response_answer
from relay.endpoints.response_meter import ResponseStreamMeter
from relay.errors import upstream_failed
from relay.metering.meter import KEEP_ALIVE
from tests.relay.endpoints.test_responses import CREATED, ONE, TWO, events, response, said, usage

ITEM = {"type": "message", "id": "msg_1", "status": "completed"}
DONE_ITEM = said("response.output_item.done", 3, item=ITEM)
LAST = said("response.completed", 4, response=response(usage=usage(7, 2), output=[ITEM]))
FAILED = response(status="failed", error={"code": "x", "message": "y"})
STREAM = CREATED + ONE + TWO + DONE_ITEM + LAST


def run(*chunks: bytes) -> tuple[bytes, ResponseStreamMeter]:
    """What was forwarded at once, and the meter."""
    meter = ResponseStreamMeter()
    return b"".join(map(meter.feed, chunks)), meter


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 64, len(STREAM)])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_however_it_is_cut_it_is_the_same(ends: bytes, size: int, before: bytes) -> None:
    text = before + STREAM.replace(b"\n", ends)
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    forwarded, meter = run(*chunks)
    assert forwarded == STREAM.removesuffix(LAST)
    # Of a stream that ends with CR, whether an LF follows shows only at its end.
    assert meter.finish() == LAST
    assert meter.is_complete
    assert (meter.usage, meter.upstream_id, meter.served_tier) == (usage(7, 2), "resp_1", "default")
    assert meter.output_text() == "one two"
    assert set(meter.ids) == {"resp_1", "msg_1"}


def test_the_last_event_waits_and_nothing_follows_it() -> None:
    forwarded, meter = run(STREAM + b"data: [DONE]\n\n" + ONE)
    assert forwarded == STREAM.removesuffix(LAST)
    assert meter.done
    assert meter.finish() == LAST
    assert meter.ending(None) == b""


def test_an_event_without_its_end_counts_if_it_is_whole() -> None:
    assert run(STREAM[:-1])[1].finish() == LAST
    half = run(STREAM[:-9])[1]
    assert half.finish() == b""
    assert not half.is_complete


def test_a_very_large_last_event_is_read_to_its_usage() -> None:
    picture = {"type": "image_generation_call", "id": "ig_1", "result": "A" * 10_000_000}
    last = said("response.completed", 1, response=response(usage=usage(5, 6), output=[picture]))
    text = CREATED + last
    chunks = [text[at : at + 65_536] for at in range(0, len(text), 65_536)]
    forwarded, meter = run(*chunks)
    assert forwarded == CREATED
    assert meter.finish() == last
    assert meter.usage == usage(5, 6)


def test_comments_are_one_harmless_form_and_odd_lines_vanish() -> None:
    odd = b"id: 7\nretry: 9\n" + ONE
    forwarded, _ = run(CREATED + b": ping\n\n" + odd + b"event: empty\n\n")
    assert forwarded == CREATED + KEEP_ALIVE + ONE


def test_an_event_that_came_without_its_name_stays_so() -> None:
    plain = b"data: " + json.dumps({"type": "response.x", "sequence_number": 1}).encode() + b"\n\n"
    assert run(plain)[0] == plain


def test_invalid_utf8_is_mended_and_half_characters_pass() -> None:
    broken = ONE.replace(b"one", b"o\xffe")
    forwarded, meter = run(CREATED, broken)
    assert events(forwarded)[-1]["delta"] == meter.output_text() == "o\ufffde"
    half = ONE.replace(b"one", b"\\ud83d")
    assert run(CREATED, half)[0].endswith(half)


@pytest.mark.parametrize(
    "strange",
    [
        b"data: <html>\n\n",
        b"data: {}\n\n",
        b'data: {"type":7}\n\n',
        b'data: {"choices":[]}\n\n',
        b'data: {"type":"x\\ny"}\n\n',
        b"data: [1]\n\n",
        b'data: {"error":{"message":"Sorry","code":"x"}}\n\n',
        b'event: error\ndata: {"type":"error","code":"x","message":"Sorry","param":null}\n\n',
    ],
)
def test_what_is_no_event_ends_the_stream_once(strange: bytes) -> None:
    forwarded, meter = run(CREATED + strange + ONE + LAST)
    kinds = [one["type"] for one in events(forwarded)]
    assert kinds == ["response.created", "response.failed", "error"]
    assert meter.error is not None
    assert not meter.is_complete
    assert (meter.finish(), meter.ending(None)) == (b"", b"")


def test_a_stream_that_never_began_still_ends_for_everybody() -> None:
    ending = events(ResponseStreamMeter().ending(upstream_failed()))
    assert [one["type"] for one in ending] == ["response.failed", "error"]
    assert [one["sequence_number"] for one in ending] == [0, 1]
    assert ending[0]["response"]["status"] == "failed"


@pytest.mark.parametrize(
    ("kind", "delta", "text"),
    [
        ("response.output_text.delta", "x", "x"),
        ("response.refusal.delta", "x", "x"),
        ("response.function_call_arguments.delta", '{"a"', '{"a"'),
        ("response.reasoning_summary_text.delta", "x", "x"),
        ("response.code_interpreter_call_code.delta", "x", "x"),
        ("response.something_new.delta", "x", "x"),
        ("response.audio.delta", "UklGRg==", ""),
        ("response.something_new.delta", {"x": 1}, ""),
    ],
)
def test_all_that_the_model_writes_is_counted(kind: str, delta: Any, text: str) -> None:
    _, meter = run(CREATED, said(kind, 1, delta=delta))
    assert meter.output_text() == text
    assert meter.characters == len(text)


def test_tools_count_from_the_items_where_the_last_event_is_missing() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    _, meter = run(CREATED, said("response.output_item.done", 1, item=search))
    assert meter.tools.by_unit({"web_search_call": "web_search_calls"}) == {"web_search_calls": 1}
    assert meter.tools.by_unit({}) == {}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "unreadable"),
        (b"<html>", "unreadable"),
        (b"[]", "unreadable"),
        (b'{"object":"chat.completion"}', "unreadable"),
        (b'{"error":{"message":"Sorry"}}', "error"),
        (json.dumps(FAILED).encode(), "completion"),
        (b'{"object":"response","output":"odd","id":7}', "completion"),
    ],
)
def test_whole_answers_are_told_from_what_is_none(body: bytes, kind: str) -> None:
    assert response_answer(body).kind == kind


def test_of_what_is_not_stored_only_containers_can_be_named_later() -> None:
    item = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
    whole = response(output=[item])
    meter = ResponseStreamMeter(is_stored=False)
    meter.feed(CREATED + said("response.completed", 1, response=whole))
    assert meter.ids == ["cntr_1"]
    assert meter.upstream_id == "resp_1"
    answer = response_answer(json.dumps(whole).encode(), is_stored=False)
    assert (answer.ids, answer.upstream_id) == (["cntr_1"], "resp_1")


def test_the_text_of_an_answer_is_what_the_model_wrote() -> None:
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "b"}, {"refusal": "c"}]},
        {"type": "function_call", "name": "d", "arguments": "e", "call_id": "f"},
        {"type": "image_generation_call", "result": "g", "encrypted_content": "h"},
    ]
    answer = response_answer(json.dumps(response(output=output)).encode())
    assert answer.output_text() == "a\nb\nc\nd\ne"
