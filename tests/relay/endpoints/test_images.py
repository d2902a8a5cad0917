"""POST /images/generations: what pictures are held for, and what they cost."""

import json
from typing import Any

import pytest

from billing.pricing import PARTIAL_IMAGE_TOKENS, image_bound_tokens
from tests.adversary.gateway import MODEL, USD, Gateway
from tests.adversary.upstream import STREAM_HEAD, json_response
from tests.relay.endpoints.media import (
    BOTH_WAYS,
    BY_IMAGE,
    HD_NANO_USD,
    HIGH_NANO_USD,
    LOW_NANO_USD,
    SCRIPTED_IMAGE,
    STANDARD_NANO_USD,
    WIDE_NANO_USD,
    event,
    media_says,
    sell_media,
    token_charge,
    tokens,
)
from tests.relay.endpoints.support import ask, price, told

PATH = "images/generations"
COMPLETED = "image_generation.completed"
PARTIAL = "image_generation.partial_image"


@pytest.fixture(autouse=True)
async def priced(gateway: Gateway) -> None:
    await sell_media(gateway)


def generation(**asked: Any) -> dict[str, Any]:
    return {"model": SCRIPTED_IMAGE, "prompt": "A cat", **asked}


def pictures(count: int, **members: Any) -> bytes:
    return json_response(200, {"created": 1, "data": [{"b64_json": "AA=="}] * count, **members})


@pytest.mark.parametrize(
    ("asked", "each"),
    [
        ({}, STANDARD_NANO_USD),
        ({"size": None, "quality": "standard", "n": None}, STANDARD_NANO_USD),
        ({"size": "1792x1024"}, WIDE_NANO_USD),
        ({"quality": "hd", "user": None}, HD_NANO_USD),
    ],
)
async def test_an_image_costs_what_its_quality_and_size_cost(
    gateway: Gateway, asked: dict[str, Any], each: int
) -> None:
    customer = await gateway.customer(each, strict=True)
    body = generation(model=BY_IMAGE, **asked)
    answer = await ask(gateway, customer, PATH, body)
    assert answer.status == 200
    assert len(json.loads(answer.body)["data"]) == 1
    record = await gateway.record()
    assert record.hold_nano_usd == record.charge_nano_usd == each
    assert (record.usage_source, record.flags) == ("upstream", [])
    assert list(record.units.values()) == [1]
    assert gateway.received() == [body]
    assert gateway.balance(customer) == 0


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"size": "256x256"}, "size"),
        ({"quality": "high"}, "quality"),
        ({"size": "1792x1024", "quality": "hd"}, "quality"),
        ({"size": "large"}, "size"),
    ],
)
async def test_an_image_without_a_price_is_refused(
    gateway: Gateway, asked: dict[str, Any], param: str
) -> None:
    customer = await gateway.customer(USD)
    answer = await ask(gateway, customer, PATH, generation(model=BY_IMAGE, **asked))
    assert answer.status == 400
    assert (told(answer)["param"], told(answer)["code"]) == (param, "unsupported_value")
    assert gateway.arrived() == 0


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": MODEL, "prompt": "A cat"}, 404, "model_not_found"),
        ({"model": "nowhere", "prompt": "A cat"}, 404, "model_not_found"),
        ({"model": BY_IMAGE}, 400, "missing_required_parameter"),
        (generation(n=0), 400, "integer_below_min_value"),
        (generation(n=11), 400, "integer_above_max_value"),
        (generation(n="2"), 400, "invalid_type"),
        (generation(partial_images=4), 400, "integer_above_max_value"),
        (generation(base_url="https://example.com"), 400, "unknown_parameter"),
        (b'{"model":"m","prompt":"p","n":1,"n":10}', 400, "duplicate_parameter"),
        (b'{"model":"m","prompt":"p","size":"a","size":"b"}', 400, "duplicate_parameter"),
        (b'{"model":"m","prompt":"p","quality":"a","quality":"b"}', 400, "duplicate_parameter"),
    ],
)
async def test_what_is_refused(
    gateway: Gateway, fields: dict[str, Any] | bytes, status: int, code: str
) -> None:
    answer = await ask(gateway, await gateway.customer(USD), PATH, fields)
    assert (answer.status, told(answer)["code"]) == (status, code)
    assert gateway.arrived() == 0


