"""Django on a database of the test's own, where transactions really commit and threads really race.

Not pytest-django's `transaction=True`: that empties tables afterwards, which the ledger refuses,
and what the migrations put in would be gone for the tests that follow.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

PATIENCE_SECONDS = 30


@pytest.fixture
def committing_db(fresh_database_url: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The URL of the database that Django uses during the test."""
    connection.close()
    # Threads connect by the same dictionary, so it is changed in place.
    settings = connection.settings_dict
    name_before = settings["NAME"]
    settings["NAME"] = urlsplit(fresh_database_url).path.removeprefix("/")
    try:
        with django_db_blocker.unblock():
            yield fresh_database_url
            connection.close()
    finally:
        settings["NAME"] = name_before


def run_together(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at once, each in its thread; returns answers or exceptions, in their order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(PATIENCE_SECONDS)
            return call()
        except Exception as error:  # noqa: BLE001  The test judges it.
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


class Listener:
    """A worker's ear: everything that is notified on Tollgate's channel."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._connection.execute("LISTEN tollgate")

    def heard(self) -> list[str]:
        """The payloads of all that was committed until now."""
        # They come in the order of the commits, so all of them are before this one.
        self._connection.execute("NOTIFY tollgate, 'end'")
        payloads: list[str] = []
        for notify in self._connection.notifies(timeout=PATIENCE_SECONDS):
            if notify.payload == "end":
                return payloads
            payloads.append(notify.payload)
        raise AssertionError("our own notification did not come back")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def listener(committing_db: str) -> Iterator[Listener]:
    listening = Listener(committing_db)
    yield listening
    listening.close()
