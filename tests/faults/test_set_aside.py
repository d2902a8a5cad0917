"""A record that the database refuses: the rest ships, everybody is told, and a retry charges it."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from uuid import UUID

import httpx2

from tests.billing.engine.support import Bank
from tests.faults.books import check_books, check_books_afterwards, records
from tests.faults.conftest import Launch
from tests.faults.customers import Customer, Customers
from tests.faults.load import Reply, Wish, call
from tests.faults.product import Product, until
from tests.faults.scenes import both

WAITS = "no record waits to be set right"
ALARM = re.compile(r'tg-bad" [^>]*></i>\s*<span>Records set aside</span>\s*<b>1</b>')


@contextmanager
def refused(product: Product, customer: Customer) -> Iterator[None]:
    """The database takes no record of this customer: a constraint as a migration might leave it."""
    with product.bank() as bank:
        organization = bank.number(
            "SELECT id FROM accounts_organization WHERE slug = %s", customer.organization
        )
        change = "ALTER TABLE billing_usagerecord"
        constraint = f"CONSTRAINT not_this_one CHECK (organization_id <> {organization}) NOT VALID"
        bank.connection.execute(f"{change} ADD {constraint}".encode())
        yield
        bank.connection.execute(f"{change} DROP CONSTRAINT not_this_one".encode())


async def calls_with_one_refused(
    product: Product, refused_customer: Customer, other: Customer
) -> tuple[Reply, list[Reply]]:
    """The call whose record is set aside, and those that were made at the same time."""
    async with both(product) as groups:
        connections = list(chain(*groups))
        payers = [refused_customer, *([other] * (len(connections) - 1))]
        replies = await asyncio.gather(
            *(call(c, payer, Wish()) for c, payer in zip(connections, payers, strict=True))
        )
    with product.bank() as bank:
        await until(lambda: aside(bank) == 1, "the record that is set aside")
        await until(lambda: len(records(bank)) == len(replies) - 1, "the other records")
    return replies[0], replies[1:]


def aside(bank: Bank) -> int:
    return bank.number("SELECT count(*) FROM billing_setasiderecord WHERE resolved_at IS NULL")


def first_page(product: Product) -> str:
    """The console as its administrator sees it."""
    origin = f"http://127.0.0.1:{product.port}"
    who = product.quickstart()
    with httpx2.Client(base_url=origin, follow_redirects=True) as browser:
        page = browser.get("/admin/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {
            "csrfmiddlewaretoken": token[1],
            "username": who["admin_email"],
            "password": who["admin_password"],
            "next": "/admin/",
        }
        return browser.post(page.url, data=form, headers={"referer": str(page.url)}).text


async def everybody_is_told(product: Product, reply: Reply) -> None:
    assert product.manage("status")["engine"]["set_aside"] == 1
    assert "1 records wait, of 1 ever" in product.manage_raw("status").stdout
    assert ALARM.search(await asyncio.to_thread(first_page, product))
    (alarm,) = product.alarms()
    assert reply.request_id in alarm
    audit = product.manage_raw("audit")
    assert audit.returncode == 1
    assert re.findall(r"BROKEN: (.*)", audit.stdout) == [WAITS]


async def test_the_rest_ships_everybody_is_told_and_a_retry_charges_once(
    launch: Launch, customers: Customers
) -> None:
    product = await launch()
    with refused(product, customers["strict"]):
        reply, others = await calls_with_one_refused(
            product, customers["strict"], customers["standard"]
        )
        assert all(each.is_complete for each in (reply, *others))
        with product.bank() as bank:
            found = [record.request_id for record in records(bank)]
        assert sorted(found) == sorted(UUID(each.request_id) for each in others)
        await everybody_is_told(product, reply)
        again = product.manage_raw("journal", "retry")
        assert again.returncode == 1
        assert f"req_{reply.request_id}: refused again. CheckViolation" in again.stdout
    # Two operators at once, neither of whom knows of the other.
    retries = await asyncio.gather(
        *(asyncio.to_thread(product.manage_raw, "journal", "retry") for _ in range(2))
    )
    assert [retry.returncode for retry in retries] == [0, 0]
    told = "".join(retry.stdout for retry in retries)
    assert told.count(f"req_{reply.request_id}: recorded") == 1
    assert "No record is set aside." in product.manage_raw("journal", "retry").stdout
    counted = product.manage("status")["engine"]
    assert (counted["set_aside"], counted["set_aside_ever"]) == (0, 1)
    assert counted["late_settlements_ever"] == 0  # Its lease was open.
    await check_books(product, [reply, *others])
    await product.stop()
    check_books_afterwards(product, [reply, *others])


async def test_what_is_retried_after_its_lease_was_closed_is_paid_by_the_wallet(
    launch: Launch, customers: Customers
) -> None:
    product = await launch()
    with refused(product, customers["strict"]):
        reply, others = await calls_with_one_refused(
            product, customers["strict"], customers["standard"]
        )
    await product.stop()
    retry = product.manage_raw("journal", "retry")
    assert f"req_{reply.request_id}: recorded" in retry.stdout
    check_books_afterwards(product, [reply, *others])
    with product.bank_afterwards() as bank:
        assert aside(bank) == 0
        legs = "SELECT account FROM billing_ledgerentry WHERE reason = 'late_settlement'"
        accounts = {account for (account,) in bank.connection.execute(legs.encode())}
        assert accounts == {"wallet", "revenue"}
        events = "SELECT count(*) FROM accounts_auditevent WHERE action = 'set_aside.retry'"
        assert bank.number(events) == 1
