"""Tollgate as its operator runs it, with everything on; also of another commit, to compare."""

import io
import json
import os
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from bench.candidates.base import RELAY, Bench, Candidate
from bench.machine import commit, commit_named, family, pin
from bench.payloads import CHAT, Header, stream_model
from bench.workshop import ROOT, Process, free_port

MODELS = (CHAT, *(stream_model(50, pause) for pause in (20, 100)), stream_model(100, 100))
INVENTED = 1000
_CUSTOMERS = Path("bench", "candidates", "tollgate_customers.py")
# What a shell of its own has; settings of whoever runs the bench must not reach the gateway.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


class Tollgate(Candidate):
    name = "tollgate"

    def __init__(self, bench: Bench, *, of: str = "", organizations: int = 1) -> None:
        """`of` names a commit, or a folder with the code; nothing means the files as they are."""
        super().__init__(bench)
        self.keys: list[str] = []
        self.data = bench.folder / "data"
        self._of = of
        self._root = ROOT
        self._organizations = organizations
        self._process: Process | None = None
        self._log = bench.folder / "tollgate.log"

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @override
    def start(self) -> None:
        self.port = free_port()
        self._root = source(self._of, folder=self.bench.folder)
        # Everything begins beside the load; then the workers get the core that is measured.
        self._process = Process(
            [sys.executable, "manage.py", "run"],
            cores=self.bench.cores.load,
            log=self._log,
            folder=self._root,
            environment=self._environment(),
        )
        self._process.wait_for(lambda: bool(self._state().get("ready")), "Tollgate")
        pin(self.processes()[RELAY], self.bench.cores.gateway)
        # What was measured before may call its functions otherwise: it comes with a program, too.
        program = (self._root / _CUSTOMERS).read_text()
        more = {"BENCH_MODELS": " ".join(MODELS), "BENCH_ORGANIZATIONS": str(self._organizations)}
        told = self.manage("shell", "--verbosity", "0", "--command", program, **more)
        customers = json.loads(told.splitlines()[-1])
        self.keys = customers["keys"]
        self.headers = _bearer(self.keys[0])
        self.refused = {
            "a revoked": [_bearer(customers["revoked"])],
            # As long as a real one.
            "always another invented": [
                _bearer(f"sk-{secrets.token_hex(19)}") for _ in range(INVENTED)
            ],
        }

    @override
    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    @override
    def processes(self) -> Mapping[str, Sequence[int]]:
        state = self._state()
        return {
            RELAY: [member for worker in state["workers"] for member in family(worker)],
            "postgres": family(self._postgres()),
            "supervisor": [state["supervisor"]],
            "jobs": [member for other in state["others"].values() for member in family(other)],
        }

    @property
    @override
    def version(self) -> str:
        return commit_named(ROOT, self._of) if self._of else commit(ROOT)

    def quickstart(self) -> dict[str, str]:
        """The console's address and password."""
        content: dict[str, str] = json.loads((self.data / "quickstart.json").read_bytes())
        return content

    def database_url(self) -> str:
        program = "from django.conf import settings; print(settings.DATABASE_URL)"
        told = self.manage("shell", "--verbosity", "0", "--command", program)
        return told.splitlines()[-1]

    def log_clear(self) -> None:
        """A line for each of millions of calls; it is written at the end, so this is enough."""
        os.truncate(self._log, 0)

    def manage(self, *arguments: str, **more: str) -> str:
        """What a management command prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self._root,
            env=self._environment() | more,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        if self.bench.authority is not None:
            own["SSL_CERT_FILE"] = str(self.bench.authority)
        return own | {
            "DATA_DIR": str(self.data),
            "PORT": str(self.port),
            "WORKERS": str(self.bench.workers),
            "OPENAI_API_KEY": "bench",
            "OPENAI_BASE_URL": f"{self.bench.upstream_url}/v1",
        }

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.data / "supervisor.json").read_bytes())
        except FileNotFoundError:
            return {}
        return state

    def _postgres(self) -> int:
        file = next((self.data / "postgres").rglob("postmaster.pid"))
        return int(file.read_text().split("\n", 1)[0])


class OtherTollgate(Tollgate):
    """The same as `tollgate`, from elsewhere: what was before, measured in the same run."""

    name = "before"


def _bearer(key: str) -> Sequence[Header]:
    return (("authorization", f"Bearer {key}"),)


def source(named: str, *, folder: Path) -> Path:
    """Where the code is: in the folder of that name, or in the commit, written out below ours."""
    if not named:
        return ROOT
    if Path(named).is_dir():
        return Path(named).resolve()
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", named]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        # Early releases of 3.11 know no filters, and the archive is our own.
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        files.extractall(folder / "source", **safely)
    return folder / "source"
