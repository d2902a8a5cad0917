"""manage.py status as its operator runs it: while calls run, after deaths, and when all is down."""

import asyncio
import json
from typing import Any

from tests.faults.books import check_books
from tests.faults.conftest import Launch
from tests.faults.customers import Customer, Customers
from tests.faults.http_client import Connection
from tests.faults.load import CALL_SECONDS, PATH, Reply, Wish, call
from tests.faults.product import Product, kill, until
from tests.faults.scenes import away, both, served_from_leases, warmed_up

HEARTBEAT = {"LEASE_HEARTBEAT_SECONDS": "0.3"}
STILL_RUNNING = Wish(completion_tokens=20, delay_ms=60_000)


async def totals(product: Product) -> dict[str, Any]:
    status: dict[str, Any] = await asyncio.to_thread(product.manage, "status")
    return dict(status["engine"])


async def totals_with(product: Product, **expected: int) -> dict[str, Any]:
    """The totals, as soon as the workers have said so with a renewal."""
    async with asyncio.timeout(CALL_SECONDS):
        while True:
            found = await totals(product)
            if expected.items() <= found.items():
                return found
            told = {name: found[name] for name in expected}
            assert product.status is None, f"{told} instead of {expected}"
            await asyncio.sleep(0.1)


def broke(product: Product) -> Customer:
    slug = product.manage("organization_create", "broke", "--quota", "0")["organization"]
    return Customer(organization=slug, api_key=product.manage("api_key_issue", slug)["api_key"])


async def odd_calls(connection: Connection, customer: Customer) -> list[Reply]:
    """Three whose usage upstream does not tell, and two that use more than was held."""
    untold = Wish().body(simulate={"fault": "no_usage"})
    replies = [await call(connection, customer, Wish(), body=untold) for _ in range(3)]
    big = Wish(prompt_tokens=100_000)
    return [*replies, *[await call(connection, customer, big) for _ in range(2)]]


async def test_what_is_open_and_what_was_odd_is_counted_and_outlives_its_worker(
    launch: Launch, customers: Customers
) -> None:
    product = await launch(**HEARTBEAT)
    standard, penniless = customers["standard"], broke(product)
    async with both(product) as ((one, *_), (other, *_)):
        for connection in (one, other):
            refused = [await call(connection, penniless, Wish()) for _ in range(2)]
            assert [reply.code for reply in refused] == ["429", "429"]
        odd = await odd_calls(one, standard)
        assert [reply.answer.status for reply in odd] == [200] * 5
        await other.send(PATH, standard.api_key, STILL_RUNNING.body())
        found = await totals_with(product, calls_open=1, refused_ever=4, calls_settled_ever=5)
        assert found["holds_open"] == 1
        assert found["held_nano_usd"] > 0
        assert found["leases_open"] == 2
        granted, spent = found["leases_granted_nano_usd"], found["leases_spent_nano_usd"]
        assert found["leases_unspent_nano_usd"] == granted - spent > found["held_nano_usd"]
        assert (found["estimated_today"], found["bound_exceeded_today"]) == (3, 2)
        text = product.manage_raw("status").stdout
        assert "Refused     4 calls" in text
        assert "Holds       1 open for 1 calls" in text
        kill(product.workers())
        # Their successors replay the journals: the call that ran is lost, nothing else is.
        found = await totals_with(product, lost_today=1, calls_open=0, leases_open=0)
    assert (found["refused_ever"], found["calls_settled_ever"]) == (4, 5)
    assert (found["estimated_today"], found["bound_exceeded_today"]) == (3, 2)
    await check_books(product, [reply for reply in odd if reply.wish.prompt_tokens == 100_000])


async def test_what_waits_in_journals_is_told_while_postgresql_is_away_and_after_the_end(
    launch: Launch, customers: Customers
) -> None:
    product = await launch(**HEARTBEAT)
    standard = customers["standard"]
    async with both(product) as groups:
        replies = await warmed_up(groups, standard, standard)
        await check_books(product, replies)
        shipped = await totals_with(product, journal_unshipped_bytes=0, ship_lag_ms=0)
        assert shipped["leases_open"] == 2
        async with away(product):
            replies += await served_from_leases([first for first, *_ in groups], standard)
            down = product.manage("status")
            assert down["engine"] is None
            assert down["engine_problem"] == "The database does not run."
            assert len(down["workers"]) == 2
            assert len(down["journals"]) == 2
            assert all(journal["unshipped_bytes"] > 4_000 for journal in down["journals"])
            await product.kill_everything()
    done = product.manage_raw("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["journals"][0]["unshipped_bytes"] > 4_000
    text = product.manage_raw("status").stdout
    assert text.startswith("Tollgate does not run here.\nMoney       The database does not run.")
    assert "Journals    2 of this node, with at most" in text
    await product.start()
    await check_books(product, replies)
    await totals_with(product, journal_unshipped_bytes=0, leases_open=0)
    await until(lambda: len(product.manage("status")["engine_workers"]) == 2, "only the new ones")
