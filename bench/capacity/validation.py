"""The same small scenario on a real PostgreSQL and in the simulation: do both do the same?

The calls are the same ones, at the same moments. What may differ is what hangs on milliseconds:
who comes first to a wallet's last money.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from bench.capacity.fleet import TIMING, journals
from bench.capacity.measuring import ROOT, organization_create
from bench.capacity.observer import Observer
from bench.capacity.scenarios import PLENTY, Plan, play
from bench.capacity.server import Costs
from bench.capacity.traffic import Traffic, mean_cost
from billing.engine import EngineSettings, MoneyEngine

# One machine: no network, but every engine of the real run shares one thread.
HERE = Costs(round_trip=0.000_2)
# Nobody shall give up, however busy the machine is.
PATIENT = replace(TIMING, timeout=10.0, grace=20.0)
PLANS = (
    Plan(
        name="plenty of money",
        nodes=4,
        per_second=60,
        warm_up=0,
        seconds=8,
        costs=HERE,
        timing=PATIENT,
    ),
    Plan(
        name="a wallet that runs dry",
        nodes=4,
        per_second=60,
        warm_up=0,
        seconds=8,
        funded_seconds=6,
        costs=HERE,
        timing=PATIENT,
    ),
)
_KINDS = "SELECT reason, count(DISTINCT posting) FROM billing_ledgerentry GROUP BY reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    name: str
    real: Mapping[str, int]
    simulated: Mapping[str, int]

    def far_apart(self, *, tolerance: float) -> dict[str, tuple[int, int]]:
        """What differs by more than that part of the real figure, and by more than five."""
        return {
            name: (real, self.simulated[name])
            for name, real in self.real.items()
            if abs(real - self.simulated[name]) > max(5, tolerance * real)
        }


def compare(plan: Plan, url: str) -> Compared:
    with psycopg.connect(url, autocommit=True) as connection, journals() as folder:
        return Compared(
            name=plan.name,
            real=asyncio.run(_really(plan, connection, url, folder)),
            simulated=_simulated(plan),
        )


def _simulated(plan: Plan) -> Mapping[str, int]:
    seen = play(plan)
    assert not seen.errors, seen.errors
    answers = seen.answers
    return {
        "grown": seen.postings["lease_grow"],
        "returned": seen.postings["lease_return"],
        "closed": seen.postings["lease_close"],
        "served": answers.served,
        "denied": answers.denied,
        "charged, in millionths of a dollar": answers.charged // 1000,
    }


async def _really(
    plan: Plan, connection: psycopg.Connection[Any], url: str, folder: Path
) -> Mapping[str, int]:
    spent_a_second = mean_cost(random.Random(plan.seed)) * plan.per_second
    seconds = plan.funded_seconds
    amount = PLENTY if seconds is None else round(spent_a_second * seconds)
    before = _postings(connection)
    organization_id = organization_create(connection, amount)
    observer = Observer()
    observer.change(organization_id, amount, 0.0)
    async with _engines(plan, url, folder) as engines:
        traffic = Traffic(
            engines, observer, [organization_id], per_second=plan.per_second, seed=plan.seed
        )
        traffic.start()
        await asyncio.sleep(plan.seconds)
        traffic.stop()
        await traffic.drained()
    found = {reason: n - before.get(reason, 0) for reason, n in _postings(connection).items()}
    answers = traffic.answers
    assert answers.unavailable == 0, "the machine is too busy for it"
    return {
        "grown": found.get("lease_grow", 0),
        "returned": found.get("lease_return", 0),
        "closed": found.get("lease_close", 0),
        "served": answers.served,
        "denied": answers.denied,
        "charged, in millionths of a dollar": answers.charged // 1000,
    }


def _postings(connection: psycopg.Connection[Any]) -> dict[str, int]:
    return dict(connection.execute(_KINDS.encode()).fetchall())


@asynccontextmanager
async def _engines(plan: Plan, url: str, folder: Path) -> AsyncIterator[list[MoneyEngine]]:
    async with AsyncExitStack() as stack:
        engines = []
        for number in range(plan.nodes):
            place = folder / f"node-{number}"
            place.mkdir()
            settings = EngineSettings(
                database_url=url, journals=place, node=place.name, timing=plan.timing
            )
            engine = MoneyEngine(settings)
            await engine.start()
            stack.push_async_callback(engine.stop, 30.0)
            engines.append(engine)
        yield engines


def validate() -> list[Compared]:
    with tempfile.TemporaryDirectory(prefix="tollgate-capacity-") as folder:
        os.environ["DATA_DIR"] = folder
        # They read the environment that was just set.
        from gateway.launch import embedded_postgres, prepare_environment

        prepare_environment()
        server = embedded_postgres()
        assert server is not None, "it uses a database of its own: unset DATABASE_URL"
        with server.for_command() as url:
            migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, cwd=ROOT, check=True)
            return [compare(plan, url) for plan in PLANS]
