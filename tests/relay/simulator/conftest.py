import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from openai import OpenAI

from relay.simulator import application
from tests.relay.simulator.support import KEY, Upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The simulator under a real server on a loopback port of its own."""
    # Listening before the server runs: early connections wait in the backlog.
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, log_level="critical", access_log=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Upstream(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture
def client(upstream: Upstream) -> Iterator[OpenAI]:
    with OpenAI(api_key=KEY, base_url=upstream.base_url, max_retries=0, timeout=10) as client:
        yield client
