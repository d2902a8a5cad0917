"""The files of the database: made once, completely or not at all.

Note [The working directory is the data directory]
As root, the server runs as a user that can pass neither DATA_DIR (0700, root's) nor perhaps the
folders above it, and nothing of that may be opened for it. So a child enters the data directory
while it is still root, becomes the server's user, and from then on calls the directory
`/proc/self/cwd`: that link leads straight to it, no folder above is looked at. The server, its
children and initdb all keep this working directory. It also makes the name short, however long
DATA_DIR is, so that the server can put its socket into the data directory.
"""

import os
import shutil
import subprocess
from pathlib import Path

from gateway.data_directory import DataDirectory
from gateway.postgres.account import Account, creator_account, give
from gateway.postgres.binaries import find_programs
from gateway.postgres.errors import PostgresUnavailable
from gateway.postgres.processes import cluster_name

# See Note [The working directory is the data directory].
HERE = "/proc/self/cwd"
SUPERUSER = "postgres"
PORT = 5432

_INITDB_SECONDS = 120
_NEW_PREFIX = "data.new-"
_LOG_LIMIT_BYTES = 4 * 1024 * 1024
# Locale and time zone come from here alone, so an install sorts and dates the same everywhere.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_directories": f"{HERE}/socket",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "logging_collector": "off",
}


class Cluster:
    """The data directory, its log and the commands that work on them."""

    def __init__(self, data_directory: DataDirectory) -> None:
        self._data_directory = data_directory
        self.folder = data_directory.postgres
        self.data = self.folder / "data"
        self.socket_folder = self.data / "socket"
        self.socket = self.socket_folder / f".s.PGSQL.{PORT}"
        self.log = self.folder / "server.log"

    @property
    def exists(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def reports_ready(self) -> bool:
        """What the server's main process has written about itself, if it lives."""
        try:
            return (self.data / "postmaster.pid").read_text("ascii").rstrip().endswith("\nready")
        except OSError:
            return False

    def create(self, account: Account, *, password: str, lock_descriptor: int) -> None:
        """Run initdb beside the final name and rename: what has that name is complete.

        The lock's descriptor is inherited, so that an orphaned initdb is seen to be running.
        """
        self._remove_unfinished()
        creator = creator_account(account)
        new = self.folder / f"{_NEW_PREFIX}{os.getpid()}"
        new.mkdir(mode=0o700)
        if creator.switch:
            give(new, creator)
        self._initdb(new, creator, password=password, lock_descriptor=lock_descriptor)
        if creator != account:
            give(new, account)
        new.rename(self.data)
        _sync(self.folder)

    def make_ready(self, account: Account) -> None:
        """Clear what a dead server left. Only for who knows that none runs: the lock's holder."""
        owner = self.data.stat().st_uid
        if owner != account.uid:
            if not account.switch:
                raise PostgresUnavailable(f"{self.data} belongs to user id {owner}")
            # The user got another number: a reinstalled machine, or a volume in another image.
            give(self.data, account)
        # Their pid may be another process's by now, and PostgreSQL would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if os.path.lexists(self.socket_folder):
            shutil.rmtree(self.socket_folder)
        self.socket_folder.mkdir(mode=0o700)
        if account.switch:
            give(self.socket_folder, account)

    def spawn(self, account: Account, *, lock_descriptor: int) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own, where no Ctrl-C of ours reaches it."""
        settings = {**_SETTINGS, "cluster_name": cluster_name(self.data)}
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own program and constants.
                [find_programs(account) / "postgres", "-D", HERE, *_options(settings)],
                cwd=self.data,
                env=_ENVIRONMENT,
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock_descriptor,),
                start_new_session=True,
                **account.process_options,
            )

    def limit_log(self) -> int:
        """Keep the log private and small, with one older part beside it; returns its length."""
        descriptor = os.open(self.log, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            length = os.fstat(descriptor).st_size
            if length <= _LOG_LIMIT_BYTES:
                return length
            newest = os.pread(descriptor, _LOG_LIMIT_BYTES, length - _LOG_LIMIT_BYTES)
            self._data_directory.write_private(self.folder / "server.log.1", newest)
            # A running server appends to this open file, so it is emptied and not renamed.
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
        return 0

    def last_words(self, log_offset: int) -> str:
        """Why the server gave up, in its own words."""
        with self.log.open("rb") as log:
            log.seek(log_offset)
            return _reason(log.read().decode("utf-8", "replace"))

    def _initdb(self, new: Path, creator: Account, *, password: str, lock_descriptor: int) -> None:
        # An anonymous file: no other process can open it, and no crash leaves it on the disk.
        password_descriptor = os.memfd_create("initdb-password")
        try:
            os.write(password_descriptor, f"{password}\n".encode())
            done = subprocess.run(  # noqa: S603 - our own program.
                [
                    find_programs(creator) / "initdb",
                    f"--pgdata={HERE}",
                    f"--username={SUPERUSER}",
                    f"--pwfile=/proc/self/fd/{password_descriptor}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--data-checksums",
                    "--no-instructions",
                ],
                cwd=new,
                env=_ENVIRONMENT,
                umask=0o077,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(password_descriptor, lock_descriptor),
                start_new_session=True,
                timeout=_INITDB_SECONDS,
                check=False,
                **creator.process_options,
            )
        except subprocess.TimeoutExpired as error:
            raise PostgresUnavailable(
                f"initdb did not finish within {_INITDB_SECONDS} seconds"
            ) from error
        finally:
            os.close(password_descriptor)
        if done.returncode != 0:
            reason = _reason(done.stderr.decode("utf-8", "replace"))
            raise PostgresUnavailable(f"the database could not be created: {reason}")

    def _remove_unfinished(self) -> None:
        for unfinished in self.folder.glob(f"{_NEW_PREFIX}*"):
            shutil.rmtree(unfinished)
        if self.data.exists():
            raise PostgresUnavailable(
                f"{self.data} is no PostgreSQL data directory: move it away or restore it"
            )


def _options(settings: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:"))]
    return (fatal or lines or ["it said nothing"])[-1].strip()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
