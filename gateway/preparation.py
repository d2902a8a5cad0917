"""What the database needs before workers start: tables, prices, and on the first run a key.

It runs in a child process, so that the supervisor, which forks workers, never holds a connection
or a thread.
"""

import datetime as dt
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from accounts.errors import Refused
from billing.prices.book_loading import price_book_load
from billing.usage.partitions import partitions_create
from gateway.checks import refuse_simulator_in_production
from gateway.processes import fork_child, send_signal
from gateway.quickstart import SYSTEM, quickstart_prepare
from gateway.signals import Signals
from gateway.upstreams import Upstream, upstream_prepare

OLDEST_POSTGRES = 15

# Any number; it must only be the same on all nodes that share a database.
_LOCK = 8_264_537_110_929_441
_FOREVER_SECONDS = 3600.0
_CONNECT_SECONDS = 5
# What a pipe takes at once, so that the child never waits for its reader.
_LONGEST_REPORT = 4096
_LONGEST_REFUSAL = 2000

Progress = Callable[[str], None]


class UnableToPrepare(Exception):
    """The database cannot be used as it is."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the supervisor and its banner have to know."""

    upstream: Upstream
    first_run: bool
    has_quickstart: bool


def database_prepare(*, simulator_url: str | None, progress: Progress) -> Prepared:
    """Bring the database up to this version of the product and this node's environment.

    Raises what the services refuse, and ImproperlyConfigured for the simulator in production.
    """
    now = timezone.now()
    _refuse_old_server()
    with _one_node_at_a_time():
        _migrate(progress)
        with transaction.atomic():
            partitions_create(today=now.date())
        _load_prices(progress, now=now)
        upstream = upstream_prepare(simulator_url=simulator_url, actor=SYSTEM)
        refuse_simulator_in_production()
        first_run = quickstart_prepare(progress=progress, now=now)
    connection.close()
    return Prepared(
        upstream=upstream, first_run=first_run is True, has_quickstart=first_run is not None
    )


def _refuse_old_server() -> None:
    # Not through Django's pool, which would try for long and then not say what is wrong.
    with psycopg.connect(settings.DATABASE_URL, connect_timeout=_CONNECT_SECONDS) as server:
        major = server.info.server_version // 10_000
    if major < OLDEST_POSTGRES:
        raise ImproperlyConfigured(
            f"PostgreSQL {OLDEST_POSTGRES} or newer is needed; DATABASE_URL leads to {major}."
        )


@contextmanager
def _one_node_at_a_time() -> Iterator[None]:
    """The lock belongs to this connection and goes with it, however this process ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def _migrate(progress: Progress) -> None:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        progress(f"Migrating the database ({len(plan)} steps)")
        call_command("migrate", interactive=False, verbosity=0)


def _load_prices(progress: Progress, *, now: dt.datetime) -> None:
    changes = price_book_load(actor=SYSTEM, now=now)
    if changes.added or changes.changed:
        progress(f"Prices: {len(changes.added)} models added, {len(changes.changed)} changed")


def prepare_in_child(
    *,
    simulator_url: str | None,
    progress: Progress,
    signals: Signals,
    meanwhile: Callable[[], None],
) -> Prepared:
    """`database_prepare`, away from the caller's process, which has something to do meanwhile.

    Raises UnableToPrepare with what was refused, and StopRequested.
    """
    reader, writer = os.pipe()
    body = partial(_prepare_and_report, writer, simulator_url=simulator_url, progress=progress)
    pid = fork_child(body, keep=[writer])
    os.close(writer)
    try:
        meanwhile()
        while not signals.wait([reader], timeout_seconds=_FOREVER_SECONDS):
            if signals.stop_requested:
                send_signal(pid, signal.SIGTERM)
        report = os.read(reader, _LONGEST_REPORT)
    finally:
        # Without a reader it cannot report, and ends.
        os.close(reader)
        os.waitpid(pid, 0)
    signals.check()
    if not report:
        raise UnableToPrepare("The database could not be prepared; what is above says why.")
    answer = json.loads(report)
    if "refused" in answer:
        raise UnableToPrepare(answer["refused"])
    return Prepared(**{**answer, "upstream": Upstream(answer["upstream"])})


def _prepare_and_report(writer: int, *, simulator_url: str | None, progress: Progress) -> None:
    try:
        report = asdict(database_prepare(simulator_url=simulator_url, progress=progress))
    except (Refused, ImproperlyConfigured) as refusal:
        report = {"refused": str(refusal)[:_LONGEST_REFUSAL]}
    except (OperationalError, psycopg.OperationalError) as error:
        report = {"refused": f"The database cannot be used: {error}".strip()[:_LONGEST_REFUSAL]}
    os.write(writer, json.dumps(report).encode())
