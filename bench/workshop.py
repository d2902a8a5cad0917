"""Where a run keeps its files, its programs and its processes."""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "bench" / "native"
PROGRAMS = ("upstream", "calls", "streams")
_COMPILER = ("cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Unavailable(Exception):
    """Something that is needed is not on this machine; the message is one sentence."""


def home() -> Path:
    """What may be kept from run to run: other gateways in environments of their own."""
    return Path(os.environ.get("BENCH_HOME") or Path.home() / ".cache" / "tollgate-bench")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder:
        yield Path(folder)


@contextmanager
def alone() -> Iterator[None]:
    """Two benches at once would measure each other: one waits until the other has measured."""
    path = Path(tempfile.gettempdir()) / "tollgate-bench.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def compile_programs(folder: Path) -> dict[str, Path]:
    """The native programs, compiled into the folder. Raises Unavailable."""
    folder.mkdir(exist_ok=True)
    programs = {name: folder / name for name in PROGRAMS}
    for name, target in programs.items():
        command = [*_COMPILER, "-o", str(target), str(NATIVE / f"{name}.c")]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise Unavailable(
                "There is no C compiler (Debian: apt install gcc libc6-dev)."
            ) from None
    return programs


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:g} s in vain for {what}.")
        time.sleep(0.02)


def _settle(cores: frozenset[int]) -> None:
    """Take the cores, and end with the bench, however that ends."""
    os.sched_setaffinity(0, cores)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Process:
    """A child on cores of its own, with a log; ended in order, or at once if it will not."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cores: frozenset[int],
        log: Path,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # Nothing but system calls, in a process that has no other thread yet.
                preexec_fn=lambda: _settle(cores),  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it is ready. Raises RuntimeError when it ends before."""

        def ready() -> bool:
            if self._process.poll() is not None:
                raise RuntimeError(f"There is no {what}: {self.log_tail()}")
            return condition()

        wait_until(ready, what)

    def log_tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-3000:]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
