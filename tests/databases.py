"""Databases on the session's server: templates that are made once, and copies of them."""

import os
import time
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.commands import manage

SERVER_URL = os.environ["DATABASE_URL"]
# Of the whole session, whichever of its processes makes them.
MIGRATED = f"migrated_{os.environ['TEST_SESSION']}"
PRICED = f"priced_{os.environ['TEST_SESSION']}"
# Any number will do that nobody else locks on that server.
_MAKING_TEMPLATES = 7_413_002


def url_of(database: str) -> str:
    """The URL of another database on the session's server."""
    return urlsplit(SERVER_URL)._replace(path=f"/{database}").geturl()


def copy(template: str, database: str) -> None:
    """Make a database. Its files are copied, which costs a tenth of logging every page of them."""
    _on_server(
        "CREATE DATABASE {database} TEMPLATE {template} STRATEGY file_copy",
        database=database,
        template=template,
    )


def drop(database: str) -> None:
    """Drop the database, whoever is connected. Its vacuum is the server's own and leaves soon."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            return _on_server("DROP DATABASE IF EXISTS {database} WITH (FORCE)", database=database)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)


def ensure_templates() -> None:
    """Make both, unless another process of this session has."""
    with _server() as connection:
        # Held until the connection ends, also if this process dies.
        connection.execute("SELECT pg_advisory_lock(%s)", [_MAKING_TEMPLATES])
        _ensure(connection, MIGRATED, made_from="template1", by=("migrate", "--verbosity", "0"))
        _ensure(connection, PRICED, made_from=MIGRATED, by=("price_book_load",))


def drop_templates() -> None:
    for template in (MIGRATED, PRICED):
        drop(template)


def _ensure(
    connection: psycopg.Connection, template: str, *, made_from: str, by: tuple[str, ...]
) -> None:
    """What has the template's name is complete, and nobody is connected to it."""
    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template])
    if known.fetchone():
        return
    unfinished = f"unfinished_{template}"
    drop(unfinished)
    copy(made_from, unfinished)
    done = manage(*by, DATABASE_URL=url_of(unfinished))
    assert done.returncode == 0, done.stderr
    _on_server(
        "ALTER DATABASE {unfinished} RENAME TO {template}", unfinished=unfinished, template=template
    )


def _server() -> psycopg.Connection:
    return psycopg.connect(url_of("postgres"), autocommit=True)


def _on_server(statement: str, **names: str) -> None:
    with _server() as connection:
        connection.execute(
            sql.SQL(statement).format(
                **{name: sql.Identifier(value) for name, value in names.items()}
            )
        )
