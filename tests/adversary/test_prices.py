"""Bugs of prices and of arithmetic: changed under way, sent by the client, or not whole numbers."""

import asyncio
import json
import random
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

from accounts.models import Organization
from billing.models import Price
from billing.prices.discounts import discount_set
from billing.prices.services import price_set
from tests.adversary.gateway import (
    MODEL,
    SCRIPTED,
    USD,
    Gateway,
    Record,
    body_of,
    charge_of,
    now,
)
from tests.adversary.upstream import (
    DONE,
    FINISH,
    STREAM_HEAD,
    answer,
    end,
    said,
    usage_chunk,
    usage_of,
)
from tests.billing.engine.support import running, settings_for, spend
from tests.factories import ACTOR
from tests.faults.http_client import Connection
from tests.relay.upstream.support import Peer

STREAM = body_of(model=SCRIPTED, stream=True)


async def test_b30_a_price_that_changes_under_way_changes_later_calls_only(
    gateway: Gateway,
) -> None:
    """Others look the price up again when the stream ends, and find another one, or none."""
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, said("one"))
        await goes_on.wait()
        await peer.send(FINISH, usage_chunk(9, 2), DONE)
        await end(peer)

    await gateway.scripted(script)
    customer = await gateway.customer(USD)

    def make_dearer() -> None:
        price_set(
            model=SCRIPTED, input_usd="200", output_usd="800", sure=True, actor=ACTOR, now=now()
        )
        organization = Organization.objects.get(pk=customer.id)
        discount_set(fraction_ppm=250_000, organization=organization, actor=ACTOR, now=now())

    async with gateway.visit(customer, STREAM) as visitor:
        await visitor.see(b"one")
        await gateway.change(make_dearer)
        goes_on.set()
        await visitor.see(b"[DONE]")
    await gateway.call(customer, STREAM)
    before, after = await gateway.records(2)
    assert (before.charge_nano_usd, before.discount_ppm) == (charge_of(9, 2), 500_000)
    # A hundred times the price, at half the fraction.
    assert (after.charge_nano_usd, after.discount_ppm) == (50 * charge_of(9, 2), 250_000)
    assert after.price_id != before.price_id


async def test_b30_a_price_that_is_gone_at_the_end_was_agreed_at_the_start(
    gateway: Gateway,
) -> None:
    """A row that expired or was deleted must not make the calls that rely on it free."""
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await goes_on.wait()
        await peer.send(answer({"content": "one two"}, usage=usage_of(9, 2)))

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    async with gateway.visit(customer, body_of(model=SCRIPTED)) as visitor:
        await gateway.change(Price.objects.filter(model=SCRIPTED).delete)
        gone = await gateway.call(customer, body_of(model=SCRIPTED))
        goes_on.set()
        await visitor.see(b'"total_tokens"')
    assert gone.status == 404
    assert json.loads(gone.body)["error"]["code"] == "model_not_found"
    record = await gateway.record()
    assert record.charge_nano_usd == charge_of(9, 2)


async def test_b30_clients_do_not_name_their_price(gateway: Gateway) -> None:
    """Others take a price out of the request, and keep it for everybody's next calls."""
    customer = await gateway.customer(USD)
    knobs = {"prompt_tokens": 9, "completion_tokens": 2}
    bargain: dict[str, Any] = {
        "price": 0,
        "cost": 0,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "model_info": {"input_cost_per_token": 0},
        "metadata": {"price": "0", "discount": "0.01"},
    }
    for members in (bargain, {}):
        assert (await gateway.call(customer, body_of(simulate=knobs, **members))).status == 200
    records = await gateway.records(2)
    assert [record.charge_nano_usd for record in records] == [charge_of(9, 2)] * 2


# Decimals that binary fractions miss, so that sums of floats come out beside whole numbers.
PLAIN = {"input_usd": "0.2", "output_usd": "0.8", "cached_usd": "0.02"}
PLAIN_PPM = 550_000
# Rates whose charges are hardly ever whole.
TINY = {"input_usd": "0.000001", "output_usd": "0.000003", "cached_usd": "0.000001"}
TINY_PPM = 900_000


async def price_oddly(gateway: Gateway, rates: dict[str, str], discount_ppm: int) -> None:
    def change() -> None:
        cached = rates["cached_usd"]
        price_set(
            model=MODEL,
            input_usd=rates["input_usd"],
            output_usd=rates["output_usd"],
            cached_usd=cached,
            sure=True,
            actor=ACTOR,
            now=now(),
        )
        discount_set(fraction_ppm=discount_ppm, actor=ACTOR, now=now())

    await gateway.change(change)


