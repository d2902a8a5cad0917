"""The Responses API: what is held, relayed and charged."""

import json
from typing import Any

import pytest

from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import (
    INPUT_USD,
    MODEL,
    OUTPUT_USD,
    USD,
    Gateway,
    charge_of,
)
from tests.adversary.upstream import STREAM_HEAD, json_response
from tests.relay.endpoints.support import SCRIPTED, ask, price, told, upstream_says

WORDS = "The quick brown fox jumps over the lazy dog. " * 20


def tokens_of(text: str) -> int:
    return Tokenizer(SCRIPTED).count(text)


def usage(prompt: int, completion: int, **details: Any) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
        **details,
    }


def response(status: str = "completed", **members: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "model": SCRIPTED,
        "service_tier": "default",
        "error": None,
        "output": [],
        "usage": None,
        **members,
    }


def said(kind: str, number: int, **members: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": number, **members})
    return f"event: {kind}\ndata: {data}\n\n".encode()


CREATED = said("response.created", 0, response=response("in_progress"))
ONE = said("response.output_text.delta", 1, delta="one", item_id="msg_1")
TWO = said("response.output_text.delta", 2, delta=" two", item_id="msg_1")


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each in the one form, with its own name."""
    found = []
    *whole, rest = body.split(b"\n\n")
    assert rest == b""
    for one in whole:
        name, data = one.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == f"event: {event['type']}".encode()
        found.append(event)
    return found


async def test_a_response_is_charged_by_its_usage(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    body = {"model": MODEL, "input": "Hello", "simulate": {"text": "one two"}}
    answer = await ask(gateway, customer, "responses", body)
    assert answer.status == 200
    document = json.loads(answer.body)
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("completed", "upstream")
    assert record.prompt_tokens == document["usage"]["input_tokens"]
    assert record.completion_tokens == document["usage"]["output_tokens"]
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert gateway.received() == [body]


async def test_a_stream_is_relayed_as_it_is_and_ends_with_its_last_event(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    last = said("response.completed", 3, response=response(usage=usage(7, 2)))
    await upstream_says(gateway, STREAM_HEAD, CREATED, ONE + TWO, last)
    body = {"model": SCRIPTED, "input": "x", "stream": True}
    answer = await ask(gateway, customer, "responses", body)
    assert answer.body == CREATED + ONE + TWO + last
    record = await gateway.record()
    assert (record.outcome, record.stream, record.usage_source) == ("completed", True, "upstream")
    assert record.charge_nano_usd == charge_of(7, 2)


async def test_a_stream_of_the_simulator_is_whole(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    body = {"model": MODEL, "input": "Hello", "stream": True}
    told_events = events((await ask(gateway, customer, "responses", body)).body)
    assert [one["sequence_number"] for one in told_events] == list(range(len(told_events)))
    assert told_events[-1]["type"] == "response.completed"
    reported = told_events[-1]["response"]["usage"]
    record = await gateway.record()
    assert record.charge_nano_usd == charge_of(reported["input_tokens"], reported["output_tokens"])


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
@pytest.mark.parametrize("split", [1, 7, 10_000])
async def test_the_usage_is_in_whichever_event_is_the_last(
    gateway: Gateway, kind: str, split: int
) -> None:
    customer = await gateway.customer(USD)
    error = {"code": "server_error", "message": "It broke"} if kind.endswith("failed") else None
    status = kind.removeprefix("response.")
    last = said(kind, 2, response=response(status, error=error, usage=usage(7, 2)))
    stream = CREATED + ONE + last
    pieces = [stream[at : at + split] for at in range(0, len(stream), split)]
    await upstream_says(gateway, STREAM_HEAD, *pieces)
    body = {"model": SCRIPTED, "input": "x", "stream": True}
    answer = await ask(gateway, customer, "responses", body)
    assert events(answer.body) == events(stream)
    record = await gateway.record()
    assert record.outcome == ("interrupted" if error else "completed")
    assert record.charge_nano_usd == charge_of(7, 2)


async def test_a_stream_that_breaks_tells_agents_and_sdks(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    await upstream_says(gateway, STREAM_HEAD, CREATED, ONE, TWO)
    body = {"model": SCRIPTED, "input": "three four", "stream": True}
    answer = await ask(gateway, customer, "responses", body)
    *relayed, failed, error = events(answer.body)
    assert relayed == events(CREATED + ONE + TWO)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 3)
    assert failed["response"]["id"] == "resp_1"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert (error["type"], error["sequence_number"]) == ("error", 4)
    assert error.keys() == {"type", "sequence_number", "code", "message", "param"}
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.completion_tokens == tokens_of("one two")
    assert record.prompt_tokens >= tokens_of("three four")


async def test_an_error_before_any_output_costs_nothing(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    error = said("error", 1, code="server_error", message="Sorry", param=None)
    await upstream_says(gateway, STREAM_HEAD, CREATED, error)
    body = {"model": SCRIPTED, "input": "x", "stream": True}
    answer = await ask(gateway, customer, "responses", body)
    kinds = [one["type"] for one in events(answer.body)]
    assert kinds == ["response.created", "response.failed", "error"]
    assert b"Sorry" in answer.body
    record = await gateway.record()
    assert (record.outcome, record.charge_nano_usd) == ("upstream_error", 0)


async def test_what_upstream_says_of_the_operators_account_is_not_passed_on(
    gateway: Gateway,
) -> None:
    customer = await gateway.customer(USD)
    leak = {"code": "rate_limit_exceeded", "message": "Limit reached in organization org-abcdef12"}
    last = said("response.failed", 1, response=response("failed", error=leak))
    await upstream_says(gateway, STREAM_HEAD, CREATED, last)
    body = {"model": SCRIPTED, "input": "x", "stream": True}
    answer = await ask(gateway, customer, "responses", body)
    assert events(answer.body)[-1]["response"]["error"]["code"] == "server_error"
    assert b"org-" not in answer.body


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_paid_by_the_calls_that_were_made(gateway: Gateway, stream: bool) -> None:
    await price(
        gateway,
        SCRIPTED,
        input_usd=INPUT_USD,
        output_usd=OUTPUT_USD,
        unit_usd={"web_search_calls": "0.01", "code_interpreter_sessions": "0.03"},
    )
    customer = await gateway.customer(USD)
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    output = [
        {**search, "action": {"type": "search", "query": "x"}},
        {**search, "action": {"type": "open_page", "url": "x"}},
        {**search, "action": {"type": "search", "query": "y"}},
        {**search, "status": "failed", "action": {"type": "search", "query": "z"}},
        *(
            {"type": "code_interpreter_call", "status": "completed", "container_id": "cntr_1"}
            for _ in range(3)
        ),
        {"type": "file_search_call", "id": "fs_1", "status": "completed"},  # Was not asked for.
    ]
    whole = response(usage=usage(7, 2), output=output)
    if stream:
        last = said("response.completed", 1, response=whole)
        await upstream_says(gateway, STREAM_HEAD, CREATED, last)
    else:
        await upstream_says(gateway, json_response(200, whole))
    tools = [{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}]
    body = {"model": SCRIPTED, "input": "x", "tools": tools, "stream": stream}
    assert (await ask(gateway, customer, "responses", body)).status == 200
    record = await gateway.record()
    assert record.units == {
        "input_tokens": 7,
        "output_tokens": 2,
        "web_search_calls": 2,
        "code_interpreter_sessions": 1,
    }
    assert record.charge_nano_usd == charge_of(7, 2) + 2 * 5_000_000 + 15_000_000


async def test_a_tool_without_a_price_is_refused(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    body = {"model": MODEL, "input": "x", "tools": [{"type": "web_search_preview"}]}
    answer = await ask(gateway, customer, "responses", body)
    assert (answer.status, told(answer)["param"]) == (400, "tools")
    assert gateway.arrived() == 0


async def test_on_a_small_balance_the_output_is_capped(gateway: Gateway) -> None:
    body = {"model": SCRIPTED, "input": "Hello", "max_output_tokens": 4000}
    affordable = charge_of(len(json.dumps(body)), 1000)
    customer = await gateway.customer(affordable, strict=True)
    got = await upstream_says(gateway, json_response(200, response(usage=usage(1, 1000))))
    await ask(gateway, customer, "responses", body)
    assert json.loads(got[0]) == {**body, "max_output_tokens": 1000}
    assert (await gateway.record()).charge_nano_usd == charge_of(1, 1000)


@pytest.mark.parametrize(
    "given",
    [
        WORDS,
        [{"role": "user", "content": WORDS}],
        [{"role": "user", "content": [{"type": "input_text", "text": WORDS}]}],
    ],
)
async def test_a_prompt_is_counted_before_its_call_is_refused(gateway: Gateway, given: Any) -> None:
    await price(gateway, "gpt-4o", input_usd=INPUT_USD, output_usd=OUTPUT_USD)
    body = {"model": "gpt-4o", "input": given, "max_output_tokens": 16}
    size = len(json.dumps(body))
    counted = size - len(WORDS) + Tokenizer("gpt-4o").count(WORDS)
    for balance, status in ((charge_of(counted, 16), 200), (charge_of(counted, 16) - 1, 429)):
        customer = await gateway.customer(balance, strict=True)
        assert (await ask(gateway, customer, "responses", body)).status == status
    record = await gateway.record()
    assert record.hold_nano_usd == charge_of(counted, 16) < charge_of(size, 16)


async def test_a_background_response_is_refused(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    body = {"model": MODEL, "input": "x", "background": True}
    answer = await ask(gateway, customer, "responses", body)
    assert (answer.status, told(answer)["param"]) == (400, "background")


async def test_an_answer_names_the_user_as_the_client_does(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    long = "k" * 64
    body = {"model": MODEL, "input": "x", "user": "al\u00ef", "prompt_cache_key": long}
    answer = await ask(gateway, customer, "responses", body)
    seen = gateway.received()[0]
    assert seen["user"].endswith("-al\u00ef")
    assert seen["user"] != "al\u00ef"
    assert seen["prompt_cache_key"] != long
    document = json.loads(answer.body)
    assert (document["user"], document["prompt_cache_key"]) == ("al\u00ef", long)


async def test_compacting_costs_its_usage_and_counting_nothing(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    body = {"model": MODEL, "input": "Hello there"}
    compacted = await ask(gateway, customer, "responses/compact", body)
    assert compacted.status == 200
    reported = json.loads(compacted.body)["usage"]
    record = await gateway.record()
    assert record.charge_nano_usd == charge_of(reported["input_tokens"], reported["output_tokens"])
    counted = await ask(gateway, customer, "responses/input_tokens", body)
    assert json.loads(counted.body)["object"] == "response.input_tokens"
    records = await gateway.records(2)
    assert (records[1].hold_nano_usd, records[1].charge_nano_usd) == (0, 0)
