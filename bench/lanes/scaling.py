"""More workers, more organizations: calls a second, and whether shipping keeps up with them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import psycopg

from bench.candidates.base import RELAY
from bench.candidates.tollgate import Tollgate
from bench.load import Target
from bench.machine import Cores
from bench.payloads import CHAT, bundle, chat_body, render
from bench.rounds import MICRO, Setting, Stage, chat_lane, stage
from bench.workshop import say

WORKERS = (1, 2, 4)
ORGANIZATIONS = (1, 1000)
CALLS_BEFORE = 5
MOST_WARM_UPS = 10
_NEWEST = "SELECT request_id FROM billing_usagerecord ORDER BY request_id DESC LIMIT 1"
_SINCE = "SELECT count(*) FROM billing_usagerecord WHERE request_id >= %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    workers: int
    organizations: int
    calls_per_second: float
    records_per_second: float  # Committed to PostgreSQL in the same seconds.
    lag_seconds: float  # How old the newest record in PostgreSQL was at the end of the load.
    cpu_us: Mapping[str, float]  # Per call, by part.
    latency_us: Mapping[str, float]
    failed: int


def scaling(*, seconds: float, of: str = "") -> list[Scaled]:
    """Each with processes and a database of its own."""
    cores = Cores.of_this_machine()
    found = []
    for workers in WORKERS:
        for organizations in ORGANIZATIONS:
            setting = Setting(cores=cores.wider(workers), workers=workers)
            make = partial(Tollgate, of=of, organizations=organizations)
            with stage([make], setting) as running:
                found.append(_scaled(running, seconds=seconds))
    return found


def _scaled(running: Stage, *, seconds: float) -> Scaled:
    (tollgate,) = running.candidates
    assert isinstance(tollgate, Tollgate)
    lane = chat_lane(seconds=seconds)
    requests = running.folder / "customers.requests"
    headers = [[("authorization", f"Bearer {key}")] for key in tollgate.keys]
    requests.write_bytes(bundle([render(chat_body(model=CHAT), each) for each in headers]))
    target = Target(port=tollgate.port, requests=requests)
    _warm_up(running, target, customers=len(tollgate.keys))
    with psycopg.connect(tollgate.database_url(), autocommit=True) as connection:
        watch = Watch(tollgate, connection)
        measured = running.loader.calls([target], lane.shape, read=watch.read)
    result = measured.result["targets"][0]
    completed = int(result["completed"])
    scaled = Scaled(
        workers=tollgate.bench.workers,
        organizations=len(tollgate.keys),
        calls_per_second=completed / seconds,
        records_per_second=watch.records / watch.seconds,
        lag_seconds=watch.lag_seconds,
        cpu_us={part: cpu * MICRO / completed for part, cpu in measured.grown.items()},
        latency_us=result["latency_us"],
        failed=int(result["errors"]) + int(result["unexpected"]),
    )
    say(
        f"  {scaled.workers} workers, {scaled.organizations} organizations:"
        f" {scaled.calls_per_second:,.0f} calls/s, {scaled.records_per_second:,.0f} records/s,"
        f" lag {scaled.lag_seconds:.2f} s, {scaled.cpu_us[RELAY]:.1f} µs"
    )
    return scaled


def _warm_up(running: Stage, target: Target, *, customers: int) -> None:
    """Until each of the customers has called some times, and so has its key, terms and lease."""
    shape, called = chat_lane(seconds=3).shape, 0
    for _ in range(MOST_WARM_UPS):
        measured = running.loader.calls([target], shape, read=dict)
        called += int(measured.result["targets"][0]["completed"])
        if called > CALLS_BEFORE * customers:
            return


class Watch:
    """Reads the relay's CPU time, and at the end what has reached the database since the begin."""

    def __init__(self, tollgate: Tollgate, connection: psycopg.Connection) -> None:
        self.records = 0
        self.seconds = 0.0
        self.lag_seconds = 0.0
        self._tollgate = tollgate
        self._connection = connection
        self._newest: UUID | None = None
        self._begin_at = 0.0

    def read(self) -> Mapping[str, float]:
        cpu = self._tollgate.cpu()
        newest, now = self._ask_newest(), time.time()
        if self._newest is None:
            self._newest, self._begin_at = newest, now
            return cpu
        self.seconds = now - self._begin_at
        self.lag_seconds = now - uuid7_seconds(newest)
        row = self._connection.execute(_SINCE, [self._newest]).fetchone()
        assert row is not None
        self.records = row[0] - 1
        return cpu

    def _ask_newest(self) -> UUID:
        row = self._connection.execute(_NEWEST).fetchone()
        if row is None:
            raise RuntimeError("Nothing was recorded, so nothing was billed.")
        newest: UUID = row[0]
        return newest


def uuid7_seconds(value: UUID) -> float:
    """When it was made, in Unix time."""
    return (value.int >> 80) / 1000
