"""A real Redis: the one of REDIS_URL, or a server that is found here and started for the tests."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

START_SECONDS = 20.0
WITHOUT = "there is no redis-server here"

left_out: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Loudly: who believes that these ran is wrong."""
    if left_out:
        terminalreporter.section("LEFT OUT FOR WANT OF REDIS", red=True, bold=True)
        for name in left_out:
            terminalreporter.write_line(f"NOT TESTED: {name}", red=True)


class RedisServer:
    """One that can be stopped, started and frozen."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--appendonly", "no", "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "redis-server does not start"
                    time.sleep(0.02)
                else:
                    return

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be broken."""
    if shutil.which("redis-server") is None:
        left_out.append(request.node.nodeid)
        pytest.skip(WITHOUT)
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where nothing is but what the test puts there."""
    url = os.environ.get("REDIS_URL")
    if not url:
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter("{tollgate:limits}:*"):
            client.delete(key)
    return url
