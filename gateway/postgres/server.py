"""Bringing the server of one data directory up and down. Its caller holds the start lock."""

import time
from collections.abc import Callable

import psycopg

from gateway.data_directory import DataDirectory
from gateway.file_lock import FileLock
from gateway.postgres.access import Access
from gateway.postgres.account import server_account
from gateway.postgres.cluster import Cluster
from gateway.postgres.errors import PostgresUnavailable
from gateway.postgres.processes import (
    keep_child,
    kill_remains,
    postmaster_pid,
    reap_child,
    stop_server,
)

RECOVERY_SECONDS = 120.0

# A server whose main process died ends by itself, unless it is deep in a query.
_REMAINS_SECONDS = 5.0
_INITDB_SECONDS = 120.0
_POLL_SECONDS = 0.02
_OPERATOR_INTERVENTION = "57"  # This class of SQLSTATE says: shutting down, starting up.

Progress = Callable[[str], None]


class _StillRecoveringError(PostgresUnavailable):
    """The server is alive and may be ready later, so it is left alone."""


class Server:
    """The server and its lock, which it hands down to all its processes.

    So the lock tells whether any of them lives, even where no pid can be trusted: after a reboot,
    in another container.
    """

    def __init__(self, data_directory: DataDirectory, cluster: Cluster, access: Access) -> None:
        self._secrets_file = data_directory.secrets_file
        self._lock_path = data_directory.postgres / "server.lock"
        self._cluster = cluster
        self._access = access

    @property
    def pid(self) -> int | None:
        return postmaster_pid(self._cluster.data)

    def ensure_running(
        self, progress: Progress, *, may_replace: bool, before_launch: Callable[[], None]
    ) -> None:
        """Adopt what runs, wait for what starts, clear what is dead, start what is missing.

        `may_replace` allows to end a living server that cannot be reached any more.
        """
        lock = FileLock(self._lock_path)
        patience = _REMAINS_SECONDS if self._cluster.exists else _INITDB_SECONDS
        deadline = time.monotonic() + patience
        while not lock.acquire(timeout_seconds=_POLL_SECONDS):
            if self.pid is not None:
                if self._await_ready(progress):
                    return
                if self._lost_socket():
                    self._end_deaf(may_replace=may_replace)
            elif time.monotonic() > deadline:
                self._clear_remains()
        try:
            log_offset = self._launch(lock, progress, before_launch)
        finally:
            lock.release()
        self._await_launched(progress, log_offset)

    def end(self) -> None:
        if not stop_server(self._cluster.data, self._lock()):
            raise PostgresUnavailable(f"PostgreSQL, process {self.pid}, cannot be stopped")
        self._access.remove_address()

    def _lock(self) -> FileLock:
        return FileLock(self._lock_path)

    def _launch(self, lock: FileLock, progress: Progress, before_launch: Callable[[], None]) -> int:
        """Start a server where surely none runs; returns where its part of the log begins."""
        cluster = self._cluster
        account = server_account()
        if not cluster.exists:
            progress("Creating the database")
            password = self._access.superuser_password
            cluster.create(account, password=password, lock_descriptor=lock.descriptor)
        progress("Starting PostgreSQL")
        cluster.make_ready(account)
        log_offset = cluster.limit_log()
        before_launch()
        keep_child(cluster.data, cluster.spawn(account, lock_descriptor=lock.descriptor))
        return log_offset

    def _await_launched(self, progress: Progress, log_offset: int) -> None:
        try:
            ready = self._await_ready(progress)
        except _StillRecoveringError:
            raise
        except BaseException:
            # Interrupted, or not usable: nobody would know of it.
            self.end()
            raise
        if not ready:
            self._access.remove_address()
            reason = self._cluster.last_words(log_offset)
            raise PostgresUnavailable(
                f"PostgreSQL did not start: {reason} (see {self._cluster.log})"
            )

    def _await_ready(self, progress: Progress) -> bool:
        """Wait until the server answers and has our database; False if it ended or went deaf."""
        self._access.ensure_address()
        begin = time.monotonic()
        announced = 0
        while True:
            try:
                with self._access.connect_as_superuser() as connection:
                    self._access.ensure_database(connection)
            except psycopg.Error as error:
                self._refuse_lasting(error)
            else:
                return True
            if self._lock().is_free():
                reap_child(self._cluster.data)
                return False
            if self._lost_socket():
                return False
            waited = time.monotonic() - begin
            if waited > RECOVERY_SECONDS:
                raise _StillRecoveringError(
                    f"PostgreSQL is not ready after {RECOVERY_SECONDS:.0f} seconds; it goes on "
                    f"recovering as process {self.pid}: try again later (see {self._cluster.log})"
                )
            if int(waited) > announced:
                announced = int(waited)
                progress(f"PostgreSQL is recovering ({announced} s)")
            time.sleep(_POLL_SECONDS)

    def _refuse_lasting(self, error: psycopg.Error) -> None:
        """Raise what waiting does not cure. A refused connection has no SQLSTATE, only words."""
        if "password authentication failed" in str(error):
            raise PostgresUnavailable(
                f"the database in {self._cluster.data} was made with other secrets than those "
                f"in {self._secrets_file}"
            ) from error
        if error.sqlstate and not error.sqlstate.startswith(_OPERATOR_INTERVENTION):
            raise PostgresUnavailable(f"PostgreSQL cannot be used: {error}") from error

    def _lost_socket(self) -> bool:
        """Whether a server that is ready cannot be reached, because its socket was deleted."""
        return self._cluster.reports_ready() and not self._cluster.socket.exists()

    def _end_deaf(self, *, may_replace: bool) -> None:
        if not may_replace:
            raise PostgresUnavailable(
                f"PostgreSQL runs as process {self.pid}, but its socket "
                f"{self._cluster.socket} is gone: restart Tollgate"
            )
        self.end()

    def _clear_remains(self) -> None:
        cluster = self._cluster
        if not cluster.exists or not kill_remains(cluster.data, self._lock()):
            raise PostgresUnavailable(
                f"{cluster.folder} is in use by processes that cannot be seen from here, "
                f"perhaps in another container"
            )
