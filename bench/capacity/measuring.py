"""What PostgreSQL needs for leases and for records: measured on an embedded one.

The transactions are the product's. CPU time is that of all the server's processes; on a machine
that does other things as well, elapsed times are worth less.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from bench.capacity.fleet import TIMING, OpenEngine, journals
from bench.capacity.traffic import call_of
from bench.machine import cpu_seconds, family
from billing.engine import Bounds, Database, EngineSettings, HoldRequest, Outcome, shipping
from billing.engine.records import Opened, Settled, frame
from billing.engine.shipping import Batch

ROOT = Path(__file__).resolve().parents[2]
PLENTY = 10**15
CHARGE = 1_000
LEASE_ROUNDS = 300
# Records that ship together: a calm worker has few each tenth of a second, a busy one many.
FEW, MANY = 10, 200
WARM_UP = 10_000
OUTCOME = Outcome(
    status=200,
    outcome="completed",
    usage_source="upstream",
    prompt_tokens=1200,
    cached_tokens=256,
    completion_tokens=300,
    units={"input_tokens": 944, "cached_input_tokens": 256, "output_tokens": 300},
    service_tier="default",
    official_cost_nano_usd=2 * CHARGE,
    upstream_cost_nano_usd=CHARGE,
    upstream_request_id="req_0123456789abcdef0123456789abcdef",
    first_byte_ms=350,
    duration_ms=2_000,
)


@dataclass(frozen=True, slots=True)
class Spent:
    elapsed: float
    cpu: float
    wal_bytes: int


def _settled(organization_id: int, lease_id: UUID) -> Settled:
    return Settled(
        call=msgspec.structs.replace(
            call_of(organization_id),
            api_key_prefix="sk-abcdefgh",
            model="gpt-4o-mini-2024-07-18",
            upstream_model="gpt-4o-mini-2024-07-18",
            channel="openai-1",
            opened_at=time.time() - 2,
        ),
        lease_id=lease_id,
        hold_nano_usd=CHARGE,
        charge_nano_usd=CHARGE,
        outcome=OUTCOME,
        settled_at=time.time(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """Where records go, in whose name."""

    database: Database
    organization_id: int
    worker_id: UUID
    lease_id: UUID

    async def send(self, *, count: int, size: int, offset: int) -> int:
        """So many records in transactions of that size. Returns the offset behind them."""
        for _ in range(count // size):
            records = [
                (offset + position, _settled(self.organization_id, self.lease_id))
                for position in range(size)
            ]
            batch = Batch(
                worker_id=self.worker_id, start=offset, end=offset + size, records=records
            )
            reached = await self.database.run(
                partial(shipping.ship, batch=batch, wallets=set()), timeout=30.0
            )
            assert reached == offset + size, "nobody else ships"
            offset = reached
        return offset


class Meter:
    """What happens to the server while something runs."""

    def __init__(self, server_pid: int, connection: psycopg.Connection[Any]) -> None:
        self._pid = server_pid
        self._connection = connection

    def number(self, query: str) -> int:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None, "a query without a row"
        return int(row[0])

    async def spent(self, work: Callable[[], Awaitable[None]]) -> Spent:
        wal = self.number("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        cpu, began = cpu_seconds(family(self._pid)), time.perf_counter()
        await work()
        elapsed = time.perf_counter() - began
        return Spent(
            elapsed=elapsed,
            cpu=cpu_seconds(family(self._pid)) - cpu,
            wal_bytes=self.number("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn") - wal,
        )


def measure(*, records: int) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory(prefix="tollgate-capacity-") as folder:
        os.environ["DATA_DIR"] = folder
        # They read the environment that was just set.
        from gateway.launch import embedded_postgres, prepare_environment

        prepare_environment()
        server = embedded_postgres()
        assert server is not None, "it measures a database of its own: unset DATABASE_URL"
        with server.for_command() as url, psycopg.connect(url, autocommit=True) as connection:
            migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, cwd=ROOT, check=True)
            assert server.pid is not None, "it has been started"
            return asyncio.run(_measure(url, connection, Meter(server.pid, connection), records))


def organization_create(connection: psycopg.Connection[Any], amount: int) -> int:
    row = connection.execute(
        "INSERT INTO accounts_organization (slug, name, status, time_zone, created_at)"
        " VALUES ('o' || gen_random_uuid(), 'Capacity', 'active', 'UTC', now()) RETURNING id"
    ).fetchone()
    assert row is not None, "an insert without its row"
    organization_id = int(row[0])
    with connection.transaction():
        connection.execute(
            "INSERT INTO billing_wallet (organization_id, strict, strict_always, balance_nano_usd,"
            " debt_nano_usd) VALUES (%s, true, true, %s, 0)",
            [organization_id, amount],
        )
        connection.execute(
            "INSERT INTO billing_grant (organization_id, kind, amount_nano_usd, free_nano_usd,"
            " leased_nano_usd, burnt_nano_usd, expired_nano_usd, reason, created_at)"
            " VALUES (%s, 'top_up', %s, %s, 0, 0, 0, '', now())",
            [organization_id, amount, amount],
        )
    return organization_id


async def _measure(
    url: str, connection: psycopg.Connection[Any], meter: Meter, records: int
) -> Mapping[str, float]:
    organization_id = organization_create(connection, PLENTY)
    with journals() as folder:
        engine = OpenEngine(
            EngineSettings(database_url=url, journals=folder, node="capacity", timing=TIMING)
        )
        await engine.start()
        found = await _leases(engine, meter, organization_id)
        hold = await engine.hold_open(_request(organization_id, PLENTY // 2))
        (owner,) = engine.workers
        database = Database(url=url, timeout=30.0)
        shipment = Shipment(
            database=database,
            organization_id=organization_id,
            worker_id=owner.id,
            lease_id=hold.lease.id,
        )
        shipped = await _shipping(meter, shipment, records)
        await database.close()
        await engine.kill()  # Its journal is not what was shipped in its name.
    settled = _settled(organization_id, shipment.lease_id)
    opened = Opened(call=settled.call, lease_id=settled.lease_id, hold_nano_usd=CHARGE)
    journal = len(frame(opened)) + len(frame(settled))
    return {**found, **shipped, "journal_bytes_per_call": journal}


def _request(organization_id: int, amount: int) -> HoldRequest:
    bounds = Bounds(minimum_nano_usd=amount, wanted_nano_usd=amount)
    return HoldRequest(organization_id=organization_id, strict=bounds, standard=bounds)


async def _leases(engine: OpenEngine, meter: Meter, organization_id: int) -> Mapping[str, float]:
    """One lease that grows and returns what it got, again and again."""
    (owner,) = engine.workers
    grows: list[float] = []
    gives: list[float] = []

    async def rounds() -> None:
        for _ in range(LEASE_ROUNDS):
            began = time.perf_counter()
            hold = await engine.hold_open(_request(organization_id, CHARGE))
            grown = time.perf_counter()
            engine.hold_release(hold)
            owner.book.recall(organization_id)
            while hold.lease.busy:  # noqa: ASYNC110  It has no event, and needs none.
                await asyncio.sleep(0.000_2)
            grows.append(grown - began)
            gives.append(time.perf_counter() - grown)

    spent = await meter.spent(rounds)
    return {
        "lease_grow_ms": 1e3 * statistics.median(grows),
        "lease_return_ms": 1e3 * statistics.median(gives),
        "lease_transaction_cpu_us": 1e6 * spent.cpu / (2 * LEASE_ROUNDS),
        "lease_transaction_wal_bytes": spent.wal_bytes / (2 * LEASE_ROUNDS),
    }


async def _shipping(meter: Meter, shipment: Shipment, records: int) -> Mapping[str, float]:
    """Twice: in small transactions and in large ones, so that both parts of the price are known."""
    offset = 0

    async def send(count: int, size: int) -> None:
        nonlocal offset
        offset = await shipment.send(count=count, size=size, offset=offset)

    await send(WARM_UP, MANY)
    few_records = min(records, WARM_UP)
    few = await meter.spent(partial(send, few_records, FEW))
    before = _size(meter)
    many = await meter.spent(partial(send, records, MANY))
    grown = _size(meter) - before
    each_few, each_many = few.cpu / few_records, many.cpu / records
    transaction = max(0.0, (each_few - each_many) / (1 / FEW - 1 / MANY))
    return {
        "ship_transaction_cpu_us": 1e6 * transaction,
        "ship_record_cpu_us": 1e6 * (each_many - transaction / MANY),
        f"wal_bytes_per_record_in_batches_of_{FEW}": few.wal_bytes / few_records,
        f"wal_bytes_per_record_in_batches_of_{MANY}": many.wal_bytes / records,
        "disk_bytes_per_record": grown / records,
        "records_measured": records,
    }


def _size(meter: Meter) -> int:
    """Of the usage records with their indexes, in all partitions."""
    return meter.number(
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('billing_usagerecord')"
    )
