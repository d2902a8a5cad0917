import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.data_directory import DataDirectory
from gateway.postgres import EmbeddedPostgres
from tests.folders import temporary_folder
from tests.gateway.databases import ask, clean_up


@pytest.fixture(scope="session")
def made_once() -> Iterator[Path]:
    """A data directory whose server was started and stopped once; each test gets a copy."""
    with temporary_folder() as folder:
        embedded = EmbeddedPostgres(DataDirectory(folder / "var"))
        embedded.start()
        ask(embedded.database_url, "CREATE TABLE kept AS SELECT 'from before' AS value")
        embedded.stop()
        yield folder / "var"


@contextmanager
def _copied(made: Path, path: Path) -> Iterator[DataDirectory]:
    path.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", made, path], check=True)
    directory = DataDirectory(path)
    yield directory
    clean_up(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def directory(made_once: Path, place: Path) -> Iterator[DataDirectory]:
    with _copied(made_once, place / "var") as directory:
        yield directory


@pytest.fixture
def remote(made_once: Path, place: Path) -> Iterator[DataDirectory]:
    """A copy whose path has 200 characters, some of which mean something in a URL."""
    folder = place / "a, b % ü"
    with _copied(made_once, folder / ("x" * (199 - len(str(folder))))) as directory:
        yield directory


@pytest.fixture
def fresh(place: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(place / "fresh")
    yield directory
    clean_up(directory)
