"""The simulation of many nodes: it is repeatable, it sees what it looks for, it fits reality."""

import asyncio
import time
from dataclasses import replace

import pytest

from bench.capacity import planning, virtual_time
from bench.capacity.books import Books
from bench.capacity.observer import FreeMoney, Observer
from bench.capacity.scenarios import Plan, Seen, per_call, play
from bench.capacity.sql import UnknownStatement, find
from bench.capacity.validation import PLANS, compare

DRY = Plan(
    name="runs dry, is refilled",
    nodes=6,
    per_second=15,
    warm_up=0,
    seconds=24,
    funded_seconds=8,
    refilled_at=16,
)


@pytest.fixture(scope="module")
def dry() -> Seen:
    return play(DRY)


# --- What is simulated ---------------------------------------------------------------------------


def test_all_money_is_accounted_for_and_nothing_payable_is_denied(dry: Seen) -> None:
    assert dry.errors == []
    assert dry.answers.denied > 0, "the wallet did not run dry"
    assert dry.postings["lease_return"] > 0, "nothing was recalled"
    assert dry.wrongly_denied == []
    (left,) = dry.left_nano_usd.values()
    assert left >= 0


def test_the_same_seed_gives_the_same_history(dry: Seen) -> None:
    again = play(DRY)
    assert again.answers == dry.answers
    assert again.denials == dry.denials
    assert again.total == dry.total
    assert play(replace(DRY, seed=2)).answers != dry.answers


def test_a_wallet_with_plenty_is_hardly_asked() -> None:
    seen = play(Plan(name="plenty", nodes=5, per_second=50, warm_up=5, seconds=10))
    assert seen.errors == []
    assert seen.denials == []
    assert seen.transactions() < 1
    assert per_call(seen, sorted(seen.answers.waits), 0.5) == 0


def test_a_dead_nodes_money_comes_back_when_it_is_replayed() -> None:
    plan = Plan(
        name="dies", nodes=3, per_second=10, warm_up=8, seconds=8, killed_at=1, back_after=2.0
    )
    seen = play(plan)
    assert seen.errors == []
    assert seen.answers.died > 0, "no call was under way"
    assert seen.back_after is not None
    assert seen.back_after >= 2


# --- Its parts -----------------------------------------------------------------------------------


def test_virtual_time_jumps() -> None:
    began = time.monotonic()

    async def sleep() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(86_400)
        return loop.time() - before

    assert virtual_time.run(sleep) == pytest.approx(86_400)
    assert time.monotonic() - began < 3_600


def test_virtual_time_does_not_hang() -> None:
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(virtual_time.NothingToWaitFor):
        virtual_time.run(hang)


def test_a_statement_that_nobody_has_modelled_fails() -> None:
    with pytest.raises(UnknownStatement):
        find("SELECT 1")


def test_free_money_knows_since_when_it_is_there() -> None:
    money = FreeMoney()
    money.change(100, at=1.0)
    money.change(-60, at=2.0)
    money.change(+30, at=4.0)
    assert money.now_free == 70
    assert money.payable_for(71, at=5.0) == 0
    assert money.payable_for(70, at=5.0) == 1
    assert money.payable_for(41, at=5.0) == 1
    assert money.payable_for(40, at=5.0) == float("inf")


def test_a_denial_counts_from_when_it_was_asked_for_and_payable() -> None:
    observer = Observer()
    observer.change(1, 100, 0.0)
    observer.change(1, -100, 1.0)
    observer.change(1, 50, 10.0)
    for minimum, first_asked in ((50, 5.0), (50, 12.0), (51, 5.0)):
        observer.denied(1, minimum, at=15.0, first_asked=first_asked)
    assert [denial.starved_for for denial in observer.denials] == [5, 3, 0]


def test_the_books_notice_what_is_missing() -> None:
    books = Books()
    books.fund(1, 500)
    assert books.errors() == []
    books.wallets[1].balance -= 1
    assert books.errors() == ["wallets differ from their grants", "wallets differ from the ledger"]


# --- What it is compared with --------------------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_a_real_database_is_asked_the_same(
    plan: Plan, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.capacity.traffic.LONGEST_ANSWER", 300)
    short = replace(plan, seconds=4, funded_seconds=plan.funded_seconds and 2)
    compared = compare(short, fresh_database_url)
    # What hangs on milliseconds differs more on a machine that does other things as well.
    assert compared.far_apart(tolerance=0.6) == {}


# --- What is computed ----------------------------------------------------------------------------


def test_ten_times_the_calls_need_more_of_everything() -> None:
    found = planning.inputs()
    few, many = (planning.needs(rate, found) for rate in (10_000, 100_000))
    assert many.relay_cores > few.relay_cores
    assert many.wal_megabytes_per_second > 5 * few.wal_megabytes_per_second
    assert many.disk_gigabytes_per_day == pytest.approx(10 * few.disk_gigabytes_per_day)


def test_the_document_has_the_table_that_is_computed() -> None:
    document = (planning.ROOT / "docs" / "capacity.md").read_text()
    rows = [line for line in planning.table().splitlines() if line.startswith("|")]
    assert all(row in document for row in rows), "run: python -m bench.capacity plan"
