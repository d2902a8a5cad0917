"""What a reply waits for its record, by durability: `python -m bench.journal_sync`.

Three gateways with one worker each run side by side, one for each promise: the write of the
journal (JOURNAL_SYNC=interval), the journal on the disk (JOURNAL_SYNC=always), the record in the
database (SETTLE=database). The same clients call each of them in turn, in short rounds, so that
whatever else the machine does meets all three. A second table has the settlement alone, without
HTTP around it.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[1]
MODES = {
    "JOURNAL_SYNC=interval": {"JOURNAL_SYNC": "interval"},
    "JOURNAL_SYNC=always": {"JOURNAL_SYNC": "always"},
    "SETTLE=database": {"SETTLE": "database"},
}
BODY = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "How long does it take?"}],
    "simulate": {"prompt_tokens": 20, "completion_tokens": 10},
}
START_SECONDS = 90.0
WARM_UP_CALLS = 20
SYNCS = 200


@dataclass
class Gateway:
    """A gateway with one worker, and what its clients measured."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def api_key(self) -> str:
        return str(json.loads((self.data / "quickstart.json").read_bytes())["api_key"])

    def worker_cpu(self) -> float:
        (pid,) = json.loads((self.data / "supervisor.json").read_bytes())["workers"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Plan:
    clients: int
    calls_per_second: float
    rounds: int
    round_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rate", type=float, default=100.0, help="Calls a second, of all clients.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0, help="Of one round of one gateway.")
    parser.add_argument("--folder", type=Path, help="On the disk to measure.")
    given = parser.parse_args()
    plan = Plan(given.clients, given.rate, given.rounds, given.seconds)
    with tempfile.TemporaryDirectory(prefix="tollgate-sync-", dir=given.folder) as name:
        folder = Path(name)
        measure_disk(folder)
        measure_calls(folder, plan)
        asyncio.run(measure_settlements(folder, plan))


def measure_disk(folder: Path) -> None:
    """The same write and sync, with nothing of ours around it."""
    seconds = []
    with (folder / "probe").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, SYNCS * 600)
        for number in range(SYNCS):
            os.pwrite(file.fileno(), bytes(600), number * 600)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    print(f"fdatasync of 600 bytes: {quantiles(seconds)}", flush=True)


# --- Whole calls, through HTTP --------------------------------------------------------------------


def measure_calls(folder: Path, plan: Plan) -> None:
    gateways: dict[str, Gateway] = {}
    try:
        for name, settings in MODES.items():
            gateways[name] = gateway_start(folder / name, settings)
        asyncio.run(take_turns(list(gateways.values()), plan))
        print(f"Whole calls, {plan.clients} clients, {plan.calls_per_second:g} calls a second:")
        base = gateways["JOURNAL_SYNC=interval"].seconds
        for name, gateway in gateways.items():
            cpu = 1e6 * gateway.cpu_seconds / len(gateway.seconds)
            print(
                f"  {name:22} {quantiles(gateway.seconds)}{added(gateway.seconds, base)},"
                f" {cpu:.0f} us of CPU a call in the worker, {len(gateway.seconds)} calls",
                flush=True,
            )
    finally:
        for gateway in gateways.values():
            gateway.process.send_signal(signal.SIGTERM)
        for gateway in gateways.values():
            gateway.process.wait()


