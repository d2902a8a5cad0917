"""What operators and crowds do while calls run: prices, keys, grants, parallel spending."""

import asyncio
from asyncio import StreamWriter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from tests.billing.engine.support import Bank
from tests.commands import ask
from tests.faults.books import charge, check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import CACHED_USD, INPUT_USD, MODEL, OUTPUT_USD, Customer, Customers
from tests.faults.http_client import Connection
from tests.faults.load import Load, Reply, Wish, call, callers
from tests.faults.product import Product
from tests.faults.scenes import serving
from tests.faults.upstream import (
    FINISH,
    STREAM_HEAD,
    UPSTREAM_PORT,
    USAGE,
    USAGE_EVENT,
    ScriptedUpstream,
    content,
)

STREAM = Wish(
    stream=True,
    include_usage=True,
    prompt_tokens=USAGE["prompt_tokens"],
    completion_tokens=USAGE["completion_tokens"],
)
CROWD, AFFORDABLE = 200, 10
# Dear enough to be counted: ten of them fit into the crowd's wallet, and no eleventh.
COSTLY = Wish(prompt_tokens=20, completion_tokens=246)
EDITS = 10


async def operator(product: Product, action: str) -> None:
    """Run one of the functions below inside the product's own environment."""
    program = f"from {__name__} import {action}; {action}()"
    done = await asyncio.to_thread(product.manage_raw, "shell", "--command", program)
    assert done.returncode == 0, done.stderr


def change() -> None:
    """Last the key and the organization, so that who knows of these knows of the others, too."""
    ask("price_set", MODEL, "--input", "1000", "--cached", "1000", "--output", "1000", "--sure")
    ask("discount_set", "0.9", "--organization", "changed")
    from accounts.models import ApiKey

    key = ApiKey.objects.get(project__organization__slug="changed")
    ask("api_key_revoke", key.prefix)
    ask("organization_suspend", "changed")


def change_back() -> None:
    ask(
        "price_set",
        MODEL,
        "--input",
        INPUT_USD,
        "--cached",
        CACHED_USD,
        "--output",
        OUTPUT_USD,
        "--sure",
    )
    ask("discount_set", "0.5", "--organization", "changed")


@dataclass
class Gate:
    """A stream that stands still after its first words until the test lets it go on."""

    opened: asyncio.Event

    async def script(self, writer: StreamWriter) -> None:
        writer.writelines((STREAM_HEAD, content("Hello")))
        await writer.drain()
        await self.opened.wait()
        writer.writelines((FINISH, USAGE_EVENT, b"data: [DONE]\n\n"))
        await writer.drain()


async def refused(connection: Connection, customer: Customer) -> None:
    async with asyncio.timeout(60):
        while (await connection.get("/v1/models", customer.api_key)).status != 401:
            await asyncio.sleep(0.02)


async def test_f40_f41_price_discount_key_and_organization_change_in_the_middle_of_a_stream(
    product: Product, customers: Customers
) -> None:
    """It ends as it began: at the old price, for the key that it was asked with. No other does."""
    customer = customers["changed"]
    await serving(product)
    gate = Gate(asyncio.Event())
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedUpstream(UPSTREAM_PORT, gate.script))
        connections = [
            await stack.enter_async_context(Connection(product.port)) for _ in range(2 * AFFORDABLE)
        ]
        streams = [asyncio.create_task(call(c, customer, STREAM)) for c in connections]
        async with asyncio.timeout(60):
            while upstream.calls < len(streams):
                await asyncio.sleep(0.02)
        await operator(product, "change")
        # Connections of their own reach both workers.
        for watcher in callers(product.port, 8):
            async with watcher:
                await refused(watcher, customer)
        gate.opened.set()
        replies = await asyncio.gather(*streams)
        assert {reply.code for reply in replies} == {"complete"}
        for connection in connections:
            assert (await call(connection, customer, STREAM)).code == "401"
        assert upstream.calls == len(streams)
    await operator(product, "change_back")
    found = await check_books(product, replies)
    mine = [record for record in found if record.organization == customer.organization]
    assert len(mine) == len(replies)


def edit() -> None:
    """Save whole rows and give money, again and again."""
    from accounts.models import Organization, Project

    for number in range(EDITS):
        organization = Organization.objects.get(slug="edited")
        organization.name = f"edited {number}"
        organization.save()
        for project in Project.objects.filter(organization=organization):
            project.save()
        ask("credit_grant", "edited", "0.000001")
        key = ask("api_key_issue", "edited")
        ask("api_key_revoke", key["prefix"])


async def never_below_zero(bank: Bank) -> None:
    """At each commit that we happen to see."""
    while True:
        assert bank.number("SELECT min(balance_nano_usd) FROM billing_wallet WHERE strict") >= 0
        await asyncio.sleep(0.01)


@asynccontextmanager
async def watched(product: Product) -> AsyncIterator[Bank]:
    with product.bank() as bank:
        watching = asyncio.create_task(never_below_zero(bank))
        yield bank
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def crowded(product: Product, crowd: Customer) -> list[Reply]:
    """200 calls at once, over both workers, with the money for ten."""
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(Connection(product.port)) for _ in range(CROWD)
        ]
        replies = await asyncio.gather(*(call(c, crowd, COSTLY) for c in connections))
        assert {reply.code for reply in replies} == {"complete", "429"}
        # Money that was held for nothing comes back: in the end exactly ten were served.
        async with asyncio.timeout(60):
            while len([reply for reply in replies if reply.is_complete]) < AFFORDABLE:
                replies.append(await call(connections[0], crowd, COSTLY))
        for connection in connections[:20]:
            assert (await call(connection, crowd, COSTLY)).code == "429"
    return replies


async def test_f45_f46_a_crowd_spends_what_there_is_and_edits_lose_no_money(
    launch: Launch, customers: Customers
) -> None:
    """No edit writes back a balance that it read before a charge; ten calls are ten calls."""
    product = await launch()
    async with watched(product) as bank:
        async with Load(callers(product.port, 12), [customers["edited"]]) as load:
            await load.complete(20)
            await operator(product, "edit")
            await load.complete(20)
        assert set(load.codes) == {"complete"}
        replies = await crowded(product, customers["crowd"])
        await check_books(product, [*load.replies, *replies])
        edited, crowd = organizations(bank, "edited", "crowd")
        query = "SELECT count(*) FROM billing_grant WHERE organization_id = %s"
        assert bank.number(query, edited) == 1 + EDITS
        cost = charge(prompt_tokens=20, cached_tokens=0, completion_tokens=246)
        assert bank.charged(crowd) == AFFORDABLE * cost
        assert 0 <= bank.balance(crowd) < cost
    await product.stop()
    check_books_afterwards(product, [*load.replies, *replies])
    assert product.alarms() == []


def organizations(bank: Bank, *slugs: str) -> list[int]:
    query = "SELECT id FROM accounts_organization WHERE slug = %s"
    return [bank.number(query, slug) for slug in slugs]
