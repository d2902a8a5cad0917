"""Advisory locks that the kernel gives back by itself when their holder dies, however it dies."""

import fcntl
import os
import time
from pathlib import Path

_POLL_SECONDS = 0.02


class ForeignLockFileError(PermissionError):
    """The lock file belongs to somebody else, who could hold us up or watch us."""


class FileLock:
    """A flock on a file of its own.

    The lock belongs to the open file, so whoever inherits the descriptor keeps it alive; Python
    opens descriptors close-on-exec, so that only happens where `pass_fds` asks for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    @property
    def descriptor(self) -> int:
        assert self._descriptor is not None, "only a held lock has a descriptor"
        return self._descriptor

    def acquire(self, *, shared: bool = False, timeout_seconds: float = 0.0) -> bool:
        """Take the lock, or turn a held one from exclusive to shared or back; False if too late.

        A failed attempt leaves nothing held: flock drops the old lock before it asks for the new.
        """
        if self._descriptor is None:
            self._descriptor = self._open()
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(self._descriptor, operation)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.release()
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                return True

    def release(self) -> None:
        """Close our descriptor; an inherited copy elsewhere keeps the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_free(self) -> bool:
        """Whether nobody holds the lock. Asking takes it for a moment."""
        assert self._descriptor is None, "a holder need not ask"
        free = self.acquire()
        self.release()
        return free

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if os.fstat(descriptor).st_uid != os.geteuid():
            os.close(descriptor)
            raise ForeignLockFileError(f"{self.path} belongs to another user")
        return descriptor
