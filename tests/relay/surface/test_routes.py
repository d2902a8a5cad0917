"""Every way to an upstream passes a hold and leaves a record; every other path says no."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relay.endpoints.table import ID
from tests.adversary.gateway import USD, Customer, Gateway
from tests.faults.http_client import Answer
from tests.relay.surface.calls import (
    BILLED,
    EXAMPLES,
    OFFERED,
    created,
    error_of,
    path_of,
    send,
)

# Every method and path of OpenAI's published specification.
OFFICIAL: list[str] = json.loads(Path(__file__).with_name("official_paths.json").read_bytes())
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What a curious client finds, though no document names it.
UNOFFICIAL = ["engines", "engines/{engine}/completions", "edits", "answers", "search", "%2e%2e"]
AT_ONCE = 16
STREAMED = [name for name, row in OFFERED.items() if row.streamed and row.method == "POST"]


def holds_of(gateway: Gateway) -> list[tuple[str, int, int]]:
    """Endpoint, hold and charge of every record, oldest first."""
    return gateway.bank.connection.execute(
        "SELECT endpoint, hold_nano_usd, charge_nano_usd FROM billing_usagerecord"
        " ORDER BY request_id"
    ).fetchall()


def test_every_endpoint_has_an_example() -> None:
    assert OFFERED.keys() <= EXAMPLES.keys()
    assert {name for name in EXAMPLES if EXAMPLES[name].streamed} >= set(STREAMED)


async def test_every_call_is_held_sent_once_and_recorded_once(shop: Gateway) -> None:
    for name in OFFERED:
        await recorded_once(shop, name, {})
    for name in STREAMED:
        await recorded_once(shop, name, EXAMPLES[name].streamed or {})


async def recorded_once(shop: Gateway, name: str, more: dict[str, Any]) -> None:
    customer = await shop.customer(USD)
    path = await path_of(shop, customer, name)
    seen = shop.arrived()
    answer = await send(shop.workers[0], customer, path, EXAMPLES[name].body(**more))
    # A response that has ended cannot be cancelled any more; upstream says so.
    assert answer.status == (400 if name.endswith("cancel") else 200), (name, answer.body)
    assert shop.arrived() == seen + 1, name
    await shop.records(seen + 1)
    endpoint, hold, charge = holds_of(shop)[-1]
    assert endpoint == OFFERED[name].name
    assert (hold > 0, charge > 0) == (name in BILLED, name in BILLED), name


async def test_without_money_only_what_is_free_is_reached(shop: Gateway) -> None:
    customer = await shop.customer(0)
    for name in BILLED:
        answer = await send(shop.workers[0], customer, name, EXAMPLES[name].body())
        assert (answer.status, error_of(answer)["code"]) == (429, "insufficient_quota"), name
    assert shop.arrived() == 0
    answer = await send(
        shop.workers[0], customer, "POST moderations", EXAMPLES["POST moderations"].body()
    )
    assert answer.status == 200
    await shop.records(1)
    assert holds_of(shop) == [("moderations", 0, 0)]


@pytest.mark.parametrize("base", ["/v1/", "/openai/"])
async def test_every_official_path_is_metered_or_refused(shop: Gateway, base: str) -> None:
    """Each with every method, and with a body that upstream would take."""
    customer = await shop.customer(USD)
    answers = await everything(shop, customer, base=base)
    for name, answer in answers.items():
        method, _, rest = name.partition(" ")
        assert answer.status < 500, (name, answer)
        if method == "HEAD":
            assert answer.body == b""
        elif not is_served(name):
            error = error_of(answer)
            assert answer.status in (404, 405), (name, answer)
            if answer.status == 404 and rest not in UNOFFICIAL:
                assert "is not offered" in error["message"], (name, error)
            assert answer.headers["x-request-id"].startswith("req_")
    reached = sorted(endpoint for endpoint, _, _ in await everything_recorded(shop))
    assert reached == sorted(OFFERED[n].name for n in OFFERED if ID not in n)
    paths = Counter(one["path"] for one in shop._simulator._recorder.report(tag=None)["data"])
    assert paths == {f"/v1/{'/'.join(OFFERED[n].path)}": 1 for n in OFFERED if ID not in n}


def is_served(name: str) -> bool:
    """Whether there is something behind it: an endpoint, or the gateway's own list of models."""
    return (
        name in OFFERED or name in ("GET models", "GET models/{model}") or "{response_id}" in name
    )


async def everything(shop: Gateway, customer: Customer, *, base: str) -> dict[str, Answer]:
    paths = dict.fromkeys(one.partition(" ")[2].removeprefix("/") for one in OFFICIAL)
    names = [f"{method} {path}" for path in [*paths, *UNOFFICIAL] for method in METHODS]
    gate = asyncio.Semaphore(AT_ONCE)
    some = {**EXAMPLES["POST responses"].fields, **EXAMPLES["POST chat/completions"].fields}  # type: ignore[dict-item]  # Both are JSON.
    usual = (json.dumps(some).encode(), b"application/json")

    async def one(name: str) -> Answer:
        body = EXAMPLES[name].body() if name in EXAMPLES else usual
        path = "".join(c if c not in "{}" else "_" for c in name)
        async with gate:
            return await send(shop.workers[0], customer, path, body, base=base)

    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


async def everything_recorded(shop: Gateway) -> list[tuple[str, int, int]]:
    await shop.idle()
    await shop.records(shop.arrived())
    return holds_of(shop)


async def test_no_id_leads_to_another_path(shop: Gateway) -> None:
    customer = await shop.customer(USD)
    one = await created(shop, customer)
    for name in ("GET responses/{id}", "GET responses/{id}/input_items"):
        for trick in ("/../../files", "%2f..%2f..%2ffiles", "?x=/../files", "#/files"):
            await send(shop.workers[0], customer, name.replace(ID, one + trick))
    received = shop._simulator._recorder.report(tag=None)["data"]
    assert {row["path"] for row in received} <= {
        "/v1/responses",
        f"/v1/responses/{one}",
        f"/v1/responses/{one}/input_items",
    }
    await shop.records(len(received))
