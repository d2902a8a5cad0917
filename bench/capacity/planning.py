"""The table of docs/capacity.md: what so many calls a second need, computed from `inputs.json`.

The relay's CPU time comes from the newest results of `make bench`, if there are any.
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
LOAD = 0.6  # Of a core: more of it is waiting for it.
CORES_PER_NODE = 8
CONNECTIONS_PER_WORKER = 4
SHIPMENTS_PER_SECOND = 10  # Of each worker: one each tenth of a second.
RENEWALS_PER_SECOND = 0.2
LEASE_OPERATIONS_PER_SECOND = 0.1  # Of each worker and wallet, while there is plenty of money.
WALLETS_PER_WORKER = 100
SECONDS_PER_DAY = 86_400
MICRO, GIGA = 1e6, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    rate: int
    relay_cores: int
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


def relay_cpu_us(found: Mapping[str, Any]) -> tuple[float, str]:
    """Per call, and where that is from."""
    newest = max((ROOT / "bench" / "results").glob("*/results.json"), default=None)
    if newest is None:
        return float(found["relay"]["cpu_us_per_call"]), str(found["relay"]["source"])
    lane = json.loads(newest.read_text())["lanes"][0]["candidates"]["tollgate"]
    return float(lane["cpu_us"]["median"]), f"bench/results/{newest.parent.name}"


def needs(rate: int, found: Mapping[str, Any]) -> Needs:
    postgres = found["postgres"]
    cores = math.ceil(rate * relay_cpu_us(found)[0] / MICRO / LOAD)
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
        relay_cores=cores,
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
        ("relay cores", [f"{n.relay_cores:,}" for n in every]),
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
    cpu, source = relay_cpu_us(found)
    return "\n".join([*lines, "", f"(relay: {cpu:.0f} µs of CPU time per call, from {source})"])
