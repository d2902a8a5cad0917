"""A worker as the supervisor forks it, in a process of its own: to be killed at any moment."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.ports import bind_listener

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
_PROGRAM = """
import socket, sys
from gateway.launch import prepare_environment
from gateway.worker import worker_run
prepare_environment()
worker_run(socket.socket(fileno=int(sys.argv[1])), ready_descriptor=int(sys.argv[2]))
"""


class WorkerProcess:
    """Both planes, on a database and a data directory that exist."""

    def __init__(self, *, database_url: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.port = 0
        self.log_file = folder / "worker.log"
        self._environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "gateway.settings",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Return when it is ready for calls."""
        listener = bind_listener("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        ready, announce = os.pipe()
        with listener, self.log_file.open("ab") as log:
            descriptors = (listener.fileno(), announce)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *map(str, descriptors)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
            )
            os.close(announce)
        try:
            async with asyncio.timeout(START_SECONDS):
                # At its end the pipe closes, and nothing is read.
                announced = await asyncio.to_thread(os.read, ready, 1)
        finally:
            os.close(ready)
        assert announced, self.log_file.read_text("utf-8", "replace")[-4000:]

    async def stop(self) -> None:
        """As the supervisor does: it settles all, and gives everything back."""
        assert self._process is not None
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, START_SECONDS)

    def kill(self) -> None:
        """`kill -9`; a second one does nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
