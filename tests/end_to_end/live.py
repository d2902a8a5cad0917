"""A gateway that runs as its users run it: one command, processes of its own, no configuration."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil

from tests.command_line import CommandLine
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
START_SECONDS = 90
STOP_SECONDS = 60
PATIENCE_SECONDS = 60.0
# What a shell of its own has; the test session's settings must not reach the gateway.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, *, seconds: float = PATIENCE_SECONDS) -> T:
    """The first truthy answer of the condition."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


class LiveGateway:
    """`manage.py run` with a data directory and a port of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.data_directory = folder / "var"
        self.log_file = folder / "gateway.log"
        self.origin = f"http://127.0.0.1:{free_port()}"
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._environment = {
            **own,
            "DATA_DIR": str(self.data_directory),
            "PORT": self.origin.rpartition(":")[2],
            "WORKERS": str(WORKERS),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: CommandLine | None = None

    def start(self) -> None:
        """Return when it serves."""
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "run"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._is_ready, "a ready gateway", seconds=START_SECONDS)
        except BaseException:
            self.terminate()
            raise

    def stop(self) -> None:
        """End it as a service manager does, and check that nothing is left behind."""
        status = self.terminate()
        left = list(self._processes())
        assert not left, f"left behind: {left}"
        assert status == 0, f"status {status}: {self.log_tail()}"

    def terminate(self) -> int:
        assert self._process is not None, "the gateway was not started"
        if self._commands is not None:
            self._commands.close()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def manage(self, command: str, *arguments: str, **environment: str) -> dict[str, Any]:
        """What a contract command answers as JSON. It must succeed."""
        done = self.manage_raw(command, *arguments, "--json", **environment)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def manage_raw(
        self, command: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        if self._commands is None:
            self._commands = CommandLine(self._environment)
        return self._commands.run(command, *arguments, **environment)

    @cached_property
    def quickstart(self) -> dict[str, str]:
        content: dict[str, str] = json.loads(self._quickstart_file.read_bytes())
        return content

    @cached_property
    def simulator_url(self) -> str:
        """Where the simulated upstream listens; only the gateway's own channel says it."""
        program = (
            "from relay.models import Channel;"
            "print(Channel.objects.get(name='simulator').base_url.removesuffix('/v1'))"
        )
        done = self.manage_raw("shell", "--verbosity", "0", "--command", program)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    @cached_property
    def workers(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self.manage("status")["workers"]]

    @contextmanager
    def worker_clients(self) -> Iterator[list[httpx2.Client]]:
        """A connection to each of the workers, kept for as long as it is in use."""
        clients: list[httpx2.Client] = []
        try:
            for worker in self.workers:
                with self.alone(worker):
                    clients.append(_connected(self.origin))
            yield clients
        finally:
            for client in clients:
                client.close()

    @contextmanager
    def alone(self, worker: psutil.Process) -> Iterator[None]:
        """Who connects meanwhile gets this worker.

        Otherwise that is the kernel's choice, so the other workers are halted.
        """
        others = [other for other in self.workers if other is not worker]
        try:
            for process in others:
                process.suspend()
            wait_for(
                lambda: all(p.status() == psutil.STATUS_STOPPED for p in others), "halted workers"
            )
            yield
        finally:
            for process in others:
                process.resume()

    def log_tail(self) -> str:
        return self.log_file.read_text("utf-8", "replace")[-4000:]

    def log_when_it_has(self, *texts: str) -> str:
        """The log, as soon as all of the texts are in it."""

        def whole_log() -> str:
            log = self.log_file.read_text("utf-8")
            return log if all(text in log for text in texts) else ""

        return wait_for(whole_log, f"{texts} in the log")

    @property
    def _quickstart_file(self) -> Path:
        return self.data_directory / "quickstart.json"

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it did not start: {self.log_tail()}"
        if not self._quickstart_file.exists():
            return False
        try:
            return httpx2.get(f"{self.origin}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def _processes(self) -> Iterator[str]:
        """Whatever runs with our data directory in its command line or environment."""
        needle = str(self.data_directory)
        for process in psutil.process_iter(["pid", "name", "cmdline", "environ"]):
            told = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
            if any(needle in text for text in told):
                yield f"{process.info['name']} ({process.info['pid']})"


@contextmanager
def running_gateway(folder: Path, **environment: str) -> Iterator[LiveGateway]:
    gateway = LiveGateway(folder, **environment)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def _connected(origin: str) -> httpx2.Client:
    client = httpx2.Client(
        base_url=origin,
        timeout=60,
        limits=httpx2.Limits(max_connections=1, keepalive_expiry=None),
    )
    assert client.get("/healthz").status_code == 200
    return client
