"""How much a worker asks for, and when it asks again."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from billing.engine.demand import least_missing, want_of
from billing.engine.holds import Account, HoldRequest, Lease, Waiter
from billing.identifiers import uuid7
from tests.billing.engine.support import QUICK, Bank, request, running, settings_for, spend


def waiter(asked: HoldRequest) -> Waiter:
    loop = asyncio.get_running_loop()
    return Waiter(request=asked, asked_at=0.0, granted=loop.create_future())


def test_extensions_are_sized_to_last() -> None:
    account = Account(organization_id=1)
    sizes = []
    # Each pause is how long the extension before lasted, where 30 s are wanted.
    for pause in (1000, 1, 1, 29, 31, 59, 61, 1000, 1000, 1000):
        account.set_headroom(account.grown_at + pause, cover=30.0)
        sizes.append(account.headroom)
    assert sizes == [4, 8, 16, 32, 32, 32, 16, 8, 4, 4]


async def test_a_thousand_calls_of_one_organization_need_few_extensions(
    bank: Bank, tmp_path: Path
) -> None:
    organization = bank.organization(10**9)
    async with running(settings_for(bank.url, tmp_path / "journals")) as engine:
        for _ in range(1_000):
            await spend(engine, organization, 100, 100)
        (lease,) = engine._workers[0].book.leases.values()
        assert lease.version <= 9  # 4 + 8 + ... + 1,024 calls.


async def test_what_is_asked_for_covers_who_waits_and_who_will_come() -> None:
    account = Account(organization_id=1, headroom=10)
    lease = Lease(id=uuid7(), organization_id=1, granted=30)
    account.lease = lease
    account.waiting = [waiter(request(1, 100, 50)), waiter(request(1, 70))]
    want = want_of(account, lease, account.waiting, worker_id=uuid7(), missing=0)
    assert (want.minimum_nano_usd, want.desired_nano_usd) == (20, 70)
    assert want.wanted_nano_usd == 100 + 70 + 10 * 100 - 30
    assert least_missing(account) == 20


async def test_who_waits_asks_again_when_enough_came_back(bank: Bank, tmp_path: Path) -> None:
    """Not when too little did: of many that wait, each would ask at each return, all in vain."""
    organization = bank.organization(1_000)
    settings = settings_for(bank.url, tmp_path / "j", timing=replace(QUICK, recall_wait=10.0))
    async with running(settings) as one, running(settings) as two:
        held = await one.hold_open(request(organization, 1_000))
        waiting = asyncio.ensure_future(two.hold_open(request(organization, 800)))
        book = two._workers[0].book
        async with asyncio.timeout(10):
            while organization not in book.accounts or not book.accounts[organization].retry:
                await asyncio.sleep(0.001)
        account = book.accounts[organization]
        lease = account.lease
        assert lease is not None
        asks = []
        for available in (799, 800):
            book.wallet_changed(organization, available=available)
            asks.append(lease.busy)
        assert asks == [False, True]
        one.hold_release(held)
        two.hold_release(await asyncio.wait_for(waiting, 10))


async def test_idle_leases_are_closed_together(bank: Bank, tmp_path: Path) -> None:
    organizations = [bank.organization(1_000) for _ in range(30)]
    settings = settings_for(bank.url, tmp_path / "j", timing=replace(QUICK, idle=0.5))
    async with running(settings) as engine:
        await asyncio.gather(*(spend(engine, each, 100, 10) for each in organizations))
        async with asyncio.timeout(10):
            while bank.open_leases():
                await asyncio.sleep(0.01)
        closings = "SELECT count(DISTINCT xmin::text) FROM billing_lease WHERE state = 'closed'"
        assert bank.number(closings) < len(organizations)


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    findings = bank.findings(retain=1e6)
    bank.connection.close()
    assert findings == []
