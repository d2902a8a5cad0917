"""Many leases in one transaction: each as if it were alone, and none at another's cost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from billing.engine import Hold, InsufficientQuota, MoneyEngine, giving, growing, transactions
from billing.engine.desk import Desk
from billing.engine.funds import Want
from billing.engine.giving import Return
from billing.engine.growing import GrowAnswer
from billing.engine.leases import LeaseView
from billing.engine.money_moves import WalletMissing
from billing.identifiers import uuid7
from tests.billing.engine.faulty import Fate, Faults, FaultyDatabase
from tests.billing.engine.support import QUICK, Bank, request, running, settings_for, spend

NOBODY = 2**40


@pytest.fixture
def bank(fresh_database_url: str) -> Iterator[Bank]:
    bank = Bank(fresh_database_url)
    yield bank
    findings = bank.findings(retain=1e6)
    bank.connection.close()
    assert findings == []


class Counter:
    """One worker that asks for many leases, on a database that can be made to fail."""

    def __init__(self, bank: Bank) -> None:
        self.worker_id = uuid7()
        self.faults = Faults()
        self.database = FaultyDatabase(url=bank.url, timeout=5.0)
        self.database.faults = self.faults
        self.transactions = 0
        self.desk = Desk(worker_id=self.worker_id, database=self.database, timing=QUICK)

    async def grow(self, *wants: Want) -> list[GrowAnswer | WalletMissing]:
        asked = partial(growing.grow, worker_id=self.worker_id, wants=wants, timing=QUICK)
        answers = await self.database.run(asked)
        assert answers is not None
        return answers

    async def give(self, *returns: Return) -> list[LeaseView | WalletMissing | None]:
        return await self.database.run(partial(giving.give, returns=returns))

    def want(self, organization: int, amount: int, lease_id: UUID | None = None) -> Want:
        return Want(
            worker_id=self.worker_id,
            organization_id=organization,
            lease_id=lease_id or uuid7(),
            version=0,
            minimum_nano_usd=amount,
            desired_nano_usd=amount,
            wanted_nano_usd=amount,
        )


@pytest.fixture
async def counter(bank: Bank) -> AsyncIterator[Counter]:
    counter = Counter(bank)
    register = partial(transactions.worker_register, worker_id=counter.worker_id, node="n", pid=1)
    await counter.database.run(partial(register, timing=QUICK))
    yield counter
    await counter.desk.close()
    await counter.database.close()


def view(answer: object) -> LeaseView:
    found = answer.view if isinstance(answer, GrowAnswer) else answer
    assert isinstance(found, LeaseView)
    return found


def part_of(lease: LeaseView, amount: int | None, version: int | None = None) -> Return:
    return Return(
        organization_id=lease.organization_id,
        lease_id=lease.lease_id,
        version=lease.version if version is None else version,
        amount_nano_usd=amount,
    )


async def test_each_gets_what_its_own_wallet_has(counter: Counter, bank: Bank) -> None:
    rich, poor = bank.organization(1_000), bank.organization(10)
    got, missing, short = await counter.grow(
        counter.want(rich, 100), counter.want(NOBODY, 100), counter.want(poor, 100)
    )
    assert view(got).granted_nano_usd == 100
    assert isinstance(missing, WalletMissing)
    assert isinstance(short, GrowAnswer)
    assert (short.short, short.view, short.reachable_nano_usd) == (True, None, 10)
    assert bank.balance(rich) == 1_000
    assert bank.row("SELECT short_at IS NULL FROM billing_wallet ORDER BY organization_id") == (
        True,
    )


async def test_two_leases_of_one_wallet_share_it(counter: Counter, bank: Bank) -> None:
    organization = bank.organization(100)
    bank.grant(organization, 50)
    first, second = counter.want(organization, 120), counter.want(organization, 30)
    both = await counter.grow(first, second, counter.want(organization, 1))
    assert [view(answer).granted_nano_usd for answer in both[:2]] == [120, 30]
    last = both[2]
    assert isinstance(last, GrowAnswer)
    assert (last.short, last.reachable_nano_usd) == (True, 150)


async def test_what_was_applied_already_is_not_applied_again(counter: Counter, bank: Bank) -> None:
    organization, other = bank.organization(1_000), bank.organization(1_000)
    want = counter.want(organization, 100)
    (first,) = await counter.grow(want)
    again, new = await counter.grow(want, counter.want(other, 70))
    assert view(again).granted_nano_usd == view(first).granted_nano_usd == 100
    part = part_of(view(first), 40)
    await counter.give(part)
    repeated, given = await counter.give(part, part_of(view(new), 70))
    assert (view(repeated).granted_nano_usd, view(repeated).version) == (60, 2)
    assert view(given).granted_nano_usd == 0


async def test_some_are_closed_and_others_lessened(counter: Counter, bank: Bank) -> None:
    organization, other = bank.organization(1_000), bank.organization(1_000)
    one, two, three = await counter.grow(
        counter.want(organization, 100),
        counter.want(organization, 200),
        counter.want(other, 300),
    )
    closed, missing, less, gone = await counter.give(
        part_of(view(one), None),
        Return(organization_id=NOBODY, lease_id=uuid7(), version=1, amount_nano_usd=1),
        part_of(view(two), 50),
        part_of(view(three), None),
    )
    assert isinstance(missing, WalletMissing)
    assert (view(closed).state, view(less).state, view(gone).state) == ("closed", "open", "closed")
    assert view(less).granted_nano_usd == 150
    assert bank.open_leases() == 1


async def test_what_returns_repays_what_is_owed_once(counter: Counter, bank: Bank) -> None:
    """Two leases return to a wallet in debt: the first part repays it, the rest is free."""
    organization = bank.organization(100, strict=False)
    one, two = await counter.grow(counter.want(organization, 60), counter.want(organization, 40))
    owe = "UPDATE billing_wallet SET debt_nano_usd = 50, balance_nano_usd = balance_nano_usd - 50"
    bank.connection.execute(owe)
    bank.connection.execute(
        "INSERT INTO billing_ledgerentry (posting, sequence, account, organization_id,"
        " amount_nano_usd, reason, created_at) SELECT %s, n, account, %s, amount, 'owed', now()"
        " FROM (VALUES (1, 'wallet', -50), (2, 'write_off', 50)) AS leg(n, account, amount)",
        [uuid7(), organization],
    )
    await counter.give(part_of(view(one), 40), part_of(view(two), 40))
    row = "SELECT balance_nano_usd, debt_nano_usd FROM billing_wallet"
    assert bank.row(row) == (30, 0)
    assert bank.row("SELECT free_nano_usd, burnt_nano_usd, leased_nano_usd FROM billing_grant") == (
        30,
        50,
        20,
    )


async def test_what_comes_while_others_are_asked_goes_together(
    counter: Counter, bank: Bank
) -> None:
    organizations = [bank.organization(1_000) for _ in range(20)]
    wants = [counter.want(organization, 100) for organization in organizations]
    answers = await asyncio.gather(*map(counter.desk.grow, wants))
    assert [view(answer.value).granted_nano_usd for answer in answers] == [100] * 20
    distinct = "SELECT count(DISTINCT xmin::text) FROM billing_lease"
    assert bank.number(distinct) <= 2


async def test_nobody_suffers_from_what_another_is_refused(counter: Counter, bank: Bank) -> None:
    """A wallet that breaks a constraint: its own operation fails, and no other."""
    sound, broken = [bank.organization(1_000) for _ in range(4)], bank.organization(1_000)
    bank.connection.execute(
        f"ALTER TABLE billing_lease ADD CONSTRAINT none_of_it CHECK (organization_id <> {broken})"
    )
    wants = [counter.want(organization, 100) for organization in (*sound[:2], broken, *sound[2:])]
    answers = await asyncio.gather(*map(counter.desk.grow, wants), return_exceptions=True)
    failed = [isinstance(answer, BaseException) for answer in answers]
    assert failed == [False, False, True, False, False]


async def test_an_unknown_outcome_is_told_to_all_that_were_asked(
    counter: Counter, bank: Bank
) -> None:
    organizations = [bank.organization(1_000) for _ in range(3)]
    counter.faults.coming += [Fate("answer_lost")]
    wants = [counter.want(organization, 100) for organization in organizations]
    lost = await asyncio.gather(*map(counter.desk.grow, wants), return_exceptions=True)
    assert {type(error).__name__ for error in lost} == {"OutcomeUnknown"}
    again = await asyncio.gather(*map(counter.desk.grow, wants))
    assert [view(answer.value).version for answer in again] == [1, 1, 1]


async def test_a_fenced_worker_gets_nothing(counter: Counter, bank: Bank) -> None:
    organizations = [bank.organization(1_000) for _ in range(3)]
    bank.connection.execute("UPDATE billing_worker SET state = 'expired'")
    wants = [counter.want(organization, 100) for organization in organizations]
    answers = await asyncio.gather(*map(counter.desk.grow, wants))
    assert [answer.value for answer in answers] == [None, None, None]
    assert bank.open_leases() == 0


async def test_workers_that_ask_for_the_same_wallets_in_any_order_do_not_block_each_other(
    bank: Bank, tmp_path: Path
) -> None:
    organizations = [bank.organization(1_000_000) for _ in range(12)]
    patient = replace(QUICK, ttl=20.0, timeout=5.0, grace=6.0)
    settings = settings_for(bank.url, tmp_path / "journals", timing=patient)

    async def all_of(engine: MoneyEngine, numbers: list[int]) -> int:
        charges = await asyncio.gather(*(spend(engine, each, 100, 10) for each in numbers))
        for lease in list(engine._workers[0].book.leases.values()):
            engine._workers[0].book.give(lease)
        return sum(charges)

    async with running(settings) as one, running(settings) as two:
        for _ in range(5):
            backwards = organizations[::-1]
            charged = await asyncio.gather(all_of(one, organizations), all_of(two, backwards))
            assert sum(charged) == 240
    assert sum(bank.charged(organization) for organization in organizations) == 1_200
    assert bank.open_leases() == 0


async def test_the_last_call_is_served_whoever_of_many_asks_for_it(
    bank: Bank, tmp_path: Path
) -> None:
    """All ask at once for all that there is, and each holds a slice of it: one gets it."""
    organization = bank.organization(8_000)
    patient = replace(QUICK, ttl=20.0, timeout=5.0, grace=6.0, recall_wait=2.0)
    settings = settings_for(bank.url, tmp_path / "journals", timing=patient)
    async with running(settings) as one, running(settings) as two, running(settings) as three:
        engines = [one, two, three]
        for engine in engines:
            await spend(engine, organization, 1_000, 0)
        asked = request(organization, 8_000)
        tries = [engine.hold_open(asked) for engine in engines]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        holds = [(e, h) for e, h in zip(engines, answers, strict=True) if isinstance(h, Hold)]
        assert len(holds) == 1
        assert sum(isinstance(answer, InsufficientQuota) for answer in answers) == 2
        engine, hold = holds[0]
        engine.hold_release(hold)
    assert bank.balance(organization) == 8_000


async def test_a_wallet_that_is_locked_holds_the_others_up_for_one_timeout_at_most(
    bank: Bank, tmp_path: Path
) -> None:
    locked, free = bank.organization(1_000), [bank.organization(1_000) for _ in range(3)]
    settings = settings_for(bank.url, tmp_path / "journals", timing=QUICK)
    blocker = Bank(bank.url)
    async with running(settings) as engine:
        with blocker.connection.transaction():
            blocker.connection.execute(
                "SELECT 1 FROM billing_wallet WHERE organization_id = %s FOR UPDATE", [locked]
            )
            stuck = asyncio.ensure_future(engine.hold_open(request(locked, 100)))
            served = [asyncio.ensure_future(spend(engine, each, 100, 10)) for each in free]
            async with asyncio.timeout(20):
                while await anybody_unserved(engine, served, free):
                    pass
        await asyncio.gather(stuck, return_exceptions=True)
    blocker.connection.close()
    assert [bank.charged(each) > 0 for each in free] == [True, True, True]


async def anybody_unserved(
    engine: MoneyEngine, calls: list["asyncio.Task[int]"], organizations: list[int]
) -> bool:
    """Whose call got 503 in the meantime calls again, as a client would."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for number, result in enumerate(results):
        if isinstance(result, BaseException):
            calls[number] = asyncio.ensure_future(spend(engine, organizations[number], 100, 10))
    return any(isinstance(result, BaseException) for result in results)
