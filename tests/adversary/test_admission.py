"""Bugs of admission: money that was spent twice, trusted, guessed or not asked for at all."""

import asyncio
import itertools
import json
import os
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from billing.engine.journal import read
from billing.engine.records import Opened
from tests.adversary.gateway import (
    INPUT_NANO_USD,
    OUTPUT_NANO_USD,
    SCRIPTED,
    TIMING,
    USD,
    Customer,
    Gateway,
    body_of,
    charge_of,
    whole_hold_body,
)
from tests.adversary.upstream import answer, usage_of
from tests.faults.http_client import Answer
from tests.relay.upstream.support import Peer


async def call_together(
    gateway: Gateway, customer: Customer, body: bytes, count: int
) -> list[Answer]:
    """So many calls at once, spread over all workers."""
    workers = itertools.cycle(gateway.workers)
    calls = [gateway.call(customer, body, at=next(workers)) for _ in range(count)]
    return await asyncio.gather(*calls)


def is_broke(answer: Answer) -> bool:
    """Whether the call was refused for want of money, and the SDK told not to come back."""
    error = json.loads(answer.body)["error"]
    return (
        answer.status == 429
        and error["code"] == "insufficient_quota"
        and answer.headers["x-should-retry"] == "false"
    )


def served(answers: list[Answer]) -> int:
    """How many were answered; all others must have been refused for want of money."""
    good = [one for one in answers if one.status == 200]
    assert all(is_broke(one) for one in answers if one.status != 200), Counter(
        one.status for one in answers
    )
    return len(good)


async def test_b1_parallel_calls_do_not_spend_the_same_money(gateway: Gateway) -> None:
    """Others look at the balance first and deduct later, so parallel calls all see enough."""
    for _ in range(3):
        await gateway.worker()
    body, cost = whole_hold_body()
    customer = await gateway.customer(10 * cost, strict=True)
    count = served(await call_together(gateway, customer, body, 200))
    assert 0 < count <= 10
    # What a refusal in haste has left is there, whole, for those who come later.
    while served([await gateway.call(customer, body, at=gateway.workers[count % 4])]):
        count += 1
    assert count == 10
    assert gateway.arrived() == 10
    assert {one.charge_nano_usd for one in await gateway.records(10)} == {cost}
    assert gateway.balance(customer) == 0


async def test_b1_an_overdraft_is_no_more_than_what_open_calls_exceed(gateway: Gateway) -> None:
    """Where a hold is a usual cost and no bound, parallel calls still must not multiply the gap."""
    await gateway.worker()
    knobs = {"prompt_tokens": 9, "completion_tokens": 1_000}
    body = body_of(max_tokens=100, simulate=knobs)
    hold, cost = charge_of(len(body), 100), charge_of(9, 1_000)
    customer = await gateway.customer(5 * hold)
    count = served(await call_together(gateway, customer, body, 30))
    assert 0 < count <= 5
    assert is_broke(await gateway.call(customer, body))
    records = await gateway.records(count)
    assert {(one.hold_nano_usd, one.charge_nano_usd) for one in records} == {(hold, cost)}
    assert {tuple(one.flags) for one in records} == {("bound_exceeded",)}
    assert gateway.balance(customer) == 5 * hold - count * cost >= -count * (cost - hold)


async def test_b2_the_rich_are_held_like_everybody(gateway: Gateway) -> None:
    """Others hold nothing for who has a hundred times the price of a call."""
    await gateway.worker()
    body, cost = whole_hold_body()
    customer = await gateway.customer(101 * cost)
    count = served(await call_together(gateway, customer, body, 500))
    assert 0 < count <= 101
    assert gateway.arrived() == count
    assert {one.hold_nano_usd for one in await gateway.records(count)} == {cost}
    assert gateway.balance(customer) == (101 - count) * cost


@pytest.mark.parametrize("choices", [1, 3])
async def test_b3_an_answer_without_max_tokens_is_capped_to_what_is_paid(
    gateway: Gateway, choices: int
) -> None:
    """Others reserve some guess, and a long answer to a poor customer costs what nobody has."""
    body = body_of(n=choices, simulate={"chunks": 1_000})
    # For half a token more than 300 in each choice.
    balance = len(body) * INPUT_NANO_USD + choices * (300 * OUTPUT_NANO_USD + 2_000)
    customer = await gateway.customer(balance, strict=True)
    assert (await gateway.call(customer, body)).status == 200
    assert gateway.received()[0]["max_completion_tokens"] == 300
    record = await gateway.record()
    assert record.completion_tokens == 300 * choices
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, 300 * choices)
    assert record.charge_nano_usd <= record.hold_nano_usd == balance


