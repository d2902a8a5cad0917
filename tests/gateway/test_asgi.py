"""The application as any ASGI server would load it."""

import subprocess
import sys
from pathlib import Path

from tests.gateway.running import ROOT, environment
from tests.gateway.test_launch import PRODUCTION

_LOAD = """
import threading
from django.db import connection
import gateway.asgi
print(threading.active_count(), connection.connection, gateway.asgi.application.problems() != [])
"""
_LIFESPAN = """
import asyncio, sys
from gateway.asgi import application

async def main():
    sent = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message["type"])
        print(message["type"], application.problems(), flush=True)

    await application({"type": "lifespan"}, receive, send)

asyncio.run(main())
"""

_FAIL = """
import gateway.asgi

async def fail():
    raise OSError(28, "No space left on device")

gateway.asgi.application.start = fail
"""


def load(code: str, data: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=environment(data, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_loading_starts_no_thread_and_connects_to_nothing(place: Path) -> None:
    """Or the supervisor, which has loaded it, could not fork."""
    done = load(_LOAD, place / "var", **PRODUCTION)
    assert done.stdout == "1 None True\n", done.stderr


def test_it_refuses_to_load_what_must_not_serve(place: Path) -> None:
    done = load(_LOAD, place / "var", **{**PRODUCTION, "DEBUG": "1"})
    assert done.returncode == 1
    assert "ImproperlyConfigured: DEBUG shows secrets" in done.stderr


def test_a_server_of_ones_own_starts_and_drains_it(place: Path, fresh_database_url: str) -> None:
    done = load(_LIFESPAN, place / "var", DATABASE_URL=fresh_database_url)
    assert done.stdout.splitlines() == [
        "lifespan.startup.complete []",
        "lifespan.shutdown.complete ['draining']",
    ], done.stderr


def test_a_start_that_fails_is_told_to_the_server(place: Path) -> None:
    done = load(_FAIL + _LIFESPAN, place / "var", **PRODUCTION)
    assert done.stdout.startswith("lifespan.startup.failed"), done.stderr
    assert "No space left on device" in done.stderr
