"""A pytest plugin that runs before Django reads its settings: a real PostgreSQL for the session.

`TEST_DATABASE_URL` names a server to use (its role must be allowed to create databases); without it
an embedded one is started in a temporary directory and stopped at the end.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from gateway.data_directory import DataDirectory
from gateway.postgres import EmbeddedPostgres

_embedded: EmbeddedPostgres | None = None
_directory = Path(tempfile.mkdtemp(prefix="tollgate-tests-"))


def _server_url() -> str:
    global _embedded  # noqa: PLW0603  The session's one server.
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        return given
    data_directory = DataDirectory(_directory / "data")
    data_directory.prepare()
    _embedded = EmbeddedPostgres(data_directory)
    _embedded.start()
    return _embedded.database_url


os.environ.update(
    {
        "DATABASE_URL": _server_url(),
        "DATABASE_POOL_SIZE": "0",
        "DATA_DIR": str(_directory / "data"),
        "SECRET_KEY": "a secret key that only tests use",
        "KEY_PEPPER": "a pepper that only tests use",
        "CREDENTIAL_KEYS": "b25seS1mb3ItdGhlLXRlc3RzLW9mLXRvbGxnYXRlISE=",
    }
)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _embedded is not None:
        _embedded.stop()
    shutil.rmtree(_directory, ignore_errors=True)