async def test_b3_a_cap_of_the_client_is_lowered_where_it_stands(gateway: Gateway) -> None:
    """Two caps in two fields would let upstream obey the one that nobody reserved for."""
    fields = ("max_tokens", "max_completion_tokens")
    for field in fields:
        limit: dict[str, Any] = {field: 5_000}
        body = body_of(**limit)
        customer = await gateway.customer(charge_of(len(body), 400), strict=True)
        assert (await gateway.call(customer, body)).status == 200
        sent = gateway.received()[-1]
        assert {name: sent[name] for name in fields if name in sent} == {field: 400}
    await gateway.records(2)


async def test_b3_who_cannot_pay_a_short_answer_gets_none(gateway: Gateway) -> None:
    """Others lower the reservation to whatever is left, down to nothing."""
    body = body_of()
    poor = await gateway.customer(charge_of(len(body), 256) - 1, strict=True)
    assert is_broke(await gateway.call(poor, body))
    assert gateway.arrived() == 0
    less_poor = await gateway.customer(charge_of(len(body), 256), strict=True)
    assert (await gateway.call(less_poor, body)).status == 200
    assert gateway.received()[0]["max_completion_tokens"] == 256


async def test_b3_an_upstream_that_ignores_the_cap_overdraws_nobody(gateway: Gateway) -> None:
    """A bound that upstream does not keep is our loss, and told to the operator."""
    body = body_of(simulate={"completion_tokens": 9_000})
    balance = charge_of(len(body), 300)
    customer = await gateway.customer(balance, strict=True)
    assert (await gateway.call(customer, body)).status == 200
    record = await gateway.record()
    assert record.charge_nano_usd == record.hold_nano_usd == balance
    assert record.flags == ["bound_exceeded"]
    assert gateway.balance(customer) == 0


async def test_b7_nothing_is_sent_before_its_money_is_set_aside(gateway: Gateway) -> None:
    """Others charge after they have delivered, and a crash in between makes it a present."""
    seen: list[tuple[int, list[Opened]]] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        # Through a connection of our own: what is not committed is not to be seen.
        escrow = gateway.bank.number(
            "SELECT coalesce(sum(granted_nano_usd - spent_nano_usd), 0)::bigint FROM billing_lease"
            " WHERE state = 'open'"
        )
        (journal,) = gateway.journals.iterdir()
        records = [record for _, _, record in read(journal, 0, limit_bytes=2**20)]
        seen.append((escrow, [record for record in records if isinstance(record, Opened)]))
        await peer.send(answer({"content": "two words"}, usage=usage_of(9, 2)))

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    assert (await gateway.call(customer, body_of(model=SCRIPTED))).status == 200
    [(escrow, [opened])] = seen
    record = await gateway.record()
    assert opened.call.request_id == record.request_id
    assert escrow >= opened.hold_nano_usd == record.hold_nano_usd > 0


async def test_b9_a_store_that_fails_lets_nobody_in(empty_gateway: Gateway) -> None:
    """Others let a call pass, strict or not, when the write of its reservation fails."""
    gateway = empty_gateway
    await gateway.worker(timing=replace(TIMING, timeout=1.0))
    customer = await gateway.customer(USD, strict=True)
    await gateway.execute("ALTER TABLE billing_lease RENAME TO billing_lease_hidden")
    refused = await gateway.call(customer, body_of())
    await gateway.execute("ALTER TABLE billing_lease_hidden RENAME TO billing_lease")
    assert refused.status == 503
    assert gateway.arrived() == 0
    assert (await gateway.call(customer, body_of())).status == 200
    await gateway.record()


async def test_b9_a_journal_that_fails_lets_nobody_in(gateway: Gateway) -> None:
    """What cannot be written down is not sent: a record that is missing later is a free call."""
    customer = await gateway.customer(USD)
    assert (await gateway.call(customer, body_of())).status == 200
    journal = gateway.workers[0].engine._workers[-1].journal
    read_only = os.open(os.devnull, os.O_RDONLY)
    os.dup2(read_only, journal._descriptor, inheritable=False)
    os.close(read_only)
    refused = await gateway.call(customer, body_of())
    assert refused.status == 503
    assert gateway.arrived() == 1
    # It goes on in a file that can be written.
    assert (await gateway.call(customer, body_of())).status == 200
    await gateway.records(2)
