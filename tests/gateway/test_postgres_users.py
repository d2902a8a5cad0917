"""The operating system's user that the embedded PostgreSQL runs as."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from gateway.data_directory import DataDirectory
from gateway.postgres import (
    EmbeddedPostgres,
    account,
    binaries,
)
from tests.gateway.children import NOBODY, as_root, run_python
from tests.gateway.databases import ask, modes

pytestmark = as_root


def test_programs_that_the_servers_user_cannot_reach_are_copied(
    directory: DataDirectory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries.installed_package()
    hidden = place / "only-root"
    hidden.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, hidden / name, symlinks=True)
    monkeypatch.setattr(binaries, "installed_package", lambda: hidden / package.name)
    embedded = EmbeddedPostgres(directory)
    # As short as any passable place: the folders of the tests are closed to others.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as passable:
        Path(passable).chmod(0o755)
        monkeypatch.setattr(binaries, "COPIES", Path(passable) / "tollgate")
        for _ in range(2):
            embedded.start()
            command = Path(f"/proc/{embedded.pid}/cmdline").read_bytes()
            value = ask(embedded.database_url, "SELECT value FROM kept")
            embedded.stop()
        copies = list((Path(passable) / "tollgate").iterdir())
        permissions = {path.stat().st_mode & 0o022 for path in Path(passable).rglob("*")}

    assert value == [("from before",)]
    assert len(copies) == 1
    assert command.startswith(bytes(copies[0]))
    assert permissions == {0}


def test_without_useradd_the_server_gets_a_number_of_its_own(
    fresh: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "USER_NAME", "tollgate-nobody-made-this-user")
    monkeypatch.setattr(account, "TOOLS_PATH", "")
    embedded = EmbeddedPostgres(fresh)
    embedded.start()
    data = fresh.postgres / "data"
    owners = {path.lstat().st_uid for path in (data, *data.rglob("*"))}
    runs_as = Path(f"/proc/{embedded.pid}/cmdline").stat().st_uid
    embedded.stop()

    assert owners == {runs_as}
    assert runs_as >= account.FIRST_UNNAMED_ID
    assert not account.Account(uid=runs_as, gid=runs_as, switch=True).named


def test_the_files_follow_when_the_servers_user_gets_another_number(
    directory: DataDirectory,
) -> None:
    data = directory.postgres / "data"
    account.give(data, account.Account(uid=12_345, gid=12_345, switch=True))
    embedded = EmbeddedPostgres(directory)
    embedded.start()
    value = ask(embedded.database_url, "SELECT value FROM kept")
    owners = {path.lstat().st_uid for path in (data, *data.rglob("*"))}
    embedded.stop()

    assert value == [("from before",)]
    assert owners == {account.server_account().uid}


def test_another_user_than_root_runs_a_server_as_itself() -> None:
    code = """
import gateway.postgres.cluster
from pathlib import Path
gateway.postgres.cluster.find_programs = lambda account: Path(sys.argv[2])
directory = DataDirectory(sys.argv[1])
embedded = EmbeddedPostgres(directory)
embedded.start()
first = embedded.pid
with psycopg.connect(embedded.database_url) as connection:
    connection.execute("CREATE TABLE kept AS SELECT 1")
os.kill(first, 9)
embedded.start()
second = embedded.pid
with embedded.for_command() as url, psycopg.connect(url) as connection:
    rows = connection.execute("SELECT * FROM kept").fetchall()
embedded.stop()
print(json.dumps([rows, first != second, embedded.pid]))
"""
    programs = binaries.find_programs(account.Account(uid=NOBODY, gid=NOBODY, switch=True))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        os.chown(home, NOBODY, NOBODY)
        path = Path(home) / ("long" * 20) / "var"
        output = run_python(code, path, programs, uid=NOBODY)
        owners = {found.lstat().st_uid for found in Path(home).rglob("*")}
        found = modes(path)

    assert output == "[[[1]], true, null]"
    assert owners == {NOBODY}
    assert found == {"folder": {0o700}, "file": {0o600}}
