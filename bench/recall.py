"""How long a call waits when other workers hold the money it needs: `python -m bench.recall`.

Eight money engines with the default times share one PostgreSQL. An organization's balance pays one
more call, but it lies in slices in the leases of the others. How long until the last one has its
hold? Each engine is a process of its own, as the workers of a gateway are.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 8
SLICE = 1_000_000
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Engine:
    """One engine, in a process of its own, that does what it is told."""

    process: multiprocessing.Process
    pipe: Pipe

    def ask(self, *words: Any) -> Any:
        self.tell(*words)
        return self.answer()

    def tell(self, *words: Any) -> None:
        self.pipe.send(words)

    def answer(self) -> Any:
        assert self.pipe.poll(PATIENCE_SECONDS), "an engine does not answer"
        found = self.pipe.recv()
        assert not isinstance(found, Exception), found
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-recall-") as folder:
        os.environ["DATA_DIR"] = folder
        run(options.rounds)


def run(rounds: int) -> None:
    from gateway.launch import embedded_postgres, prepare_environment

    prepare_environment()
    server = embedded_postgres()
    assert server is not None, "it uses a database of its own: unset DATABASE_URL"
    with server.for_command() as url, psycopg.connect(url, autocommit=True) as connection:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, check=True
        )
        engines = [engine_start(url, Path(os.environ["DATA_DIR"])) for _ in range(WORKERS)]
        try:
            for title, scene in SCENES.items():
                before = cpu_seconds(server.pid, engines)
                seconds = [scene(connection, engines, number) for number in range(rounds)]
                report(title, seconds, (cpu_seconds(server.pid, engines) - before) / rounds)
        finally:
            for engine in engines:
                engine.tell("stop")
            for engine in engines:
                engine.process.join()


def slices_of_all_others(connection: Any, engines: list[Engine], number: int) -> float:
    """Each of the others holds a seventh of what the call needs; nothing is left in the wallet."""
    organization = organization_create(connection, SLICE * WORKERS)
    taker = engines[number % WORKERS]
    others = [engine for engine in engines if engine is not taker]
    spread(others, organization)
    # All that is left, so each slice has to come back.
    return call(taker, organization, payable(connection, organization))


def one_holds_all(connection: Any, engines: list[Engine], number: int) -> float:
    organization = organization_create(connection, SLICE * WORKERS)
    taker, holder = engines[number % WORKERS], engines[(number + 1) % WORKERS]
    holder.ask("take", organization, SLICE * WORKERS)
    holder.ask("release")
    return call(taker, organization, SLICE * WORKERS)


def everybody_asks(connection: Any, engines: list[Engine], _number: int) -> float:
    """All eight want the one call that can be paid, and each holds a slice of it.

    How long until one of them has it; the others are refused, or get it after it was released.
    """
    organization = organization_create(connection, SLICE * WORKERS)
    spread(engines, organization)
    wanted = payable(connection, organization)
    for engine in engines:
        engine.tell("take", organization, wanted)
    answers = [engine.answer() for engine in engines]
    served = [seconds for seconds, taken in answers if taken]
    assert len(served) == 1, f"{len(served)} calls were served with the money of one"
    for engine in engines:
        engine.ask("release")
    return served[0]


SCENES = {
    "seven others hold a slice each": slices_of_all_others,
    "one other holds all of it": one_holds_all,
    "all eight ask at once, each with a slice": everybody_asks,
}


def organization_create(connection: Any, amount: int) -> int:
    (organization,) = connection.execute(
        "INSERT INTO accounts_organization (slug, name, status, time_zone, created_at)"
        " VALUES ('o' || gen_random_uuid(), 'Recall', 'active', 'UTC', now()) RETURNING id"
    ).fetchone()
    with connection.transaction():
        connection.execute(
            "INSERT INTO billing_wallet (organization_id, strict, strict_always, balance_nano_usd,"
            " debt_nano_usd) VALUES (%s, true, true, %s, 0)",
            [organization, amount],
        )
        connection.execute(
            "INSERT INTO billing_grant (organization_id, kind, amount_nano_usd, free_nano_usd,"
            " leased_nano_usd, burnt_nano_usd, expired_nano_usd, reason, created_at)"
            " VALUES (%s, 'top_up', %s, %s, 0, 0, 0, '', now())",
            [organization, amount, amount],
        )
    return int(organization)


def spread(engines: list[Engine], organization: int) -> None:
    """Everything that the wallet has lies in the leases of these engines, held by no call."""
    for engine in engines:
        engine.ask("take", organization, SLICE)
    for engine in engines:
        engine.ask("release")


def payable(connection: Any, organization: int) -> int:
    (amount,) = connection.execute(
        "SELECT (balance_nano_usd + (SELECT sum(granted_nano_usd - spent_nano_usd)"
        " FROM billing_lease WHERE organization_id = %s AND state = 'open'))::bigint"
        " FROM billing_wallet WHERE organization_id = %s",
        [organization, organization],
    ).fetchone()
    return int(amount)


def call(taker: Engine, organization: int, wanted: int) -> float:
    seconds, taken = taker.ask("take", organization, wanted)
    assert taken, "a payable call was refused"
    taker.ask("release")
    return float(seconds)


def report(title: str, seconds: list[float], cpu: float) -> None:
    ordered = sorted(1000 * each for each in seconds)
    print(
        f"{title}: {len(ordered)} calls waited {statistics.median(ordered):.0f} ms at the median,"
        f" {ordered[-1]:.0f} ms at most; {1000 * cpu:.0f} ms of CPU a round, everything included",
        flush=True,
    )


def cpu_seconds(server_pid: int, engines: list[Engine]) -> float:
    """Of the engines and of all the server's processes: other work on the machine is not in it."""
    ours = [psutil.Process(engine.process.pid) for engine in engines]
    server = [psutil.Process(server_pid), *psutil.Process(server_pid).children()]
    times = [process.cpu_times() for process in (*ours, *server)]
    return sum(each.user + each.system for each in times)


def engine_start(url: str, folder: Path) -> Engine:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=engine_run, args=(url, folder, theirs)
    )
    process.start()
    return Engine(process, ours)


def engine_run(url: str, folder: Path, pipe: Pipe) -> None:
    asyncio.run(engine_serve(url, folder, pipe))


async def engine_serve(url: str, folder: Path, pipe: Pipe) -> None:
    from billing.engine import (
        Bounds,
        EngineSettings,
        HoldRequest,
        InsufficientQuota,
        MoneyEngine,
        Timing,
    )

    journals = folder / "journals"
    journals.mkdir(exist_ok=True)
    engine = MoneyEngine(
        EngineSettings(database_url=url, journals=journals, node="bench", timing=Timing())
    )
    await engine.start()
    holds = []
    while True:
        words = await asyncio.to_thread(pipe.recv)
        match words:
            case ("take", organization, amount):
                bounds = Bounds(minimum_nano_usd=amount, wanted_nano_usd=amount)
                began = time.perf_counter()
                try:
                    holds.append(
                        await engine.hold_open(
                            HoldRequest(
                                organization_id=organization, strict=bounds, standard=bounds
                            )
                        )
                    )
                    taken = True
                except InsufficientQuota:
                    taken = False
                pipe.send((time.perf_counter() - began, taken))
            case ("release",):
                for hold in holds:
                    engine.hold_release(hold)
                holds.clear()
                pipe.send(True)
            case ("stop",):
                await engine.stop(5.0)
                return


if __name__ == "__main__":
    main()
