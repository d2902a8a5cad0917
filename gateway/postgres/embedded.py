"""Who uses the embedded server, and who ends it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import psycopg

from gateway.data_directory import DataDirectory, DataDirectoryError
from gateway.file_lock import FileLock
from gateway.postgres.access import Access
from gateway.postgres.cluster import Cluster
from gateway.postgres.errors import PostgresUnavailable
from gateway.postgres.processes import postmaster_pid
from gateway.postgres.server import Progress, Server

# Longer than a recovery, which another process may be waiting for.
_TRANSITION_SECONDS = 180.0
_SUPERVISOR = b"supervisor"
_COMMAND = b"command"


class EmbeddedPostgres:
    """A PostgreSQL in the data directory, for a supervisor (`start`, `stop`) or for a command.

    `start.lock` is held while the server is started, adopted or stopped: one process at a time.
    `users.lock` is held, shared, by everybody who relies on it; who gets it exclusively is the
    last one. It is only taken under the start lock. The kernel gives both back when a holder dies.

    The methods raise PostgresUnavailable, or DataDirectoryError, with one sentence.
    """

    def __init__(self, data_directory: DataDirectory) -> None:
        self._data_directory = data_directory
        self._cluster = Cluster(data_directory)
        self._start_lock = data_directory.postgres / "start.lock"
        self._users_lock = data_directory.postgres / "users.lock"
        # Who started it decides who may stop it: a supervisor's server outlives commands.
        self._starter_file = data_directory.postgres / "started-by"
        self._use = FileLock(self._users_lock)

    @property
    def database_url(self) -> str:
        return self._access.database_url

    @property
    def pid(self) -> int | None:
        return postmaster_pid(self._cluster.data)

    def start(self, *, progress: Progress | None = None) -> None:
        """Start the server, or adopt the one that an earlier supervisor or a command left.

        Can be called again at any time, to bring back a server that has died.
        """
        with self._transition():
            self._server.ensure_running(
                progress or _silent,
                may_replace=True,
                before_launch=lambda: self._note_starter(_SUPERVISOR),
            )
            self._note_starter(_SUPERVISOR)
            self._rely(self._use)

    def stop(self) -> None:
        """Stop what `start` started or adopted; a command that still uses it will do it instead."""
        if not self._use.held:
            return
        with self._transition():
            try:
                if self._use.acquire():
                    self._server.end()
                else:
                    self._note_starter(_COMMAND)
            finally:
                self._use.release()

    @contextmanager
    def for_command(self) -> Iterator[str]:
        """The URL of the running server, or of one that runs until its last user has left."""
        use = FileLock(self._users_lock)
        with self._transition():
            self._server.ensure_running(
                _silent, may_replace=False, before_launch=lambda: self._note_starter(_COMMAND)
            )
            self._rely(use)
        try:
            yield self.database_url
        finally:
            with self._transition():
                try:
                    if use.acquire() and self._starter() == _COMMAND:
                        self._server.end()
                finally:
                    use.release()

    def maintain(self) -> None:
        """To be called now and then: keeps the log small and a short address in place."""
        self._cluster.limit_log()
        self._access.ensure_address()

    @cached_property
    def _access(self) -> Access:
        self._data_directory.prepare()
        return Access(self._data_directory, self._cluster)

    @cached_property
    def _server(self) -> Server:
        return Server(self._data_directory, self._cluster, self._access)

    @contextmanager
    def _transition(self) -> Iterator[None]:
        self._data_directory.prepare()
        lock = FileLock(self._start_lock)
        try:
            if not lock.acquire(timeout_seconds=_TRANSITION_SECONDS):
                raise PostgresUnavailable(
                    f"another process has been starting or stopping PostgreSQL in "
                    f"{self._cluster.folder} for more than {_TRANSITION_SECONDS:.0f} seconds"
                )
            yield
        except OSError as error:
            raise PostgresUnavailable(f"PostgreSQL cannot be run: {error}") from error
        finally:
            lock.release()

    def _rely(self, use: FileLock) -> None:
        relied = use.acquire(shared=True)
        assert relied, "whoever excludes other users holds the start lock, and we hold it"

    def _starter(self) -> bytes:
        return self._starter_file.read_bytes() if self._starter_file.exists() else b""

    def _note_starter(self, starter: bytes) -> None:
        if self._starter() != starter:
            self._data_directory.write_private(self._starter_file, starter)


def running_server(data_directory: DataDirectory) -> int | None:
    """The pid of the server in this data directory, if it lives and knows our password."""
    cluster = Cluster(data_directory)
    pid = postmaster_pid(cluster.data)
    if pid is None or not data_directory.secrets_file.exists():
        return None
    try:
        Access(data_directory, cluster).connect_as_superuser().close()
    except (psycopg.OperationalError, DataDirectoryError):
        return None
    return pid


def _silent(_message: str) -> None:
    """Commands do not report how the database comes up."""
