"""The folder that holds everything an install must not lose: database, journals, secrets."""

import fcntl
import json
import os
import secrets
import stat
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.file_lock import FileLock

DEFAULT_PATH = Path(__file__).resolve().parent.parent / "var"

_WRITABLE_BY_OTHERS = stat.S_IWOTH
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# Somebody who only asks for the supervisor's pid holds its lock for some microseconds.
_LOCK_PATIENCE_SECONDS = 0.3


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message is one sentence for the operator."""


class AlreadyRunning(Exception):
    """Another supervisor serves this data directory."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(
            f"Tollgate already runs here as process {pid}" if pid else "Tollgate already runs here"
        )
        self.pid = pid


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Random values made once for an install. None of them shows up in a repr."""

    secret_key: str = field(repr=False)
    key_pepper: str = field(repr=False)
    # A Fernet key; a comma would separate it from older ones.
    credential_keys: str = field(repr=False)
    postgres_password: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(
            secret_key=secrets.token_urlsafe(48),
            key_pepper=secrets.token_urlsafe(32),
            credential_keys=urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            postgres_password=secrets.token_urlsafe(32),
        )


class SupervisorLock:
    """Held by the one supervisor of a data directory; its file names the holder's pid."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock
        os.ftruncate(lock.descriptor, 0)
        os.pwrite(lock.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._lock.held:
            os.ftruncate(self._lock.descriptor, 0)
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class DataDirectory:
    """Where things are below DATA_DIR, and the rules for making and writing them."""

    def __init__(self, path: str | os.PathLike[str] = DEFAULT_PATH) -> None:
        self._given = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would hide a symlink.
        # Resolved once: a link that is changed later cannot move us to another folder.
        self.path = self._given.resolve()
        self.postgres = self.path / "postgres"
        self.journals = self.path / "journals"
        self.celery = self.path / "celery"
        self.quickstart_file = self.path / "quickstart.json"
        self.secrets_file = self.path / "secrets.json"
        self.supervisor_lock = self.path / "supervisor.lock"

    def prepare(self) -> None:
        """Make what is missing, with mode 0700; what exists keeps its mode or is refused.

        Raises DataDirectoryError where somebody else could read or exchange what we store.
        """
        with self._reporting():
            self._refuse_foreign_link()
            _make_folder(self.path)
            self._check_top()
            for folder in (self.postgres, self.journals, self.celery):
                _make_folder(folder)
                _check_folder(folder)

    def write_private(self, path: Path, content: bytes) -> None:
        """Replace a file at once and for good: readers and crashes see the old or the new one."""
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        _sync_folder(path.parent)

    def secrets(self) -> Secrets:
        """The secrets of this install, made on the first call and the same ever after.

        Raises DataDirectoryError when the file is damaged or readable by others: new secrets
        would lock out every key and credential that the old ones protect.
        """
        with self._reporting(), self._exclusive():
            if not os.path.lexists(self.secrets_file):
                content = json.dumps(asdict(Secrets.generate()), indent=2).encode() + b"\n"
                self.write_private(self.secrets_file, content)
            return self._read_secrets()

    def acquire_supervisor_lock(self) -> SupervisorLock:
        """Become the supervisor of this data directory. Raises AlreadyRunning."""
        lock = FileLock(self.supervisor_lock)
        with self._reporting():
            if not lock.acquire(timeout_seconds=_LOCK_PATIENCE_SECONDS):
                raise AlreadyRunning(self._noted_pid())
            return SupervisorLock(lock)

    def supervisor_pid(self) -> int | None:
        """The pid of the living supervisor, whatever an old file may say."""
        with self._reporting():
            if not self.supervisor_lock.exists() or FileLock(self.supervisor_lock).is_free():
                return None
            return self._noted_pid()

    def _noted_pid(self) -> int | None:
        content = self.supervisor_lock.read_text("ascii", "replace").strip()
        return int(content) if content.isdecimal() else None

    def _refuse_foreign_link(self) -> None:
        if not self._given.is_symlink():
            return
        if self._given.lstat().st_uid not in {0, os.geteuid()}:
            raise DataDirectoryError(
                f"the data directory {self._given} is a symbolic link made by another user"
            )

    def _check_top(self) -> None:
        status = self.path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise DataDirectoryError(f"the data directory {self.path} is not a directory")
        ours = status.st_uid == os.geteuid()
        if status.st_mode & _WRITABLE_BY_OTHERS and not ours:
            raise DataDirectoryError(
                f"the data directory {self.path} can be written by everyone and belongs to "
                f"user id {status.st_uid}: give Tollgate a directory of its own"
            )
        # Root may use any directory; anybody else must not trust one that a third user controls.
        if not ours and status.st_uid != 0 and os.geteuid() != 0:
            raise DataDirectoryError(
                f"the data directory {self.path} belongs to user id {status.st_uid}"
            )
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise DataDirectoryError(f"the data directory {self.path} is not writable")

    def _read_secrets(self) -> Secrets:
        descriptor = os.open(self.secrets_file, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & _OPEN_TO_OTHERS:
                raise DataDirectoryError(
                    f"{self.secrets_file} must belong to user id {os.geteuid()} and have mode 0600"
                )
            content = file.read()
        try:
            values = json.loads(content)
            return Secrets(**{item.name: _text(values[item.name]) for item in fields(Secrets)})
        except (ValueError, KeyError, TypeError) as error:
            raise DataDirectoryError(
                f"{self.secrets_file} is damaged: restore it from a backup"
            ) from error

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {self.path} cannot be used: {error}"
            ) from error

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """A lock on the folder itself, held only while the secrets are made or read."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _make_folder(path: Path) -> None:
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        # Somebody else may have been faster; what is there now is checked by the caller.
        with suppress(FileExistsError):
            missing.mkdir(mode=0o700)


def _check_folder(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise DataDirectoryError(f"{path} must be a directory and not a symbolic link")
    if status.st_uid != os.geteuid():
        raise DataDirectoryError(
            f"{path} belongs to user id {status.st_uid}: run Tollgate as the user that made it"
        )
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise DataDirectoryError(f"{path} can be written by everyone: take that right away")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a secret is a text that is not empty")
    return value


def _sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
