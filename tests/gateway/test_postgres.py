"""The embedded PostgreSQL: its settings, its files, and every way in which it may be found."""

import os
import shutil
import signal
import stat
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from gateway.data_directory import DataDirectory
from gateway.file_lock import FileLock
from gateway.postgres import (
    EmbeddedPostgres,
    PostgresUnavailable,
    access,
    account,
    processes,
    running_server,
    server,
)
from tests.gateway.children import NOBODY, Child, as_root
from tests.gateway.databases import START, ask, ask_superuser, is_gone, modes, server_processes


def wait_for(path: Path, pattern: str) -> None:
    deadline = time.monotonic() + 30
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, pattern
        time.sleep(0.001)


def test_the_first_start_makes_a_database_that_only_the_password_opens(
    fresh: DataDirectory,
) -> None:
    messages: list[str] = []
    embedded = EmbeddedPostgres(fresh)
    embedded.start(progress=messages.append)
    url = embedded.database_url

    assert messages == ["Creating the database", "Starting PostgreSQL"]
    assert running_server(fresh) == embedded.pid
    assert ask(url, "SELECT current_user, current_database()") == [("tollgate", "tollgate")]
    assert ask(url, "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'tollgate'") == [
        (False, True)
    ]
    assert ask(
        url,
        "SELECT pg_encoding_to_char(encoding), datlocprovider, datlocale, datcollate"
        " FROM pg_database WHERE datname = 'tollgate'",
    ) == [("UTF8", "b", "C.UTF-8", "C")]
    for wrong in (url.replace(urlsplit(url).password or "", "wrong"), url.replace("tollgate:", "")):
        with pytest.raises(psycopg.OperationalError, match=r"password|role"):
            ask(wrong, "SELECT 1")

    embedded.stop()
    assert is_gone(fresh)


