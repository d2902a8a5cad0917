"""Balances that other writes overwrite, and amounts that no balance may take."""

import asyncio
import itertools
import json
from functools import partial
from typing import Any

import pytest

from accounts.models import ApiKey, Organization, Project
from billing.credit.grants import UnableToGrant
from tests.adversary.gateway import (
    INPUT_NANO_USD,
    OUTPUT_NANO_USD,
    USD,
    Gateway,
    Worker,
    body_of,
    credit_nano_usd,
)

CALLS = 60
CREDITS = 8


async def test_b10_saving_a_profile_does_not_bring_old_money_back(gateway: Gateway) -> None:
    """Others keep the balance in the customer's row, which every edit of a name writes whole."""
    await gateway.worker()
    customer = await gateway.customer(USD)
    calling = True

    def load() -> list[Any]:
        organization = Organization.objects.get(pk=customer.id)
        return [organization, *Project.objects.all(), *ApiKey.objects.all()]

    stale = await gateway.operate(load)

    def edit(number: int) -> None:
        for row in (*stale, *load()):
            row.name = f"edit {number}"
            row.save()
        if number < CREDITS:
            credit_nano_usd(stale[0], USD)

    async def edit_on() -> int:
        for number in itertools.count():
            await gateway.operate(partial(edit, number))
            if not calling and number >= CREDITS:
                return number
        raise AssertionError("unreachable")

    async def spend_on(worker: Worker) -> None:
        for _ in range(CALLS // 2):
            assert (await gateway.call(customer, body_of(), at=worker)).status == 200

    editing = asyncio.create_task(edit_on())
    await asyncio.gather(*map(spend_on, gateway.workers))
    calling = False
    assert await editing >= CREDITS
    charged = sum(record.charge_nano_usd for record in await gateway.records(CALLS))
    assert charged > 0
    assert gateway.balance(customer) == (1 + CREDITS) * USD - charged


NO_COUNTS: list[Any] = [-1, 0, -(2**63), 2**63, 10**400, 1.5, "5", True, [], {}]


async def test_b11_a_negative_count_in_a_request_is_no_credit(gateway: Gateway) -> None:
    """Others multiply a price with whatever number the client sent."""
    customer = await gateway.customer(USD)
    fields = ("n", "max_tokens", "max_completion_tokens")
    for field, value in itertools.product(fields, NO_COUNTS):
        wish: dict[str, Any] = {field: value}
        answer = await gateway.call(customer, body_of(**wish))
        assert answer.status == 400, wish
        assert json.loads(answer.body)["error"]["param"] == field, wish
    assert gateway.arrived() == 0
    assert gateway.balance(customer) == USD
    # Null is what clients send that leave it out.
    absent: dict[str, Any] = dict.fromkeys(fields)
    assert (await gateway.call(customer, body_of(**absent))).status == 200
    await gateway.records(1)


def usage_fuzz() -> list[Any]:
    """Usage of upstreams that are broken, or that somebody else controls."""
    odd = [-1, -(2**63), 2**63, 10**400, 1.5, "5", True, None, [], {}]
    good = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    whole = [{**good, name: value} for name in list(good)[:2] for value in odd]
    details = [
        {**good, section: {name: value}}
        for section, name in (
            ("prompt_tokens_details", "cached_tokens"),
            ("prompt_tokens_details", "cache_write_tokens"),
            ("prompt_tokens_details", "audio_tokens"),
            ("completion_tokens_details", "reasoning_tokens"),
            ("completion_tokens_details", "rejected_prediction_tokens"),
        )
        for value in odd
        if value is not None
    ]
    return [*whole, *details, -5, "none", [good], {"prompt_tokens": -9, "completion_tokens": 9}]


@pytest.mark.parametrize("stream", [False, True])
async def test_b11_negative_usage_of_upstream_is_no_credit(
    gateway: Gateway, *, stream: bool
) -> None:
    """Others believe any number of upstream; a negative one pays the customer."""
    customer = await gateway.customer(USD)
    fuzz = usage_fuzz()
    for usage in fuzz:
        knobs = {"text": "one two three", "usage": usage}
        answer = await gateway.call(customer, body_of(stream=stream, simulate=knobs))
        assert answer.status == 200
    records = await gateway.records(len(fuzz))
    for usage, record in zip(fuzz, records, strict=True):
        # What was delivered is counted by ourselves instead.
        assert (record.usage_source, record.flags) == ("estimated", ["absurd_usage"]), usage
        assert record.completion_tokens == 3, usage
        assert record.prompt_tokens >= 8, usage
        cost = record.prompt_tokens * INPUT_NANO_USD + 3 * OUTPUT_NANO_USD
        assert record.charge_nano_usd == cost, usage


async def test_b11_a_grant_that_takes_is_none(gateway: Gateway) -> None:
    """Others credit what they are told to, and a negative top-up is a debit without a trace."""
    customer = await gateway.customer(USD)

    def credit(amount: int) -> None:
        credit_nano_usd(Organization.objects.get(pk=customer.id), amount)

    for amount in (0, -1, -USD):
        with pytest.raises(UnableToGrant):
            await gateway.operate(partial(credit, amount))
    assert gateway.balance(customer) == USD
