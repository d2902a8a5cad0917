import json
import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.data_directory import (
    AlreadyRunning,
    DataDirectory,
    DataDirectoryError,
)
from tests.gateway.children import NOBODY, Child, as_root, run_python


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def prepared(tmp_path: Path) -> DataDirectory:
    directory = DataDirectory(tmp_path / "var")
    directory.prepare()
    return directory


def test_new_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "missing" / "var")
    before = os.umask(0)
    try:
        directory.prepare()
    finally:
        os.umask(before)

    made = [directory.path.parent, directory.path]
    made += [directory.postgres, directory.journals, directory.celery]
    assert {path.name: mode(path) for path in made} == dict.fromkeys(
        ["missing", "var", "postgres", "journals", "celery"], 0o700
    )


@pytest.mark.parametrize("permissions", [0o700, 0o755, 0o775])
def test_an_existing_directory_keeps_its_mode(tmp_path: Path, permissions: int) -> None:
    for folder in (tmp_path / "var", tmp_path / "var" / "journals"):
        folder.mkdir()
        folder.chmod(permissions)
    DataDirectory(tmp_path / "var").prepare()

    assert mode(tmp_path / "var") == permissions
    assert mode(tmp_path / "var" / "journals") == permissions
    assert mode(tmp_path / "var" / "celery") == 0o700


@as_root
def test_a_directory_that_everyone_can_write_is_refused_unless_it_is_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    DataDirectory(tmp_path).prepare()
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o777)
    os.chown(other, NOBODY, NOBODY)

    with pytest.raises(
        DataDirectoryError, match="written by everyone and belongs to user id 65534"
    ):
        DataDirectory(other).prepare()
    assert list(other.iterdir()) == []


def test_what_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")

    with pytest.raises(DataDirectoryError, match="not a directory"):
        DataDirectory(tmp_path / "file").prepare()
    with pytest.raises(DataDirectoryError, match="cannot be used"):
        DataDirectory(tmp_path / "file" / "var").prepare()
    assert (tmp_path / "file").read_text() == "kept"


@as_root
def test_a_link_of_another_user_is_refused_and_our_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    assert DataDirectory(link).path == tmp_path / "real"
    DataDirectory(link).prepare()

    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(DataDirectoryError, match="symbolic link made by another user"):
        DataDirectory(link).prepare()


@as_root
def test_folders_inside_must_be_ours_and_no_links(prepared: DataDirectory, tmp_path: Path) -> None:
    prepared.journals.rmdir()
    (tmp_path / "elsewhere").mkdir()
    prepared.journals.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataDirectoryError, match="journals must be a directory and not a symbolic"):
        prepared.prepare()

    prepared.journals.unlink()
    prepared.journals.mkdir()
    os.chown(prepared.journals, NOBODY, NOBODY)
    with pytest.raises(DataDirectoryError, match="journals belongs to user id 65534"):
        prepared.prepare()


@as_root
def test_another_user_is_told_that_the_directory_is_not_writable() -> None:
    code = (
        "try: DataDirectory(sys.argv[1]).prepare()\n"
        "except DataDirectoryError as error: print(error)"
    )
    assert run_python(code, "/usr", uid=NOBODY) == "the data directory /usr is not writable"


def test_secrets_are_made_once_and_private(prepared: DataDirectory) -> None:
    first = prepared.secrets()

    assert DataDirectory(prepared.path).secrets() == first
    assert mode(prepared.secrets_file) == 0o600
    values = json.loads(prepared.secrets_file.read_text())
    assert len({*values.values()}) == 4
    assert min(map(len, values.values())) >= 43
    assert not any(value in repr(first) for value in values.values())


def test_processes_that_start_at_once_agree_on_the_secrets(prepared: DataDirectory) -> None:
    code = "print(DataDirectory(sys.argv[1]).secrets().secret_key)"
    with ThreadPoolExecutor(3) as pool:
        keys = set(pool.map(lambda _: run_python(code, prepared.path), range(3)))

    assert keys == {prepared.secrets().secret_key}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"secret_key": "x"}', "\xff"])
def test_damaged_secrets_are_reported_and_never_replaced(
    prepared: DataDirectory, content: str
) -> None:
    prepared.write_private(prepared.secrets_file, content.encode("latin-1"))

    with pytest.raises(DataDirectoryError, match=r"secrets\.json is damaged"):
        prepared.secrets()
    assert prepared.secrets_file.read_bytes() == content.encode("latin-1")


def test_secrets_that_others_can_read_are_refused(prepared: DataDirectory) -> None:
    prepared.secrets()
    prepared.secrets_file.chmod(0o640)

    with pytest.raises(DataDirectoryError, match="mode 0600"):
        prepared.secrets()


def test_write_private_replaces_a_file_and_leaves_nothing_else(prepared: DataDirectory) -> None:
    target = prepared.quickstart_file
    target.write_text("old")
    target.chmod(0o644)
    prepared.write_private(target, b"new")

    assert target.read_bytes() == b"new"
    assert mode(target) == 0o600
    assert {path.name for path in prepared.path.iterdir() if path.is_file()} == {target.name}


def test_a_failed_write_keeps_the_old_file_and_no_rest(prepared: DataDirectory) -> None:
    target = prepared.path / "folder"
    target.mkdir()

    with pytest.raises(IsADirectoryError):
        prepared.write_private(target, b"new")
    assert {path.name for path in prepared.path.iterdir() if path.is_file()} == set()


def test_a_second_supervisor_is_refused_with_the_first_ones_pid(prepared: DataDirectory) -> None:
    assert prepared.supervisor_pid() is None
    with prepared.acquire_supervisor_lock():
        assert prepared.supervisor_pid() == os.getpid()
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}") as caught:
            prepared.acquire_supervisor_lock()
        assert caught.value.pid == os.getpid()
        assert mode(prepared.supervisor_lock) == 0o600

    assert prepared.supervisor_pid() is None
    prepared.acquire_supervisor_lock().release()


def test_the_supervisor_lock_dies_with_its_holder_and_not_with_its_children(
    prepared: DataDirectory,
) -> None:
    code = """
import subprocess
lock = DataDirectory(sys.argv[1]).acquire_supervisor_lock()
child = subprocess.Popen(["sleep", "60"], close_fds=False)
print(child.pid, flush=True)
sys.stdin.read()
"""
    with Child(code, prepared.path) as supervisor:
        child = int(supervisor.read())
        held_by = prepared.supervisor_pid()
        supervisor.kill()
        noted = prepared.supervisor_lock.read_text()
        after = prepared.supervisor_pid()
        os.kill(child, signal.SIGKILL)

    assert held_by == supervisor.pid
    assert noted == f"{supervisor.pid}\n", "the old pid is still in the file"
    assert after is None
