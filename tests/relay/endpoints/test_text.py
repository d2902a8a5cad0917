"""Text completions, embeddings and moderations: what is held, sent on, and charged."""

import asyncio
import json
from typing import Any

import pytest

from relay.endpoints.moderations import DEFAULT_MODEL
from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import (
    INPUT_NANO_USD,
    INPUT_USD,
    MODEL,
    OUTPUT_USD,
    USD,
    Gateway,
    charge_of,
)
from tests.adversary.upstream import DONE, STREAM_HEAD, event, json_response, usage_chunk
from tests.relay.endpoints.support import SCRIPTED, ask, price, told, upstream_says

INSTRUCT, EMBEDDING = "some-instruct-model", "some-embedding-model"


@pytest.fixture(autouse=True)
async def priced(gateway: Gateway) -> None:
    for model in (INSTRUCT, EMBEDDING):
        await price(gateway, model, input_usd=INPUT_USD, output_usd=OUTPUT_USD)


def tokens_of(text: str) -> int:
    return Tokenizer(SCRIPTED).count(text)


def completed(*texts: str, **members: Any) -> bytes:
    choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)]
    document = {"id": "cmpl-1", "object": "text_completion", "model": SCRIPTED}
    return json_response(200, {**document, "choices": choices, **members})


def usage(prompt: int, completion: int) -> dict[str, int]:
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def piece(text: str) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": None}
    return event({"id": "cmpl-1", "model": SCRIPTED, "choices": [choice]})


async def test_a_completion_is_charged_by_its_usage(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    answer = await ask(
        gateway, customer, "completions", {"model": INSTRUCT, "prompt": ["one", "two"], "n": 2}
    )
    assert answer.status == 200
    reported = json.loads(answer.body)["usage"]
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("completed", "upstream")
    assert (record.prompt_tokens, record.completion_tokens) == (
        reported["prompt_tokens"],
        reported["completion_tokens"],
    )
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert gateway.received() == [{"model": INSTRUCT, "prompt": ["one", "two"], "n": 2}]


@pytest.mark.parametrize(
    ("asked", "answers"), [({}, 1), ({"n": 3}, 3), ({"best_of": 5}, 5), ({"n": 2, "best_of": 4}, 4)]
)
@pytest.mark.parametrize("prompt", ["Hello", ["Hello", "World"], [1, 2, 3], [[1, 2], [3]]])
async def test_a_strict_hold_covers_every_answer_that_is_written(
    gateway: Gateway, prompt: Any, asked: dict[str, int], answers: int
) -> None:
    customer = await gateway.customer(USD, strict=True)
    body = {"model": SCRIPTED, "prompt": prompt, "max_tokens": 100, **asked}
    prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    await upstream_says(gateway, completed("x", usage=usage(3, 100 * answers * prompts)))
    await ask(gateway, customer, "completions", body)
    record = await gateway.record()
    assert record.flags == []
    size = len(json.dumps(body).encode())
    assert record.hold_nano_usd == charge_of(size, 100 * answers * prompts)
    assert record.charge_nano_usd == charge_of(3, 100 * answers * prompts)


async def test_a_streamed_completion_hides_the_usage_that_only_we_asked_for(
    gateway: Gateway,
) -> None:
    customer = await gateway.customer(USD)
    got = await upstream_says(gateway, STREAM_HEAD, piece("a"), usage_chunk(7, 1), DONE)
    answer = await ask(
        gateway, customer, "completions", {"model": SCRIPTED, "prompt": "x", "stream": True}
    )
    assert answer.body == piece("a") + DONE
    assert json.loads(got[0])["stream_options"] == {"include_usage": True}
    record = await gateway.record()
    assert (record.stream, record.charge_nano_usd) == (True, charge_of(7, 1))


async def test_a_stream_that_breaks_is_estimated_by_its_texts(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    await upstream_says(gateway, STREAM_HEAD, piece("one"), piece(" two"))
    body = {"model": SCRIPTED, "prompt": "three four", "stream": True}
    answer = await ask(gateway, customer, "completions", body)
    assert answer.body.endswith(DONE)
    assert b'"error"' in answer.body
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.completion_tokens == tokens_of("one two")
    assert record.prompt_tokens == tokens_of("three four")


async def test_an_echo_is_not_taken_for_output(gateway: Gateway) -> None:
    customer = await gateway.customer(USD)
    await upstream_says(gateway, completed("three four and five"))
    await ask(
        gateway, customer, "completions", {"model": SCRIPTED, "prompt": "three four", "echo": True}
    )
    record = await gateway.record()
    assert record.usage_source == "estimated"
    assert record.completion_tokens == tokens_of("three four and five") - tokens_of("three four")


async def test_on_a_small_balance_the_output_is_capped_in_max_tokens(gateway: Gateway) -> None:
    body = {"model": SCRIPTED, "prompt": "Hello", "max_tokens": 4000}
    affordable = charge_of(len(json.dumps(body)), 1000)
    customer = await gateway.customer(affordable, strict=True)
    got = await upstream_says(gateway, completed("x", usage=usage(1, 1000)))
    await ask(gateway, customer, "completions", body)
    assert json.loads(got[0]) == {**body, "max_tokens": 1000}
    record = await gateway.record()
    assert record.charge_nano_usd == charge_of(1, 1000) <= affordable


@pytest.mark.parametrize("given", ["one two", ["one two", "three"], [1, 2], [[1, 2], [3]]])
async def test_an_embedding_costs_its_input_and_no_output(gateway: Gateway, given: Any) -> None:
    customer = await gateway.customer(USD, strict=True)
    body = {"model": EMBEDDING, "input": given, "encoding_format": "base64"}
    answer = await ask(gateway, customer, "embeddings", body)
    assert answer.status == 200
    assert all(isinstance(one["embedding"], str) for one in json.loads(answer.body)["data"])
    record = await gateway.record()
    assert (record.usage_source, record.completion_tokens) == ("upstream", 0)
    assert record.prompt_tokens > 0
    assert record.charge_nano_usd == record.prompt_tokens * INPUT_NANO_USD
    assert record.hold_nano_usd == len(json.dumps(body)) * INPUT_NANO_USD
    assert gateway.received() == [body]


@pytest.mark.parametrize(
    ("given", "tokens"),
    [("one two", 2), (["one two", "three"], 4), ([1, 2], 2), ([[1, 2], [3]], 3)],
)
async def test_an_embedding_without_usage_is_estimated_by_its_input(
    gateway: Gateway, given: Any, tokens: int
) -> None:
    customer = await gateway.customer(USD)
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    await upstream_says(gateway, json_response(200, {"object": "list", "data": data}))
    await ask(gateway, customer, "embeddings", {"model": SCRIPTED, "input": given})
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("completed", "estimated")
    assert record.prompt_tokens == tokens
    assert record.charge_nano_usd == tokens * INPUT_NANO_USD


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("embeddings", {"model": MODEL}, "input"),
        ("embeddings", {"model": MODEL, "input": []}, "input"),
        ("embeddings", {"model": MODEL, "input": {"text": "x"}}, "input"),
        ("embeddings", {"model": MODEL, "input": [1, "x"]}, "input"),
        ("embeddings", {"model": MODEL, "input": ["x"] * 2049}, "input"),
        ("embeddings", {"input": "x"}, "model"),
        ("embeddings", {"model": MODEL, "input": "x", "base_url": "http://x"}, "base_url"),
        ("embeddings", {"model": MODEL, "input": "x", "user": 7}, "user"),
        ("embeddings", b'{"model":"m","input":"x","input":"y"}', "input"),
        ("embeddings", {"model": MODEL, "input": "x", "service_tier": "batch"}, "service_tier"),
        (
            "chat/completions",
            {"model": MODEL, "messages": [{}], "service_tier": "batch"},
            "service_tier",
        ),
        ("completions", {"model": MODEL, "prompt": 5}, "prompt"),
        ("completions", {"model": MODEL, "prompt": "x", "best_of": 2, "stream": True}, "best_of"),
        ("completions", {"model": MODEL, "prompt": "x", "n": 0}, "n"),
        ("completions", {"model": MODEL, "prompt": "x", "api_key": "x"}, "api_key"),
        ("moderations", {}, "input"),
        ("moderations", {"input": "x", "api_base": "http://x"}, "api_base"),
    ],
)
async def test_what_cannot_be_metered_is_refused(
    gateway: Gateway, path: str, fields: Any, param: str
) -> None:
    answer = await ask(gateway, await gateway.customer(USD), path, fields)
    assert (answer.status, told(answer)["param"]) == (400, param)
    assert gateway.arrived() == 0


