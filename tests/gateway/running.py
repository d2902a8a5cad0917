"""The whole gateway as an operator starts it, in a process group of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import IO, Any, TypeVar

from gateway.ports import parent_of
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
# What the test session says about its own database must not reach a gateway that has its own.
_SESSION = ("DATABASE_URL", "SECRET_KEY", "KEY_PEPPER", "CREDENTIAL_KEYS", "OPENAI_API_KEY")

Answer = TypeVar("Answer")


def environment(data: Path, **more: str) -> dict[str, str]:
    """What `make run` with these variables passes on."""
    inherited = {name: value for name, value in os.environ.items() if name not in _SESSION}
    return {**inherited, "DATA_DIR": str(data), **more}


def manage(data: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(data, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def until(condition: Callable[[], Answer]) -> Answer:
    """Wait until the condition holds; it must within a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return answer


def alive(pid: int) -> bool:
    return parent_of(pid) is not None


def children_of(pid: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [child for child in pids if parent_of(child) == pid]


def start(
    data: Path, *options: str, log: IO[bytes] | None = None, **more: str
) -> subprocess.Popen[str]:
    """The command itself, as a terminal's foreground job."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "run", *options],
        cwd=ROOT,
        env=environment(data, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )


class Running:
    """A gateway that has printed its banner."""

    def __init__(self, data: Path, *options: str, **more: str) -> None:
        self.data = data
        self.port = int(more.setdefault("PORT", str(free_port())))
        self._log = data.parent / f"log-{self.port}"
        with self._log.open("ab") as log:
            self.process = start(data, *options, log=log, **more)
        self.banner = self._read_banner()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def quickstart(self) -> dict[str, str]:
        content: dict[str, str] = json.loads((self.data / "quickstart.json").read_bytes())
        return content

    def status(self) -> dict[str, Any]:
        done = manage(self.data, "status", "--json", PORT=str(self.port))
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def get(self, path: str) -> tuple[int, bytes]:
        response = self._request("GET", path)
        return response.status, response.read()

    def usage(self) -> dict[str, Any]:
        response = self._request("GET", "/v1/usage", headers=self._authorization())
        answer: dict[str, Any] = json.loads(response.read())
        return answer

    def chat(self, **fields: Any) -> HTTPResponse:
        """A call on a connection of its own, answered up to the head."""
        body = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Hello"}],
            **fields,
        }
        headers = {**self._authorization(), "content-type": "application/json"}
        return self._request("POST", "/v1/chat/completions", json.dumps(body), headers)

    def answer(self, **fields: Any) -> dict[str, Any]:
        response = self.chat(**fields)
        body = response.read()
        assert response.status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def rest_of_output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def _request(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        # The answer then owns the socket, and closes it when it has been read.
        connection.request(method, path, body, {**(headers or {}), "connection": "close"})
        return connection.getresponse()

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.quickstart['api_key']}"}

    def _read_banner(self) -> str:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C stops it."):
                return "".join(lines)
        raise AssertionError(f"it did not start: {self.process.wait()} {lines} {self.log}")


@contextmanager
def running(data: Path, *options: str, **more: str) -> Iterator[Running]:
    """A gateway for a test, which stops at the end whatever happens in it."""
    gateway = Running(data, *options, **more)
    try:
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.stop()
        assert gateway.process.stdout is not None
        gateway.process.stdout.close()


def printed_curl(banner: str) -> str:
    found = re.search(r"^curl .*?^  -d '.*?'$", banner, re.MULTILINE | re.DOTALL)
    assert found is not None, banner
    return found.group()
