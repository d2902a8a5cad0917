"""A pytest plugin that runs before Django reads its settings: a real PostgreSQL for the session.

`TEST_DATABASE_URL` names a server to use (its role must be allowed to create databases); without it
an embedded one is started in a temporary directory and stopped at the end. Where several processes
share the tests (pytest-xdist), the one that started them does this, and the others inherit it all.
"""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from unittest.mock import patch
from uuid import uuid4

import pytest

from gateway.data_directory import DataDirectory
from gateway.postgres import EmbeddedPostgres, cluster
from tests.folders import temporary_folder_make

_embedded: EmbeddedPostgres | None = None
_directory = temporary_folder_make()
_is_first = "TEST_SESSION" not in os.environ
_owner = os.getpid()


def _server_url() -> str:
    global _embedded  # noqa: PLW0603  The session's one server.
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        return given
    data_directory = DataDirectory(_directory / "data")
    data_directory.prepare()
    _embedded = EmbeddedPostgres(data_directory)
    # Many tests make a database and drop it, which waits for the disk; and no test cuts the power
    # of this server.
    changes = {"fsync": "off", "full_page_writes": "off", "max_connections": "400"}
    with patch.dict(cluster._SETTINGS, changes):
        _embedded.start()
    return _embedded.database_url


def _end() -> None:
    """Also where pytest ends without its hooks; but never by a child of ours."""
    if os.getpid() != _owner:
        return
    if _embedded is not None:
        _embedded.stop()
    elif _is_first:
        from tests.databases import drop_templates  # It reads what is set below.

        drop_templates()
    shutil.rmtree(_directory, ignore_errors=True)


def _told_to_end(number: int, _: FrameType | None) -> None:
    """As if interrupted at the keyboard: then pytest cleans up. Our children just end."""
    if os.getpid() == _owner:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


atexit.register(_end)
for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, _told_to_end)
_url = _server_url()
tempfile.tempdir = str(_directory)
os.environ.setdefault("TEST_SESSION", uuid4().hex[:12])
os.environ.update(
    {
        "TEST_DATABASE_URL": _url,
        "TMPDIR": str(_directory),
        # Node.js, too, is of the version that was locked.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DATABASE_URL": _url,
        "DATABASE_POOL_SIZE": "0",
        "DATA_DIR": str(_directory / "data"),
        "SECRET_KEY": "a secret key that only tests use",
        "KEY_PEPPER": "a pepper that only tests use",
        "CREDENTIAL_KEYS": "b25seS1mb3ItdGhlLXRlc3RzLW9mLXRvbGxnYXRlISE=",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.basetemp is None:
        config.option.basetemp = _directory / "tests"


def pytest_unconfigure(config: pytest.Config) -> None:
    _end()
