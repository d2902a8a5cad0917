"""Redis holds nothing that matters to money: its death changes nothing."""

import signal
import socket

from tests.faults.books import check_books, check_books_afterwards
from tests.faults.conftest import Launch
from tests.faults.customers import Customer
from tests.faults.load import Load, callers
from tests.redis_server import RedisServer

CALLERS = 24


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
    launch: Launch, payers: list[Customer], redis_server: RedisServer
) -> None:
    product = await launch(REDIS_URL=redis_server.url)
    async with Load(callers(product.port, CALLERS), payers) as load:
        await load.complete(40)
        fill_with_garbage(redis_server.port)
        await load.complete(20)
        assert say(redis_server.port, "FLUSHALL").startswith("+OK")
        await load.complete(20)
        redis_server.signal(signal.SIGSTOP)
        await load.complete(40)
        redis_server.stop()
        await load.complete(40)
    assert set(load.codes) <= {"complete", "429"}
    await check_books(product, load.replies)
    await product.stop()
    check_books_afterwards(product, load.replies)
