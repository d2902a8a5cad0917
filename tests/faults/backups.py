"""An old copy of a database, and its return: what a restore does, or a fail-over that came late."""

from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.billing.engine.support import Bank
from tests.databases import drop, url_of


class Backup:
    """One copy of the bank's database as it is now. Its clients lose their connections twice."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._name = urlsplit(bank.url).path[1:]
        self._copy = f"{self._name}_copy"
        bank.connection.close()
        with psycopg.connect(url_of("postgres"), autocommit=True) as server:
            self._close(server)
            self._on(server, "CREATE DATABASE {copy} TEMPLATE {name} STRATEGY file_copy")
            self._on(server, "ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        bank.connection = psycopg.connect(bank.url, autocommit=True)

    def restore(self) -> None:
        """Whatever was committed since the copy was made is forgotten."""
        self._bank.connection.close()
        with psycopg.connect(url_of("postgres"), autocommit=True) as server:
            self._close(server)
            drop(self._name)
            self._on(server, "ALTER DATABASE {copy} RENAME TO {name}")
        self._bank.connection = psycopg.connect(self._bank.url, autocommit=True)

    def _close(self, server: psycopg.Connection) -> None:
        self._on(server, "ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            [self._name],
        )

    def _on(self, server: psycopg.Connection, statement: str) -> None:
        names = {"name": sql.Identifier(self._name), "copy": sql.Identifier(self._copy)}
        server.execute(sql.SQL(statement).format(**names))