@pytest.mark.parametrize("path", ["completions", "embeddings", "chat/completions"])
async def test_a_model_that_is_not_sold_by_tokens_does_not_exist_there(
    gateway: Gateway, path: str
) -> None:
    await price(gateway, "voice-model", unit_usd={"characters": "15"})
    customer = await gateway.customer(USD)
    fields = {"model": "voice-model", "prompt": "x", "input": "x", "messages": [{}]}
    answer = await ask(gateway, customer, path, fields)
    assert (answer.status, told(answer)["code"]) == (404, "model_not_found")
    assert gateway.arrived() == 0


@pytest.mark.parametrize("balance", [0, USD])
@pytest.mark.parametrize("named", [True, False])
async def test_a_moderation_is_free_and_recorded(
    gateway: Gateway, balance: int, named: bool
) -> None:
    await price(gateway, DEFAULT_MODEL, input_usd="1", output_usd="1")
    customer = await gateway.customer(balance)
    fields = {"input": "something", **({"model": DEFAULT_MODEL} if named else {})}
    answer = await ask(gateway, customer, "moderations", fields)
    assert answer.status == 200
    assert json.loads(answer.body)["results"]
    record = await gateway.record()
    assert (record.model, record.outcome) == (DEFAULT_MODEL, "completed")
    assert (record.hold_nano_usd, record.charge_nano_usd) == (0, 0)
    assert gateway.received() == [fields]


async def test_many_moderations_share_an_empty_wallet(gateway: Gateway) -> None:
    await price(gateway, DEFAULT_MODEL, input_usd="0", output_usd="0")
    customer = await gateway.customer(0)
    answers = await asyncio.gather(
        *(ask(gateway, customer, "moderations", {"input": "x"}) for _ in range(5))
    )
    assert [answer.status for answer in answers] == [200] * 5
    assert [record.charge_nano_usd for record in await gateway.records(5)] == [0] * 5


async def test_upstream_sees_each_tenants_users_apart(gateway: Gateway) -> None:
    customers = [await gateway.customer(USD) for _ in range(2)]
    long = "u" * 80
    for customer in customers:
        for user in ("alice", "alice", long):
            body = {"model": EMBEDDING, "input": "x", "user": user}
            assert (await ask(gateway, customer, "embeddings", body)).status == 200
    users = [one["user"] for one in gateway.received()]
    first, second = users[:3], users[3:]
    assert first[0] == first[1]
    assert first[0].endswith("-alice")
    assert not set(first) & set(second)
    assert all(len(user) <= 64 and user != long for user in users)