def exact_nano_usd(record: Record, rates: dict[str, str]) -> Fraction:
    """The official cost of a call, not rounded."""
    fresh = record.prompt_tokens - record.cached_tokens
    return (
        fresh * Fraction(rates["input_usd"])
        + record.cached_tokens * Fraction(rates["cached_usd"])
        + record.completion_tokens * Fraction(rates["output_usd"])
    ) * 1_000  # USD per 1M tokens in nano-USD per token.


async def call_with_usages(gateway: Gateway, usages: list[tuple[int, int, int]]) -> list[Record]:
    """One call for each (prompt, cached, completion); their records, in this order."""
    customer = await gateway.customer(1_000 * USD)
    for prompt, cached, completion in usages:
        knobs = {
            "text": "x",
            "prompt_tokens": prompt,
            "cached_tokens": cached,
            "completion_tokens": completion,
        }
        assert (await gateway.call(customer, body_of(simulate=knobs))).status == 200
    records = await gateway.records(len(usages))
    assert [(r.prompt_tokens, r.cached_tokens, r.completion_tokens) for r in records] == usages
    spent = 1_000 * USD - gateway.balance(customer)
    assert spent == sum(record.charge_nano_usd for record in records)
    return records


def random_usages(seed: int, count: int) -> list[tuple[int, int, int]]:
    draw = random.Random(seed)
    prompts = [draw.randrange(1, 10 ** draw.randrange(1, 7)) for _ in range(count)]
    return [(p, draw.randrange(p + 1), draw.randrange(10 ** draw.randrange(1, 6))) for p in prompts]


async def test_b32_the_sum_of_all_charges_is_what_left_the_wallet(gateway: Gateway) -> None:
    """Others add up floating-point dollars, and the books differ by what was lost in each."""
    await price_oddly(gateway, PLAIN, PLAIN_PPM)
    told_apart = 0
    for record in await call_with_usages(gateway, random_usages(32, 80)):
        charge = exact_nano_usd(record, PLAIN) * PLAIN_PPM / 1_000_000
        assert record.charge_nano_usd == ceil(charge)
        fresh = record.prompt_tokens - record.cached_tokens
        dollars = (fresh * 0.2 + record.cached_tokens * 0.02 + record.completion_tokens * 0.8) / 1e6
        told_apart += ceil(dollars * 0.55 * 1e9) != ceil(charge)
    assert told_apart > 10, "these usages hardly tell floats from whole numbers"


async def test_b32_many_small_charges_add_up_exactly(
    empty_gateway: Gateway, tmp_path: Path
) -> None:
    """A tenth of a cent, ten thousand times, is ten dollars and no float's worth less."""
    customer = await empty_gateway.customer(100 * USD)
    settings = settings_for(empty_gateway.database_url, tmp_path / "engine")
    amounts = [1_000_000 + number % 7 for number in range(10_000)]
    async with running(settings) as engine:
        for amount in amounts:
            assert await spend(engine, customer.id, 2_000_000, amount) == amount
    assert empty_gateway.balance(customer) == 100 * USD - sum(amounts)
    assert empty_gateway.bank.charged(customer.id) == sum(amounts)


async def test_b32_money_in_json_is_text_and_a_whole_number(empty_gateway: Gateway) -> None:
    """A JSON number with a point is a float in most clients: 0.6619999999999999."""
    customer = await empty_gateway.customer(USD + 1)
    process = await empty_gateway.process()
    async with Connection(process.port) as link:
        usage = json.loads((await link.get("/v1/usage", customer.api_key)).body)
    assert usage["balance_nano_usd"] == USD + 1
    assert type(usage["balance_nano_usd"]) is int
    amounts = {name: value for name, value in usage.items() if name.endswith("_usd")}
    assert any(type(value) is str for value in amounts.values()), usage
    assert not [name for name, value in amounts.items() if type(value) is float]
    assert usage["balance_usd"] == "1.000000001"
    assert Decimal(usage["balance_usd"]) * USD == usage["balance_nano_usd"]


async def test_b33_a_charge_is_rounded_once_and_up(gateway: Gateway) -> None:
    """Others round each part, or round a rounded sum: what is shown is not what is booked."""
    await price_oddly(gateway, TINY, TINY_PPM)
    # Three parts of a fraction each, a whole number, and what is less than the smallest unit.
    usages = [(400, 100, 300), (3_000, 0, 0), (1, 0, 0), (0, 0, 0), *random_usages(33, 60)]
    told_apart = 0
    for record in await call_with_usages(gateway, usages):
        official = exact_nano_usd(record, TINY)
        charge = official * TINY_PPM / 1_000_000
        assert record.official_cost_nano_usd == ceil(official)
        assert record.charge_nano_usd == ceil(charge)
        told_apart += ceil(Fraction(ceil(official) * TINY_PPM, 1_000_000)) != ceil(charge)
    assert told_apart > 10, "these usages hardly tell one rounding from two"
