"""The whole product as its operator runs it, and the ways in which its processes die."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from gateway.data_directory import DataDirectory
from gateway.postgres import EmbeddedPostgres
from gateway.state import State
from tests.billing.engine.support import Bank
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
# What a shell of its own has; the settings of a test session must not reach the product.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

T = TypeVar("T")


async def until(
    condition: Callable[[], T], what: str, *, seconds: float = PATIENCE_SECONDS
) -> float:
    """Wait until the condition holds; how many seconds that took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - begin


def kill(processes: Sequence[psutil.Process], number: signal.Signals = signal.SIGKILL) -> None:
    """Signal them all, without waiting in between."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def gone(process: psutil.Process) -> bool:
    """Whether it has ended, be it that nobody has asked for its status yet."""
    try:
        return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


class Product:
    """`manage.py run` on one data directory; after any death it may be started again."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.directory = DataDirectory(data)
        self.log_file = data.parent / f"{data.name}.log"
        self.port = free_port()
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._environment = {
            **own,
            "DATA_DIR": str(data),
            "PORT": str(self.port),
            "WORKERS": "2",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    # --- Life ------------------------------------------------------------------------------------

    async def start(self) -> float:
        """Return when it is ready; how many seconds that took."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "run"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return await until(self._is_ready, "the product's start", seconds=90)

    async def stop(self) -> float:
        """Stop it as a service manager does; how many seconds that took."""
        self.supervisor.send_signal(signal.SIGTERM)
        seconds = await self.ended()
        assert self.status == 0, f"it ended with {self.status}: {self.log()[-4000:]}"
        return seconds

    async def ended(self) -> float:
        """Wait for the supervisor's end."""
        return await until(lambda: self.status is not None, "the product's end")

    @property
    def status(self) -> int | None:
        assert self._process is not None, "it was not started"
        return self._process.poll()

    def _is_ready(self) -> bool:
        assert self.status is None, f"it did not start: {self.log()[-4000:]}"
        state = State.read(self.directory)
        return state is not None and state.supervisor == self.supervisor.pid and state.ready

    # --- Its processes ---------------------------------------------------------------------------

    @property
    def supervisor(self) -> psutil.Process:
        assert self._process is not None, "it was not started"
        return psutil.Process(self._process.pid)

    def workers(self) -> list[psutil.Process]:
        state = State.read(self.directory)
        assert state is not None, "the supervisor has noted nothing"
        return [psutil.Process(pid) for pid in state.living_workers()]

    def postgres(self) -> list[psutil.Process]:
        """The server's main process, then the others."""
        pid = EmbeddedPostgres(self.directory).pid
        assert pid is not None, "PostgreSQL does not run"
        return _family(psutil.Process(pid))

    def family(self) -> list[psutil.Process]:
        """Supervisor, workers, simulator, jobs, PostgreSQL: who works on this data directory."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        """Ours say so in their environment; PostgreSQL has another one, but works in our folder."""
        try:
            told = process.environ().get("DATA_DIR")
            folder = Path(process.cwd())
        except (psutil.Error, OSError):
            return False
        return told == str(self.directory.path) or self.directory.postgres in folder.parents

    async def kill_everything(self) -> None:
        """As when the machine loses its power, except for what the kernel still writes."""
        family = self.family()
        # One that was killed may have started another one since we looked.
        while left := [process for process in family if not gone(process)]:
            kill(left)
            await asyncio.sleep(0.01)
            family = [*family, *self.family()]
        if self._process is not None:
            self._process.wait()

    # --- What it knows ---------------------------------------------------------------------------

    @contextmanager
    def bank(self) -> Iterator[Bank]:
        """A view of the database while the product runs."""
        bank = Bank(EmbeddedPostgres(self.directory).database_url)
        try:
            yield bank
        finally:
            bank.connection.close()

    @contextmanager
    def bank_afterwards(self) -> Iterator[Bank]:
        """A view of the database when the product does not run: PostgreSQL runs for it alone."""
        with EmbeddedPostgres(self.directory).for_command(), self.bank() as bank:
            yield bank

    def journals(self) -> list[Path]:
        """The journals that are left. What has lost its name is no journal any more."""
        found = sorted(self.directory.journals.iterdir())
        return [path for path in found if not path.name.startswith(".")]

    def quickstart(self) -> dict[str, str]:
        """What a first run noted for its operator."""
        noted: dict[str, str] = json.loads(self.directory.quickstart_file.read_bytes())
        return noted

    def manage(self, command: str, *arguments: str, **environment: str) -> dict[str, Any]:
        """What a contract command answers as JSON. It must succeed."""
        done = self.manage_raw(command, *arguments, "--json", **environment)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def manage_raw(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def alarms(self) -> list[str]:
        """Lines of the log that an operator would be woken up for."""
        lines = self.log().splitlines()
        return [line for line in lines if '"critical"' in line or line.startswith("Traceback")]


def _family(ancestor: psutil.Process) -> list[psutil.Process]:
    return [ancestor, *ancestor.children(recursive=True)]
