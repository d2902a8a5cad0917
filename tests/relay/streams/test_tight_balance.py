"""A call whose bytes would cost too much, but whose words do not."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from relay import relaying
from relay.endpoints import chat
from relay.metering.tokenizer import tight_prompt_bound
from tests.adversary.gateway import MODEL, USD, Gateway, until

# Half of its official price, in nano-USD a token; a model of a known vocabulary.
KNOWN = "gpt-4o-mini"
INPUT_NANO_USD, OUTPUT_NANO_USD = 75, 300
PROSE = "The quick brown fox jumps over the lazy dog. " * 400
# Ten tokens a sentence, and what the frame of the JSON may have.
PROSE_TOKENS = 4_000 + 200


def body_of(model: str = KNOWN, **members: Any) -> bytes:
    messages = [{"role": "user", "content": PROSE}]
    return json.dumps({"model": model, "messages": messages, **members}).encode()


async def test_a_prompt_is_counted_before_its_call_is_refused(gateway: Gateway) -> None:
    balance = PROSE_TOKENS * INPUT_NANO_USD + 300 * OUTPUT_NANO_USD
    assert balance < len(PROSE) * INPUT_NANO_USD
    customer = await gateway.customer(balance, strict=True)
    answer = await gateway.call(customer, body_of(simulate={"completion_tokens": 256}))
    assert answer.status == 200, answer
    record = await gateway.record()
    assert 4_000 <= record.prompt_tokens <= PROSE_TOKENS
    assert record.flags == []
    assert record.charge_nano_usd == (record.prompt_tokens * INPUT_NANO_USD + 256 * OUTPUT_NANO_USD)
    assert record.charge_nano_usd <= record.hold_nano_usd <= balance
    [sent] = gateway.received()
    assert 256 <= sent["max_tokens"] <= 300 + 200


async def test_what_the_words_cost_too_is_refused(gateway: Gateway) -> None:
    customer = await gateway.customer(4_000 * INPUT_NANO_USD + 256 * OUTPUT_NANO_USD, strict=True)
    answer = await gateway.call(customer, body_of())
    assert (answer.status, gateway.arrived()) == (429, 0)
    assert b"insufficient_quota" in answer.body
    await until(lambda: gateway.workers[0].held_nano_usd == 0, "the end of the hold")


async def test_who_was_just_refused_has_no_more_prompts_counted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes milliseconds, and somebody without money could ask for it at any rate."""
    counted: list[int] = []

    def count(body: bytes, models: Iterable[str]) -> int:
        counted.append(len(body))
        return tight_prompt_bound(body, models)

    monkeypatch.setattr(chat, "tight_prompt_bound", count)
    monkeypatch.setattr(relaying, "RECOUNT_SECONDS", 3600.0)
    poor, other = [
        await gateway.customer(4_000 * INPUT_NANO_USD + 256 * OUTPUT_NANO_USD, strict=True)
        for _ in range(2)
    ]
    for _ in range(5):
        assert (await gateway.call(poor, body_of())).status == 429
    assert counted == [len(body_of())]
    assert (await gateway.call(other, body_of())).status == 429
    assert len(counted) == 2
    # What the bytes do not forbid is served all the same.
    short = json.dumps({"model": KNOWN, "messages": [{"role": "user", "content": "Hello"}]})
    assert (await gateway.call(poor, short.encode())).status == 200
    await gateway.record()


async def test_a_model_whose_words_nobody_can_count_is_bounded_by_its_bytes(
    gateway: Gateway,
) -> None:
    customer = await gateway.customer(PROSE_TOKENS * 1_000 + 300 * 4_000, strict=True)
    answer = await gateway.call(customer, body_of(MODEL))
    assert (answer.status, gateway.arrived()) == (429, 0)


@pytest.mark.parametrize("strict", [True, False])
async def test_where_there_is_money_nothing_is_counted(gateway: Gateway, *, strict: bool) -> None:
    customer = await gateway.customer(USD, strict=strict)
    answer = await gateway.call(customer, body_of(max_tokens=10))
    assert answer.status == 200
    record = await gateway.record()
    assert record.hold_nano_usd == len(body_of(max_tokens=10)) * INPUT_NANO_USD + (
        10 * OUTPUT_NANO_USD
    )


async def test_a_standard_hold_is_opened_by_the_words_too(gateway: Gateway) -> None:
    """Or a customer with standard holds would be refused what one with strict holds gets."""
    balance = PROSE_TOKENS * INPUT_NANO_USD + 10 * OUTPUT_NANO_USD
    customer = await gateway.customer(balance)
    answer = await gateway.call(customer, body_of(max_tokens=10))
    assert answer.status == 200
    assert (await gateway.record()).flags == []
