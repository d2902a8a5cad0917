"""Fixtures for every test: real databases, cloned from one migrated template."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
SERVER_URL = os.environ["DATABASE_URL"]


def url_of(database: str) -> str:
    """The URL of another database on the session's server."""
    return urlsplit(SERVER_URL)._replace(path=f"/{database}").geturl()


def on_server(statement: str, database: str, template: str = "") -> None:
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        names = {"database": sql.Identifier(database), "template": sql.Identifier(template or "x")}
        connection.execute(sql.SQL(statement).format(**names))


def drop(database: str) -> None:
    """Drop the database, whoever is connected. Its vacuum is the server's own and leaves soon."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            return on_server("DROP DATABASE {database} WITH (FORCE)", database)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a management command as an operator would; its failure is the test's to judge."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="session")
def template_database() -> Iterator[str]:
    """The name of a migrated database with the price book, which nobody is connected to."""
    name = f"template_{uuid4().hex[:12]}"
    on_server("CREATE DATABASE {database}", name)
    for command in (["migrate", "--verbosity", "0"], ["price_book_load"]):
        done = manage(*command, DATABASE_URL=url_of(name))
        assert done.returncode == 0, done.stderr
    yield name
    drop(name)


@pytest.fixture
def fresh_database_url(template_database: str) -> Iterator[str]:
    """The URL of a database of this test's own, migrated, with prices and nothing else."""
    name = f"fresh_{uuid4().hex[:12]}"
    on_server("CREATE DATABASE {database} TEMPLATE {template}", name, template_database)
    yield url_of(name)
    drop(name)
