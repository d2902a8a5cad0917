"""What the tests of the embedded PostgreSQL ask of servers and their files."""

import stat
import time
from contextlib import closing
from pathlib import Path

import psycopg

from gateway.data_directory import DataDirectory
from gateway.file_lock import FileLock
from gateway.postgres import EmbeddedPostgres, processes, running_server

# A program that starts a server as a supervisor does.
START = """
embedded = EmbeddedPostgres(DataDirectory(sys.argv[1]))
embedded.start()
print(embedded.pid, flush=True)
"""


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def ask_superuser(embedded: EmbeddedPostgres, query: str) -> list[tuple[object, ...]]:
    with closing(embedded._access.connect_as_superuser()) as connection:
        return connection.execute(query.encode()).fetchall()


def server_processes(directory: DataDirectory) -> list[int]:
    name = processes.cluster_name(directory.postgres / "data")
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if processes._serves(pid, name)]


def is_gone(directory: DataDirectory) -> bool:
    """Whether soon no process of the server lives."""
    deadline = time.monotonic() + 5
    while server_processes(directory) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not server_processes(directory) and running_server(directory) is None


def modes(folder: Path) -> dict[str, set[int]]:
    """The permissions in use below a folder, by kind of file."""
    found: dict[str, set[int]] = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat().st_mode
        kind = {stat.S_IFDIR: "folder", stat.S_IFREG: "file"}.get(stat.S_IFMT(status), "other")
        found.setdefault(kind, set()).add(stat.S_IMODE(status))
    return found


def clean_up(directory: DataDirectory) -> None:
    """Whatever a test has left: no server may outlive it."""
    if (directory.postgres / "data").exists():
        lock = FileLock(directory.postgres / "server.lock")
        assert processes.stop_server(directory.postgres / "data", lock)
