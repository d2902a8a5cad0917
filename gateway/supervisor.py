"""The process tree of `make run`: PostgreSQL, workers, the simulated upstream, jobs.

Note [The supervisor stays small]
It forks the workers, so it must have no thread and no database connection of its own: what needs
the database runs in a child. It has loaded the whole application before it forks, so a new worker
needs no imports and shares its memory with the others.
"""

import gc
import logging
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from django.conf import settings
from django.urls import get_resolver

from gateway.banner import Banner
from gateway.crew import Crew, Post, Role
from gateway.data_directory import DataDirectory
from gateway.env import env_str
from gateway.ports import PortTaken, bind_listener
from gateway.postgres import EmbeddedPostgres, PostgresUnavailable
from gateway.preparation import Prepared, prepare_in_child
from gateway.quickstart import API_PATH, Quickstart, base_url
from gateway.signals import Signals, StopRequested
from gateway.state import State, state_remove
from gateway.upstreams import Upstream
from gateway.worker import simulator_run, worker_run

LOOPBACK = "127.0.0.1"
# How often the embedded PostgreSQL is looked after.
TICK_SECONDS = 1.0
UPKEEP_SECONDS = 60.0
# A worker that has not begun to serve after so many attempts never will.
START_ATTEMPTS = 3
NOTICE_SECONDS = 10.0
# Beyond the drain: for shipping what is owed and closing connections.
STOP_MARGIN_SECONDS = 20.0
# The workers of a killed supervisor give the port back at once, then drain.
ORPHAN_SECONDS = 5.0
MOST_DESCRIPTORS = 1_048_576

logger = logging.getLogger(__name__)


class UnableToStart(Exception):
    """The gateway cannot start."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run; everything else is in the settings."""

    directory: DataDirectory
    postgres: EmbeddedPostgres | None
    with_jobs: bool


