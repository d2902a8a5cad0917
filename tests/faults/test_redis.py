"""Redis holds nothing that matters to money: its death changes nothing."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer
from tests.faults.load import Load, callers
from tests.faults.product import free_port, until

CALLERS = 24
Redis = tuple[int, subprocess.Popen[bytes]]
MISSING = "there is no redis-server here, so Redis is not killed (Debian: apt install redis-server)"


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
    except OSError:
        return False


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    program = shutil.which("redis-server")
    if program is None:
        assert "CI" not in os.environ, MISSING
        print(MISSING)
        pytest.skip(MISSING)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    await until(lambda: answers(port), "Redis")
    yield port, process
    process.kill()
    process.wait()


def say(port: int, *words: str) -> str:
    """What Redis answers to one command."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{' '.join(words)}\r\n".encode())
        return connection.recv(65536).decode("utf-8", "replace")


def fill_with_garbage(port: int) -> None:
    """Whatever is there says something else from now on."""
    for line in say(port, "KEYS", "*").splitlines():
        if line and line[0] not in "*$":
            say(port, "SET", line, "999999999999999999999")


async def test_f10_redis_lies_forgets_stands_still_and_is_killed(
    launch: Launch, payers: list[Customer], redis: Redis
) -> None:
    port, process = redis
    product = await launch(REDIS_URL=f"redis://127.0.0.1:{port}/0")
    async with Load(callers(product.port, CALLERS), payers) as load:
        await load.complete(40)
        fill_with_garbage(port)
        await load.complete(20)
        assert say(port, "FLUSHALL").startswith("+OK")
        await load.complete(20)
        process.send_signal(signal.SIGSTOP)
        await load.complete(40)
        process.kill()
        process.wait()
        await load.complete(40)
    assert set(load.codes) <= {"complete", "429"}
    await check_books(product, load.replies)
    await product.stop()
    check_books_afterwards(product, load.replies)
