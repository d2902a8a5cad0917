"""The table of docs/capacity.md: what so many calls a second need, computed from `inputs.json`.

The relay's figures come from the newest results of `make bench`, if there are any. It is sized for
calls that are all streamed: those cost it most.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INPUTS = Path(__file__).with_name("inputs.json")
RATES = (1_000, 10_000, 100_000)
CHUNKS, STREAM_SECONDS = 50, 10.0  # Of a streamed answer.
LOAD = 0.6  # Of a core: more of it is waiting for it.
CORES_PER_NODE = 8
CONNECTIONS_PER_WORKER = 4
SHIPMENTS_PER_SECOND = 10  # Of each worker: one each tenth of a second.
RENEWALS_PER_SECOND = 0.2
LEASE_OPERATIONS_PER_SECOND = 1 / 30  # Of each worker and wallet, while there is plenty of money.
WALLETS_PER_WORKER = 100  # Guessed: customers who call within half a minute.
SECONDS_PER_DAY = 86_400
MICRO, GIGA = 1e6, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    rate: int
    whole_cores: int  # The relay's, if no answer is streamed.
    relay_cores: int
    stream_gigabytes: float
    nodes: int
    workers: int
    connections: int
    record_cores: float  # PostgreSQL's, for the records.
    lease_cores: float  # And for leases and renewals.
    wal_megabytes_per_second: float
    disk_gigabytes_per_day: float
    journal_megabytes_per_second: float  # Of all nodes.

    @property
    def postgres_cores(self) -> int:
        return max(2, math.ceil((self.record_cores + self.lease_cores) / LOAD))


def inputs() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(INPUTS.read_text())
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    call_us: float
    chunk_us: float
    stream_kilobytes: float
    source: str


def relay(found: Mapping[str, Any]) -> Relay:
    newest = max((ROOT / "bench" / "results").glob("*/results.json"), default=None)
    if newest is None:
        return Relay(**found["relay"])
    results = json.loads(newest.read_text())

    def cpu_us(counted: str) -> float:
        lane = next(lane for lane in results["lanes"] if lane["counted"] == counted)
        return float(lane["candidates"]["tollgate"]["cpu_us"]["median"])

    return Relay(
        call_us=cpu_us("call"),
        chunk_us=cpu_us("chunk"),
        stream_kilobytes=float(results["memory_kilobytes"]["tollgate"]),
        source=f"`bench/results/{newest.parent.name}`",
    )


def needs(rate: int, found: Mapping[str, Any]) -> Needs:
    postgres, ours = found["postgres"], relay(found)
    whole = math.ceil(rate * ours.call_us / MICRO / LOAD)
    cores = math.ceil(rate * (ours.call_us + CHUNKS * ours.chunk_us) / MICRO / LOAD)
    nodes = max(2, math.ceil(cores / CORES_PER_NODE))
    workers = max(cores, nodes)
    shipments = min(rate, workers * SHIPMENTS_PER_SECOND)
    records = rate * postgres["ship_record_cpu_us"]
    records += shipments * postgres["ship_transaction_cpu_us"]
    operations = workers * (RENEWALS_PER_SECOND + WALLETS_PER_WORKER * LEASE_OPERATIONS_PER_SECOND)
    wal = rate * postgres["wal_bytes_per_record_in_batches_of_10"]
    wal += operations * postgres["lease_transaction_wal_bytes"]
    return Needs(
        rate=rate,
        whole_cores=whole,
        relay_cores=cores,
        stream_gigabytes=rate * STREAM_SECONDS * ours.stream_kilobytes / MICRO,
        nodes=nodes,
        workers=workers,
        connections=workers * CONNECTIONS_PER_WORKER,
        record_cores=records / MICRO,
        lease_cores=operations * postgres["lease_transaction_cpu_us"] / MICRO,
        wal_megabytes_per_second=wal / MICRO,
        disk_gigabytes_per_day=rate * SECONDS_PER_DAY * postgres["disk_bytes_per_record"] / GIGA,
        journal_megabytes_per_second=rate * postgres["journal_bytes_per_call"] / MICRO,
    )


def table() -> str:
    """In Markdown, as it stands in docs/capacity.md."""
    found = inputs()
    every = [needs(rate, found) for rate in RATES]
    rows = [
        ("relay cores, no answer streamed", [f"{n.whole_cores:,}" for n in every]),
        (f"relay cores, {CHUNKS} chunks each", [f"{n.relay_cores:,}" for n in every]),
        ("memory of open streams, GB", [f"{n.stream_gigabytes:.1f}" for n in every]),
        (f"nodes of {CORES_PER_NODE} cores", [f"{n.nodes:,}" for n in every]),
        ("connections to PostgreSQL", [f"{n.connections:,}" for n in every]),
        ("PostgreSQL cores", [f"{n.postgres_cores:,}" for n in every]),
        ("of them busy with records", [f"{n.record_cores:.1f}" for n in every]),
        ("of them busy with leases", [f"{n.lease_cores:.1f}" for n in every]),
        ("WAL, MB/s", [f"{n.wal_megabytes_per_second:.1f}" for n in every]),
        ("usage records, GB a day", [f"{n.disk_gigabytes_per_day:,.0f}" for n in every]),
        ("journals of all nodes, MB/s", [f"{n.journal_megabytes_per_second:.1f}" for n in every]),
    ]
    heads = "".join(f" {rate:,} calls/s |" for rate in RATES)
    lines = [f"| |{heads}", "|---|" + "---:|" * len(RATES)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    ours = relay(found)
    told = f"{ours.call_us:.0f} µs of CPU time a call and {ours.chunk_us:.0f} µs a chunk"
    return "\n".join([*lines, "", f"Relay: {told}, from {ours.source}."])