class Supervisor:
    """Starts everything in order, replaces what dies, stops everything in the opposite order."""

    def __init__(self, plan: Plan) -> None:
        self._directory = plan.directory
        self._postgres = plan.postgres
        self._with_jobs = plan.with_jobs
        self._signals = Signals()
        self._crew = Crew(self._signals)
        self._workers: list[Post] = []
        self._listeners: list[socket.socket] = []
        self._ready = False
        self._upkeep_at = 0.0

    def run(self) -> None:
        """Return when a signal has asked for it and everything has stopped.

        Raises DataDirectoryError, AlreadyRunning, UnableToListen, PostgresUnavailable,
        UnableToPrepare, UnableToStart.
        """
        self._directory.prepare()
        with self._directory.acquire_supervisor_lock(), self._signals:
            try:
                self._start()
                while True:
                    self._signals.check()
                    self._tick()
            except StopRequested:
                say("")
            finally:
                self._stop()

    def _start(self) -> None:
        _allow_descriptors()
        listener = self._listen()
        if self._postgres is not None:
            self._postgres.start(progress=self._progress)
        self._signals.check()
        simulator = self._simulator_listener()
        prepared = prepare_in_child(
            simulator_url=_url(simulator),
            progress=say_step,
            signals=self._signals,
            meanwhile=_load_application,
        )
        if simulator is not None and prepared.upstream is Upstream.SIMULATED:
            say_step("Starting the simulated upstream")
            self._add("simulator", lambda _: simulator_run(simulator), keep=simulator)
        self._start_workers(listener)
        if self._with_jobs:
            self._add("jobs", lambda _: _jobs())
        self._ready = True
        self._note_state()
        say(self._banner(prepared).text())

    def _start_workers(self, listener: socket.socket) -> None:
        number = settings.WORKERS
        say_step(f"Starting {number} worker{'s' if number > 1 else ''}")
        for position in range(1, number + 1):
            body = _worker_body(listener)
            self._workers.append(self._add(f"worker {position}", body, keep=listener))
        notice_at = time.monotonic() + NOTICE_SECONDS
        while not all(post.ready for post in self._workers):
            self._signals.check()
            self._tick()
            if any(post.failures >= START_ATTEMPTS for post in self._workers):
                raise UnableToStart("A worker cannot start; what is above says why.")
            if time.monotonic() > notice_at:
                notice_at += NOTICE_SECONDS
                say_step(f"Still waiting for the workers; {settings.PUBLIC_URL}/readyz says why")

    def _tick(self) -> None:
        if self._crew.watch(timeout_seconds=TICK_SECONDS):
            self._note_state()
        if self._postgres is None:
            return
        try:
            if self._postgres.pid is None:
                logger.error("PostgreSQL has died and is started again.")
                self._postgres.start(progress=self._progress)
            if time.monotonic() > self._upkeep_at:
                self._upkeep_at = time.monotonic() + UPKEEP_SECONDS
                self._postgres.maintain()
        except PostgresUnavailable:
            logger.exception("PostgreSQL cannot be kept running.")

    def _stop(self) -> None:
        if self._signals.stop_requested and self._ready:
            say_step(f"Stopping: running calls get {settings.DRAIN_SECONDS:g} s (Ctrl-C: no more)")
        for listener in self._listeners:
            listener.close()
        patience = settings.DRAIN_SECONDS + STOP_MARGIN_SECONDS
        simulators = [post for post in self._crew.posts if post.role.name == "simulator"]
        callers = [post for post in self._crew.posts if post not in simulators]
        # The simulator goes when nobody calls it any more, the database when nothing is to ship.
        self._crew.dismiss(callers, patience_seconds=patience)
        self._crew.dismiss(simulators, patience_seconds=STOP_MARGIN_SECONDS)
        if self._postgres is not None:
            self._postgres.stop()
        state_remove(self._directory)
        if self._ready:
            say_step("Stopped")

    def _listen(self) -> socket.socket:
        before = State.read(self._directory)
        orphans = before.family() if before is not None else set()
        deadline = time.monotonic() + ORPHAN_SECONDS
        while True:
            try:
                listener = bind_listener(settings.HOST, settings.PORT)
            except PortTaken as taken:
                if taken.pid not in orphans or time.monotonic() > deadline:
                    raise
                self._signals.wait([], timeout_seconds=0.1)
                self._signals.check()
            else:
                self._listeners.append(listener)
                return listener

    def _simulator_listener(self) -> socket.socket | None:
        """A port for the simulator, should it be needed: never with somebody's own database."""
        if self._postgres is None or env_str("OPENAI_API_KEY"):
            return None
        listener = bind_listener(LOOPBACK, 0)
        self._listeners.append(listener)
        return listener

    def _add(
        self, name: str, body: Callable[[int], None], *, keep: socket.socket | None = None
    ) -> Post:
        descriptors = () if keep is None else (keep.fileno(),)
        return self._crew.add(Role(name=name, body=body, keep=descriptors))

    def _note_state(self) -> None:
        pids = {post.role.name: post.pid for post in self._crew.posts if post.pid is not None}
        workers = tuple(post.pid for post in self._workers if post.pid is not None)
        names = {post.role.name for post in self._workers}
        State.of_this_process(
            base_url=base_url(),
            ready=self._ready,
            workers=workers,
            others={name: pid for name, pid in pids.items() if name not in names},
        ).write(self._directory)

    def _progress(self, step: str) -> None:
        self._signals.check()
        say_step(step)

    def _banner(self, prepared: Prepared) -> Banner:
        known = Quickstart.read(self._directory) if prepared.has_quickstart else None
        return Banner(
            prepared=prepared,
            quickstart=known,
            base_url=base_url(),
            quickstart_file=self._directory.quickstart_file,
            show_secrets=not settings.PRODUCTION,
        )


def say(text: str) -> None:
    # The terminal may have been closed; that must not keep us from stopping in order.
    with suppress(OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def say_step(step: str) -> None:
    say(f"- {step}")


def _worker_body(listener: socket.socket) -> Callable[[int], None]:
    return lambda ready: worker_run(listener, ready_descriptor=ready)


def _jobs() -> None:
    # Only this process pays for importing Celery.
    from gateway.celery import jobs_run

    jobs_run()


def _load_application() -> None:
    """See Note [The supervisor stays small]."""
    from gateway import asgi

    assert asgi.application is not None
    get_resolver().url_patterns  # noqa: B018 - this imports the pages.
    gc.collect()
    # Collections in the workers then leave these objects, and the pages they share, alone.
    gc.freeze()


def _allow_descriptors() -> None:
    """Each call takes two connections; the usual limit of 1,024 descriptors is for other work."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _url(simulator: socket.socket | None) -> str | None:
    if simulator is None:
        return None
    return f"http://{LOOPBACK}:{simulator.getsockname()[1]}{API_PATH}"
