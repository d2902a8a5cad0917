"""Charges by hand, from the prices and discounts that an operator sets on a running gateway."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import (
    MODEL,
    Customer,
    Upstream,
    chat_body,
    error_of,
    new_tag,
    organization_create,
)

# Far beyond what a busy machine needs; the contract says one second, and the message what it was.
PATIENCE_SECONDS = 5
CENT = 10_000_000
Change = Callable[[str, str], None]


@pytest.fixture(scope="module")
def payer(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    return organization_create(gateway, http, "Payer", "--quota", "5", "--holds", "standard")


def a_thousand_each(model: str = MODEL, **fields: Any) -> dict[str, Any]:
    knobs = {"prompt_tokens": 1000, "completion_tokens": 1000, **fields.pop("simulate", {})}
    return chat_body(**fields, simulate=knobs) | {"model": model}


# GPT-4 Turbo is in the price book; its price is the one that every reseller advertises with.
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", [MODEL, "gpt-4-turbo"])
def test_a_thousand_tokens_each_way_cost_two_cents(
    payer: Customer, model: str, *, stream: bool
) -> None:
    balance, usage = payer.balance(), payer.ask("/v1/usage")
    cents = payer.ask("/dashboard/billing/usage")["total_usage"]
    record = payer.record(payer.post(a_thousand_each(model, stream=stream)))
    assert (record["prompt_tokens"], record["completion_tokens"]) == (1000, 1000)
    assert record["discount_ppm"] == 500_000
    assert (record["official_cost_nano_usd"], record["official_cost_usd"]) == (4 * CENT, "0.04")
    assert (record["charge_nano_usd"], record["charge_usd"]) == (2 * CENT, "0.02")
    assert payer.balance() == balance - 2 * CENT
    total, before = payer.ask("/v1/usage")["total"], usage["total"]
    assert total["charge_nano_usd"] == before["charge_nano_usd"] + 2 * CENT
    assert total["total_tokens"] == before["total_tokens"] + 2000
    assert payer.ask("/dashboard/billing/usage")["total_usage"] == cents + 2


def test_cached_and_reasoning_tokens_are_parts_of_the_totals(
    gateway: LiveGateway, payer: Customer
) -> None:
    model = "e2e-cached"
    gateway.manage("price_set", model, "--input", "10", "--output", "30", "--cached", "2.5")
    knobs = {"cached_tokens": 400, "reasoning_tokens": 300}
    wait = time.monotonic() + PATIENCE_SECONDS
    while (reply := payer.post(a_thousand_each(model, simulate=knobs))).status_code == 404:
        assert time.monotonic() < wait, "the new price was not seen"
    record = payer.record(reply)
    assert (record["cached_tokens"], record["reasoning_tokens"]) == (400, 300)
    assert record["total_tokens"] == 2000
    assert record["official_cost_nano_usd"] == 600 * 10_000 + 400 * 2_500 + 1000 * 30_000
    assert record["charge_nano_usd"] == record["official_cost_nano_usd"] // 2


@pytest.mark.parametrize(
    ("asked", "served", "charge_usd"),
    [
        (None, None, "0.005625"),
        ("auto", None, "0.005625"),
        ("flex", None, "0.0028125"),
        ("priority", None, "0.01125"),
        ("priority", "default", "0.005625"),
        ("auto", "priority", "0.01125"),
    ],
)
def test_a_call_is_charged_at_the_tier_that_was_served(
    payer: Customer, asked: str | None, served: str | None, charge_usd: str
) -> None:
    """GPT-5 costs 1.25 and 10 USD per 1M tokens, half of it on flex, twice as much on priority."""
    knobs = {} if served is None else {"service_tier": served}
    body = a_thousand_each("gpt-5", simulate=knobs, service_tier=asked)
    assert payer.record(payer.post(body))["charge_usd"] == charge_usd


@pytest.fixture
def change(
    payer: Customer, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[Change]:
    """Runs a command, then calls until each worker charges what the command said."""
    with payer.gateway.worker_clients() as clients:

        def change(command: str, charge_usd: str) -> None:
            payer.gateway.manage(*command.split())
            changed_at = time.monotonic()
            for client in clients:
                called_at = calls_until(replace(payer, http=client), charge_usd)
                told = f"{command}: seen by a worker after {called_at - changed_at:.2f} s"
                record_testsuite_property("change", told)
                assert called_at - changed_at < PATIENCE_SECONDS, told

        yield change


def calls_until(payer: Customer, charge_usd: str) -> float:
    """When the first call began that was charged so."""
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while True:
        called_at = time.monotonic()
        record = payer.record(payer.post(a_thousand_each()))
        if record["charge_usd"] == charge_usd or called_at > deadline:
            return called_at


def test_prices_and_discounts_reach_every_worker(change: Change, payer: Customer) -> None:
    of_payer = f"--organization {payer.organization}"
    change(f"price_set {MODEL} --input 20 --output 60", "0.04")
    change(f"price_set {MODEL} --input 10 --output 30", "0.02")
    change("discount_set 0.4", "0.016")
    change(f"discount_set 0.8 --model {MODEL}", "0.032")
    change(f"discount_set 0.25 {of_payer}", "0.01")
    change(f"discount_set 0.1 {of_payer} --model {MODEL}", "0.004")
    # What is more general does not change what is more special, and what was charged stays.
    change("discount_set 0.5", "0.004")
    change(f"discount_set 0.5 --model {MODEL}", "0.004")
    change(f"discount_set 0.5 {of_payer} --model {MODEL}", "0.02")
    assert {"0.032", "0.016", "0.01", "0.004"} <= {
        record["charge_usd"] for record in payer.records(limit=100)
    }


@pytest.mark.parametrize(
    "command",
    [
        "discount_set 5",
        f"price_set {MODEL} --input -1 --output 1",
        "credit_grant no-such-organization 5",
        "organization_create Minus --quota -1",
    ],
)
def test_a_slip_of_the_operator_is_refused(payer: Customer, command: str) -> None:
    done = payer.gateway.manage_raw(*command.split(), "--json")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def newcomer(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """One cent of free quota: 1,000 tokens of input and 333 of output."""
    return organization_create(gateway, http, "Newcomer", "--quota", "0.01")


def test_free_quota_is_never_overspent(newcomer: Customer, upstream: Upstream) -> None:
    """An answer is capped at what the quota affords; what affords none is refused."""
    charges = []
    wishes: list[dict[str, int]] = [{}, {"max_tokens": 9_000}, {"max_completion_tokens": 9_000}]
    for limits in wishes:
        tag, left = new_tag(), newcomer.balance()
        body = chat_body(simulate={"tag": tag, "chunks": 290}) | limits
        reply = newcomer.post(body)
        if reply.status_code == 429:
            assert error_of(reply)["code"] == "insufficient_quota"
            assert upstream.count(tag) == 0
            continue
        sent = upstream.received(tag)["body"]
        field = next(iter(limits), "max_completion_tokens")
        assert sent == body | {field: sent[field]}
        assert sent[field] <= min(limits.get(field, 9_000), left // 15_000)
        record = newcomer.record(reply)
        assert record["completion_tokens"] <= sent[field]
        charges.append(record["charge_nano_usd"])
        assert newcomer.balance() == left - charges[-1]
    assert len(charges) == 2, "two such answers are affordable, a third is not"
    assert newcomer.balance() == CENT - sum(charges) >= 0


def test_other_money_ends_the_free_tier(
    gateway: LiveGateway, newcomer: Customer, upstream: Upstream
) -> None:
    gateway.manage("credit_grant", newcomer.organization, "1")
    tag = new_tag()
    reply = newcomer.chat(simulate={"tag": tag, "chunks": 3_000})
    assert reply.status_code == 200, reply.text
    assert "max_completion_tokens" not in upstream.received(tag)["body"]
    assert newcomer.record(reply)["completion_tokens"] == 3_000
