"""Which processes serve a data directory, and how they are ended."""

import os
import signal
import subprocess
from pathlib import Path

from gateway.file_lock import FileLock

_FAST_SECONDS = 30.0
_IMMEDIATE_SECONDS = 10.0
_KILL_SECONDS = 5.0

# What this process started and therefore has to reap. It outlives any one EmbeddedPostgres,
# because a server may be left to another process that came to rely on it.
_children: dict[Path, subprocess.Popen[bytes]] = {}


def cluster_name(data: Path) -> str:
    """A name that every process of the server shows in its command line.

    It follows the directory, not its path. (The links in /proc would tell as well, but in a
    container root may not read those of another user's processes.)
    """
    status = data.stat()
    return f"tollgate-{status.st_dev:x}-{status.st_ino:x}"


def keep_child(data: Path, process: subprocess.Popen[bytes]) -> None:
    reap_child(data)
    _children[data] = process


def reap_child(data: Path) -> None:
    """Take leave of a server that this process started, once its lock is free."""
    process = _children.pop(data, None)
    if process is not None:
        process.wait()


def postmaster_pid(data: Path) -> int | None:
    """The pid of the living main process, whatever an old postmaster.pid may say."""
    try:
        pid = int((data / "postmaster.pid").read_text("ascii").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if _serves(pid, cluster_name(data)) else None


def stop_server(data: Path, server_lock: FileLock) -> bool:
    """End the server: cleanly, else at once (it recovers at the next start). True if it is gone."""
    for number, seconds in (
        (signal.SIGINT, _FAST_SECONDS),
        (signal.SIGQUIT, _IMMEDIATE_SECONDS),
    ):
        pid = postmaster_pid(data)
        if pid is None:
            break
        _signal(pid, number)
        if _wait_until_gone(data, server_lock, seconds):
            return True
    return kill_remains(data, server_lock)


def kill_remains(data: Path, server_lock: FileLock) -> bool:
    """End what is left when the main process is gone or deaf. True if nothing is left."""
    name = cluster_name(data)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _serves(int(entry.name), name):
            _signal(int(entry.name), signal.SIGKILL)
    return _wait_until_gone(data, server_lock, _KILL_SECONDS)


def _wait_until_gone(data: Path, server_lock: FileLock, seconds: float) -> bool:
    """The lock is free as soon as the last process of the server has ended."""
    gone = server_lock.acquire(timeout_seconds=seconds)
    server_lock.release()
    if gone:
        reap_child(data)
    return gone


def _serves(pid: int, name: str) -> bool:
    """Whether that pid is a process of this server; pids are used again by others."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    program = command.split(b"\0", 1)[0]
    ours = program.startswith(b"postgres:") or program.endswith(b"/postgres")
    return ours and name.encode() in command


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