def gateway_start(data: Path, settings: dict[str, str]) -> Gateway:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    log = data.with_suffix(".log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run", "--no-jobs"],
        cwd=ROOT,
        env={
            **own,
            "DATA_DIR": str(data),
            "PORT": str(port),
            "WORKERS": "1",
            "FREE_QUOTA_USD": "100",
            **settings,
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    gateway = Gateway(process, data, port)
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(gateway):
        assert process.poll() is None, f"it did not start: {data.with_suffix('.log').read_text()}"
        assert time.monotonic() < deadline, "it does not become ready"
        time.sleep(0.1)
    return gateway


def is_ready(gateway: Gateway) -> bool:
    try:
        state = json.loads((gateway.data / "supervisor.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(state["ready"]) and (gateway.data / "quickstart.json").exists()


async def take_turns(gateways: list[Gateway], plan: Plan) -> None:
    for gateway in gateways:
        for _ in range(WARM_UP_CALLS):
            async with connected(gateway) as call:
                await call()
    for _ in range(plan.rounds):
        for gateway in gateways:
            before = gateway.worker_cpu()
            until = time.monotonic() + plan.round_seconds
            await asyncio.gather(*(client(gateway, plan, until) for _ in range(plan.clients)))
            gateway.cpu_seconds += gateway.worker_cpu() - before


async def client(gateway: Gateway, plan: Plan, until: float) -> None:
    async with connected(gateway) as call:
        for pause in pauses(plan):
            await asyncio.sleep(pause)
            if time.monotonic() > until:
                return
            began = time.perf_counter()
            await call()
            gateway.seconds.append(time.perf_counter() - began)


def pauses(plan: Plan) -> Iterator[float]:
    while True:
        yield random.expovariate(plan.calls_per_second / plan.clients)


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = json.dumps(BODY).encode()
    message = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {gateway.api_key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body

    async def call() -> None:
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)

    try:
        yield call
    finally:
        writer.close()


# --- Settlements alone ----------------------------------------------------------------------------


async def measure_settlements(folder: Path, plan: Plan) -> None:
    """A real engine on a real database and disk, as a worker has it, called without HTTP."""
    from gateway.data_directory import DataDirectory
    from gateway.postgres import EmbeddedPostgres

    data = DataDirectory(folder / "JOURNAL_SYNC=interval")
    from billing.engine import Durability, EngineSettings, MoneyEngine, Timing

    durabilities = {
        "JOURNAL_SYNC=interval": Durability.JOURNAL,
        "JOURNAL_SYNC=always": Durability.SYNCED,
        "SETTLE=database": Durability.DATABASE,
    }
    with EmbeddedPostgres(data).for_command() as url, money(url) as organization:
        engines = {
            name: MoneyEngine(
                EngineSettings(
                    database_url=url,
                    journals=data.journals,
                    node="bench",
                    timing=Timing(),
                    durability=durability,
                )
            )
            for name, durability in durabilities.items()
        }
        for engine in engines.values():
            await engine.start()
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(plan.rounds):
            for name, engine in engines.items():
                until = time.monotonic() + plan.round_seconds
                await asyncio.gather(
                    *(
                        settle_on(engine, organization, plan, until, seconds[name])
                        for _ in range(plan.clients)
                    )
                )
        for engine in engines.values():
            await engine.stop(10.0)
    print("Settlements alone, from the append to the leave to send the last byte:")
    for name, found in seconds.items():
        print(f"  {name:22} {quantiles(found)}, {len(found)} calls", flush=True)


@contextmanager
def money(url: str) -> Iterator[int]:
    """The organization of the first run, which has a wallet."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT organization_id FROM billing_wallet LIMIT 1").fetchone()
        assert row is not None, "the first run made no organization"
        yield int(row[0])


async def settle_on(
    engine: Any, organization: int, plan: Plan, until: float, seconds: list[float]
) -> None:
    from billing.engine import Bounds, HoldRequest, Outcome

    bounds = Bounds(minimum_nano_usd=1000, wanted_nano_usd=1000)
    outcome = Outcome(
        status=200,
        outcome="completed",
        usage_source="upstream",
        prompt_tokens=1,
        completion_tokens=2,
        units={"input_tokens": 1, "output_tokens": 2},
    )
    for pause in pauses(plan):
        await asyncio.sleep(pause)
        if time.monotonic() > until:
            return
        hold = await engine.hold_open(
            HoldRequest(organization_id=organization, strict=bounds, standard=bounds)
        )
        engine.call_opened(hold, call_of(organization))
        began = time.perf_counter()
        engine.call_settle(hold, outcome, 10)
        await engine.kept(hold)
        seconds.append(time.perf_counter() - began)


def call_of(organization: int) -> Any:
    from billing.engine import Call
    from billing.identifiers import uuid7

    return Call(
        request_id=uuid7(),
        organization_id=organization,
        project_id=1,
        api_key_id=1,
        api_key_prefix="sk-bench",
        endpoint="chat/completions",
        model="gpt-4o-mini",
        upstream_model="gpt-4o-mini",
        channel="simulator",
        stream=False,
        price_id=1,
        discount_ppm=500_000,
        retry_count=0,
        opened_at=time.time(),
    )


def quantiles(seconds: list[float]) -> str:
    return f"p50 {1000 * at(seconds, 0.5):.2f} ms, p99 {1000 * at(seconds, 0.99):.2f} ms"


def added(seconds: list[float], base: list[float]) -> str:
    if seconds is base:
        return ""
    middle, tail = (1000 * (at(seconds, q) - at(base, q)) for q in (0.5, 0.99))
    return f" (added: {middle:+.2f} and {tail:+.2f})"


def at(seconds: list[float], quantile: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(quantile * len(seconds)))]


if __name__ == "__main__":
    main()