@pytest.mark.parametrize(
    ("reply", "charge", "source"),
    [
        (pictures(2, usage=tokens(10, 1_000)), token_charge(10, 1_000), "upstream"),
        (pictures(2, quality="low", size="1024x1024"), 2 * LOW_NANO_USD, "estimated"),
        (pictures(2), 2 * HIGH_NANO_USD, "estimated"),
        (pictures(1, usage=tokens(10, 0)), HIGH_NANO_USD, "estimated"),
        (pictures(1, usage=tokens(-1, 9)), HIGH_NANO_USD, "estimated"),
        (pictures(0, usage=tokens(10, 0)), token_charge(10, 0), "upstream"),
    ],
)
async def test_tokens_are_charged_if_they_are_reported_else_images(
    gateway: Gateway, reply: bytes, charge: int, source: str
) -> None:
    await media_says(gateway, reply)
    answer = await ask(gateway, await gateway.customer(USD), PATH, generation(n=2))
    assert answer.status == 200
    record = await gateway.record()
    assert (record.charge_nano_usd, record.usage_source) == (charge, source)


async def test_a_stream_is_as_upstream_sends_it_and_charged_by_its_last_event(
    gateway: Gateway,
) -> None:
    body = {"model": BOTH_WAYS, "prompt": "A cat", "stream": True, "partial_images": 2}
    customer = await gateway.customer(USD, strict=True)
    answer = await ask(gateway, customer, PATH, body)
    events = answer.body.split(b"\n\n")
    kinds = [one.split(b"\n")[0].decode() for one in events[:-1]]
    assert kinds == [f"event: {PARTIAL}"] * 2 + [f"event: {COMPLETED}"]
    reported = json.loads(events[2].partition(b"data: ")[2])["usage"]
    record = await gateway.record()
    assert (record.outcome, record.usage_source, record.stream) == ("completed", "upstream", True)
    assert record.units["output_image_tokens"] == reported["output_tokens"]
    assert record.charge_nano_usd == token_charge(
        reported["input_tokens"], reported["output_tokens"]
    )


@pytest.mark.parametrize(
    "rest",
    [b"", event("error", error={"message": "No.", "code": "moderation_blocked"}), b"data: {\n\n"],
)
async def test_a_stream_that_breaks_is_charged_by_what_it_showed(
    gateway: Gateway, rest: bytes
) -> None:
    first = event(PARTIAL, b64_json="AA==", quality="high", size="1024x1536")
    await media_says(gateway, STREAM_HEAD + first, rest)
    asked = generation(stream=True, partial_images=2)
    answer = await ask(gateway, await gateway.customer(USD), PATH, asked)
    assert answer.body.startswith(first + b'data: {"error":')
    assert answer.body.endswith(b"data: [DONE]\n\n")
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    # A third of a picture, and the preview itself.
    whole = image_bound_tokens("high", "1024x1536")
    assert record.completion_tokens == whole // 3 + PARTIAL_IMAGE_TOKENS


@pytest.mark.parametrize(
    ("asked", "sent"),
    [({}, "dall-e-2"), ({"background": "opaque"}, "gpt-image-1.5")],
)
async def test_a_model_that_is_not_named_is_named_upstream(
    gateway: Gateway, asked: dict[str, Any], sent: str
) -> None:
    await price(gateway, sent, unit_usd={"image/standard/1024x1024": "0.04"})
    answer = await ask(gateway, await gateway.customer(USD), PATH, {"prompt": "A cat", **asked})
    assert answer.status == 200
    assert gateway.received()[0]["model"] == sent
    assert (await gateway.record()).model == sent
