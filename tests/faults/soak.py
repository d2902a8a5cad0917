"""A worker dies every few seconds for as long as you like, under load; then the books are checked.

    python -m tests.faults.soak --seconds 600 --workers 4

Everything runs on this machine, in a temporary directory. Status 1: an assertion does not hold.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import django
import psutil

# The audit that the tests read belongs to an application of Django's.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup()

from tests.faults.books import Record, check_books, check_books_afterwards  # noqa: E402  As above.
from tests.faults.customers import Customer, Customers, customers_create  # noqa: E402  As above.
from tests.faults.load import COMPLETE, Load, callers  # noqa: E402  As above.
from tests.faults.product import Product, gone, kill, until  # noqa: E402  As above.
from tests.faults.scenes import answers, incarnations  # noqa: E402  As above.
from tests.folders import temporary_folder  # noqa: E402  As above.

MOST_SECONDS = 24 * 3600
TELL_SECONDS = 60.0
# What the poor get after each death, so that many calls meet a wallet that is nearly empty.
ALMS_NANO_USD = 2_000_000
# How often all workers die, and how often one more does while the first is being replaced.
ALL, ONE_MORE = 0.1, 0.2
# How often PostgreSQL dies as well.
DATABASE = 0.05


@dataclass
class Soak:
    """What is asked for, and what has happened so far."""

    seconds: float
    workers: int
    callers: int
    every: float
    dice: random.Random
    kills: int = 0
    databases: int = 0
    replaced_seconds: list[float] = field(default_factory=list)


async def soak(plan: Soak, folder: Path) -> None:
    """Raises AssertionError."""
    product = Product(folder / "var", WORKERS=str(plan.workers))
    try:
        await product.start()
        customers = await asyncio.to_thread(customers_create, product)
        await _run(plan, product, customers)
    except BaseException:
        print(product.log()[-10_000:])
        raise
    finally:
        await product.kill_everything()


async def _run(plan: Soak, product: Product, customers: Customers) -> None:
    names = ("standard", "strict", "standard", "strict", "standard", "strict", "standard", "poor")
    payers = [customers[name] for name in names]
    begin = told_at = time.monotonic()
    async with Load(callers(product.port, plan.callers), payers) as load:
        while (now := time.monotonic()) - begin < plan.seconds:
            if now - told_at >= TELL_SECONDS:
                told_at = now
                say(f"{now - begin:.0f} s: {plan.kills} killed, {dict(load.codes)}")
            await asyncio.sleep(min(plan.every, plan.seconds))
            await _kill_some(plan, product)
            _give_alms(product, customers["poor"])
    seconds = time.monotonic() - begin
    records = await check_books(product, load.replies)
    assert await asyncio.to_thread(product.manage, "audit") == {"ok": True, "findings": []}
    await product.stop()
    check_books_afterwards(product, load.replies)
    assert product.alarms() == [], "an alarm was raised"
    assert set(load.codes) <= {COMPLETE, "429", "503", "broken"}, load.codes
    _report(plan, load, records, seconds=seconds)


async def _kill_some(plan: Soak, product: Product) -> None:
    """Mostly any one worker, now and then all, or one more while the first is being replaced."""
    workers = product.workers()
    how = plan.dice.random()
    await _kill(plan, workers if how < ALL else [plan.dice.choice(workers)])
    if how > 1 - ONE_MORE:
        await asyncio.sleep(plan.dice.uniform(0, 0.3))
        await _kill(plan, product.workers()[:1])
    if plan.dice.random() < DATABASE:
        await asyncio.sleep(plan.dice.uniform(0, 0.3))
        kill(product.postgres())
        plan.databases += 1
        await until(lambda: answers(product), "PostgreSQL")
    seconds = await until(
        lambda: len([w for w in product.workers() if incarnations(product, w)]) == plan.workers,
        "new workers",
    )
    plan.replaced_seconds.append(seconds)


async def _kill(plan: Soak, workers: list[psutil.Process]) -> None:
    kill(workers)
    plan.kills += len(workers)
    await until(lambda: all(map(gone, workers)), "their death")


def _give_alms(product: Product, poor: Customer) -> None:
    with product.bank() as bank:
        query = "SELECT id FROM accounts_organization WHERE slug = %s"
        bank.grant(bank.number(query, poor.organization), ALMS_NANO_USD)


def _report(plan: Soak, load: Load, records: list[Record], *, seconds: float) -> None:
    outcomes = dict(Counter(record.outcome for record in records))
    rate = load.codes[COMPLETE] / seconds
    say(f"{len(load.replies)} calls in {seconds:.0f} s, as their callers saw them:")
    say(f"  {dict(load.codes)}, {rate:.0f} complete ones a second")
    say(f"{len(records)} records: {outcomes}")
    say(f"{plan.kills} workers killed, and {plan.databases} times PostgreSQL;")
    say(f"  all workers served again within {max(plan.replaced_seconds):.2f} s at most")
    say("Every complete answer has one record with its exact charge; the audit is clean.")


def say(line: str) -> None:
    print(line, flush=True)


def end(number: int, _: FrameType | None) -> NoReturn:
    """Whoever stops us wants our processes stopped, too."""
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill workers under load, then check the books.")
    parser.add_argument("--seconds", type=float, default=60.0, help="How long.")
    parser.add_argument("--workers", type=int, default=4, help="How many workers.")
    parser.add_argument("--callers", type=int, default=32, help="How many calls at once.")
    parser.add_argument("--every", type=float, default=5.0, help="Seconds between two deaths.")
    parser.add_argument("--seed", type=int, default=None, help="Of the choice of who dies.")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    plan = Soak(
        seconds=min(options.seconds, MOST_SECONDS),
        workers=min(options.workers, 64),
        callers=min(options.callers, 512),
        every=options.every,
        dice=random.Random(seed),
    )
    print(
        f"{plan.seconds:g} s, {plan.workers} workers, {plan.callers} callers, seed {seed}",
        flush=True,
    )
    signal.signal(signal.SIGTERM, end)
    try:
        with temporary_folder() as folder:
            asyncio.run(soak(plan, folder))
    except AssertionError:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
