import asyncio
import threading
from collections.abc import Iterator

import pytest
import uvloop
from openai import OpenAI

from gateway.http import HttpServer
from gateway.ports import bind_listener
from relay.simulator import application
from tests.relay.simulator.support import KEY, Upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The simulator under a real server on a loopback port of its own."""
    # Listening before the server runs: early connections wait in the backlog.
    listener = bind_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = HttpServer(application)
        await server.listen(listener)
        await stop.wait()
        await server.close(5.0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield Upstream(port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)
    assert not thread.is_alive()
    loop.close()


@pytest.fixture
def client(upstream: Upstream) -> Iterator[OpenAI]:
    with OpenAI(api_key=KEY, base_url=upstream.base_url, max_retries=0, timeout=10) as client:
        yield client