def test_the_settings_are_those_of_a_gateway(directory: DataDirectory) -> None:
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    expected = {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "password_encryption": "scram-sha-256",
        "max_connections": "100",
        "TimeZone": "UTC",
    }
    names = ", ".join(f"'{name}'" for name in expected)
    found = ask(
        embedded.database_url, f"SELECT name, setting FROM pg_settings WHERE name IN ({names})"
    )
    methods = ask_superuser(embedded, "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    embedded.stop()

    assert dict(found) == expected  # type: ignore[arg-type]  # Rows of two.
    assert methods == [("scram-sha-256",)]


def test_everything_that_is_made_is_private(fresh: DataDirectory) -> None:
    before = os.umask(0)
    try:
        embedded = EmbeddedPostgres(fresh)
        embedded.start()
        while_it_runs = modes(fresh.path)
        socket_folder = fresh.postgres / "data" / "socket"
        socket_mode = stat.S_IMODE(next(socket_folder.glob(".s.PGSQL.????")).stat().st_mode)
        embedded.stop()
    finally:
        os.umask(before)

    assert while_it_runs == {"folder": {0o700}, "file": {0o600}, "other": {0o700}}
    assert socket_mode == 0o700
    if os.geteuid() == 0:
        entry = account._dedicated()
        assert entry is not None
        owners = {path.name: path.stat().st_uid for path in fresh.postgres.iterdir()}
        assert {name for name, uid in owners.items() if uid != 0} == {"data"}
        assert owners["data"] == entry.uid
        assert entry.uid not in {0, NOBODY}


@pytest.mark.parametrize("permissions", [0o700, 0o755])
def test_no_existing_folder_is_opened_for_the_server(
    directory: DataDirectory, permissions: int
) -> None:
    directory.path.parent.chmod(permissions)
    directory.path.chmod(permissions)
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    value = ask(embedded.database_url, "SELECT value FROM kept")
    embedded.stop()

    assert value == [("from before",)]
    assert stat.S_IMODE(directory.path.parent.stat().st_mode) == permissions
    assert stat.S_IMODE(directory.path.stat().st_mode) == permissions


def test_start_and_stop_can_be_repeated(directory: DataDirectory) -> None:
    embedded = EmbeddedPostgres(directory)
    embedded.stop()
    embedded.start()
    first = embedded.pid
    embedded.start()
    second = embedded.pid
    embedded.stop()
    embedded.stop()

    assert first == second
    assert first is not None
    assert embedded.pid is None
    assert is_gone(directory)


def test_a_killed_server_recovers_what_was_committed(directory: DataDirectory) -> None:
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    ask(embedded.database_url, "INSERT INTO kept VALUES ('before the crash')")
    killed = embedded.pid
    for pid in server_processes(directory):
        with suppress(ProcessLookupError):  # Each ends by itself once the first is gone.
            os.kill(pid, signal.SIGKILL)
    embedded.start()
    values = ask(embedded.database_url, "SELECT value FROM kept ORDER BY value")
    replacement = embedded.pid
    embedded.stop()

    assert values == [("before the crash",), ("from before",)]
    assert replacement not in {killed, None}
    assert is_gone(directory)


def test_a_busy_child_of_a_killed_server_does_not_prevent_the_next(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_REMAINS_SECONDS", 0.1)
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    assert embedded.pid is not None
    with closing(psycopg.connect(embedded.database_url, autocommit=True)) as connection:
        connection.pgconn.send_query(b"DO 'BEGIN LOOP END LOOP; END'")
        connection.pgconn.flush()
        active = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'"
        while not (busy := ask(embedded.database_url, active)):
            pass
        os.kill(embedded.pid, signal.SIGKILL)
        embedded.start()
        value = ask(embedded.database_url, "SELECT value FROM kept")
        left = busy[0][0] in server_processes(directory)
    embedded.stop()

    assert value == [("from before",)]
    assert not left


def test_a_slow_recovery_is_reported_and_never_cut_short(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two connection attempts of two seconds each; a stopped server answers none.
    monkeypatch.setattr(access, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(server, "RECOVERY_SECONDS", 3.0)
    messages: list[str] = []
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    slow = embedded.pid
    assert slow is not None
    os.kill(slow, signal.SIGSTOP)
    with pytest.raises(PostgresUnavailable, match=f"goes on recovering as process {slow}"):
        embedded.start(progress=messages.append)
    os.kill(slow, signal.SIGCONT)
    embedded.start()
    survivor = embedded.pid
    embedded.stop()

    assert survivor == slow
    assert messages == ["PostgreSQL is recovering (2 s)"]


def test_an_old_pid_that_another_process_has_now_is_no_obstacle(directory: DataDirectory) -> None:
    # Of the server's own user: PostgreSQL takes any living process of its user for a server.
    options = account.server_account().process_options
    with subprocess.Popen(["sleep", "60"], **options) as stranger:
        data = directory.postgres / "data"
        pid_file = f"{stranger.pid}\n{data}\n1\n5432\n{data}/socket\n\n  1 1\nready\n"
        (data / "postmaster.pid").write_text(pid_file)
        (data / "socket" / ".s.PGSQL.5432.lock").write_text(pid_file)
        shutil.chown(data / "postmaster.pid", data.stat().st_uid)
        before = running_server(directory)
        embedded = EmbeddedPostgres(directory)
        embedded.start()
        value = ask(embedded.database_url, "SELECT value FROM kept")
        embedded.stop()
        unharmed = stranger.poll() is None
        stranger.kill()

    assert before is None
    assert value == [("from before",)]
    assert unharmed


def test_an_address_is_found_for_long_and_odd_paths(remote: DataDirectory) -> None:
    embedded = EmbeddedPostgres(remote)
    embedded.start()
    alias = embedded._access._host
    first = ask(embedded.database_url, "SELECT value FROM kept")
    alias.unlink()
    with embedded.for_command() as url:
        second = ask(url, "SELECT value FROM kept")
    alias.unlink()
    embedded.maintain()
    third = ask(embedded.database_url, "SELECT value FROM kept")
    embedded.stop()

    assert first == second == third == [("from before",)]
    assert len(str(alias)) < 40
    assert not os.path.lexists(alias)
    assert len(str(remote.path)) == 200
    assert is_gone(remote)


@as_root
def test_a_foreign_link_in_the_place_of_the_address_is_not_used(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = EmbeddedPostgres(directory)
    alias = directory.path.parent / "alias"
    alias.symlink_to("/")
    monkeypatch.setattr(type(embedded._access), "_host", alias)
    os.chown(alias, NOBODY, NOBODY, follow_symlinks=False)
    embedded._access.ensure_address()

    assert alias.readlink() == directory.postgres / "data" / "socket"
    assert alias.lstat().st_uid == os.geteuid()


def test_an_initdb_that_was_cut_off_is_done_again(fresh: DataDirectory) -> None:
    with Child(START, fresh.path) as starter:
        wait_for(fresh.path, "postgres/data.new-*/base")
        starter.kill()
    assert not (fresh.postgres / "data").exists()
    # Killed some other time, before anything could go on by itself.
    (fresh.postgres / "data.new-1" / "base").mkdir(parents=True)
    embedded = EmbeddedPostgres(fresh)
    embedded.start()
    answer = ask(embedded.database_url, "SELECT 1")
    embedded.stop()

    assert answer == [(1,)]
    assert list(fresh.postgres.glob("data.new-*")) == []


def test_only_a_supervisor_replaces_a_server_whose_socket_was_deleted(
    directory: DataDirectory,
) -> None:
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    deaf = embedded.pid
    shutil.rmtree(directory.postgres / "data" / "socket")
    with (
        pytest.raises(PostgresUnavailable, match=f"runs as process {deaf}, but its socket"),
        embedded.for_command(),
    ):
        pass
    untouched = embedded.pid
    embedded.start()
    replacement = embedded.pid
    value = ask(embedded.database_url, "SELECT value FROM kept")
    embedded.stop()

    assert untouched == deaf
    assert replacement not in {deaf, None}
    assert value == [("from before",)]


def test_other_secrets_are_reported_and_no_server_is_left(directory: DataDirectory) -> None:
    directory.secrets_file.unlink()

    with pytest.raises(PostgresUnavailable, match="was made with other secrets"):
        EmbeddedPostgres(directory).start()
    assert is_gone(directory)


def test_a_server_that_cannot_start_says_why(directory: DataDirectory) -> None:
    with (directory.postgres / "data" / "postgresql.conf").open("a") as file:
        file.write("nonsense = 1\n")

    with pytest.raises(PostgresUnavailable, match=r"did not start: .*contains errors.*server\.log"):
        EmbeddedPostgres(directory).start()
    assert is_gone(directory)


def test_a_directory_that_is_no_database_is_never_overwritten(fresh: DataDirectory) -> None:
    fresh.prepare()
    (fresh.postgres / "data").mkdir()
    (fresh.postgres / "data" / "precious").write_text("kept")

    with pytest.raises(PostgresUnavailable, match="is no PostgreSQL data directory"):
        EmbeddedPostgres(fresh).start()
    assert (fresh.postgres / "data" / "precious").read_text() == "kept"


def test_a_server_that_cannot_be_seen_keeps_others_out(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_REMAINS_SECONDS", 0.0)
    monkeypatch.setattr(processes, "_KILL_SECONDS", 0.0)
    lock = FileLock(directory.postgres / "server.lock")
    assert lock.acquire()

    with pytest.raises(PostgresUnavailable, match="cannot be seen from here"):
        EmbeddedPostgres(directory).start()
    lock.release()


def test_the_log_stays_small(directory: DataDirectory) -> None:
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    log = directory.postgres / "server.log"
    with log.open("ab") as file:
        file.write(b"x" * 5_000_000 + b"the end\n")
    embedded.maintain()
    ask(embedded.database_url, "SELECT 1")
    embedded.stop()

    older = directory.postgres / "server.log.1"
    assert older.stat().st_size == 4 * 1024 * 1024
    assert older.read_bytes().endswith(b"the end\n")
    assert b"database system is shut down" in log.read_bytes()
    assert log.stat().st_size < 10_000
    assert modes(older) == modes(log) == {"file": {0o600}}
