"""Other gateways, each in an environment of its own below BENCH_HOME, installed on first use."""

import os
import shutil
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import httpx2
from typing_extensions import override

from bench.candidates.base import RELAY, Bench, Candidate
from bench.candidates.tollgate import MODELS
from bench.machine import family
from bench.workshop import Process, Unavailable, free_port, home, say

INSTALL_SECONDS = 900
_LITELLM = """
model_list:
{models}
general_settings:
  master_key: sk-bench
"""
_LITELLM_MODEL = """
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: {upstream}, api_key: bench}}
"""


class Peer(Candidate):
    """What the two have in common: an installation, one process tree, a URL that says `ready`."""

    release: ClassVar[str]
    health: ClassVar[str]
    # Their first calls take seconds, and are no measure of the others.
    warm_seconds = 10.0

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._process: Process | None = None

    @override
    def start(self) -> None:
        command = self.command(self._installed())
        environment = {**os.environ, **self.environment()}
        if self.bench.authority is not None:
            authority = str(self.bench.authority)
            environment |= {"SSL_CERT_FILE": authority, "NODE_EXTRA_CA_CERTS": authority}
        self._process = Process(
            command,
            cores=self.bench.cores.gateway,
            log=self.bench.folder / f"{self.name}.log",
            folder=self.bench.folder,
            environment=environment,
        )
        self._process.wait_for(self._is_ready, self.name)

    @override
    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    @override
    def processes(self) -> Mapping[str, Sequence[int]]:
        assert self._process is not None, "it was not started"
        return {RELAY: family(self._process.pid)}

    @property
    @override
    def version(self) -> str:
        return self.release

    @abstractmethod
    def install(self, folder: Path) -> list[list[str]]:
        """The commands that install it there. Raises Unavailable."""

    @abstractmethod
    def command(self, folder: Path) -> Sequence[str | Path]:
        """What starts it."""

    def environment(self) -> Mapping[str, str]:
        return {}

    def _installed(self) -> Path:
        """The folder of the installation. Raises Unavailable."""
        folder = home() / f"{self.name}-{self.release}"
        mark = folder / ".installed"
        if mark.exists():
            return folder
        say(f"- Installing {self.name} {self.release} into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        for command in self.install(folder):
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
            except (subprocess.SubprocessError, OSError):
                raise Unavailable(f"{self.name} {self.release} cannot be installed.") from None
        mark.touch()
        return folder

    def _is_ready(self) -> bool:
        try:
            reply = httpx2.get(f"http://127.0.0.1:{self.port}{self.health}", timeout=5)
        except httpx2.TransportError:
            return False
        return reply.status_code == httpx2.codes.OK


class LiteLLM(Peer):
    """Without a database: no key is looked up there, and no spending is written."""

    name = "litellm"
    release = "1.106.2"
    health = "/health/liveliness"

    @override
    def install(self, folder: Path) -> list[list[str]]:
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        return [
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, f"litellm[proxy]=={self.release}"],
        ]

    @override
    def command(self, folder: Path) -> Sequence[str | Path]:
        self.port = free_port()
        self.headers = (("authorization", "Bearer sk-bench"),)
        upstream = f"{self.bench.upstream_url}/v1"
        models = "".join(_LITELLM_MODEL.format(model=m, upstream=upstream) for m in MODELS)
        configuration = self.bench.folder / "litellm.yaml"
        configuration.write_text(_LITELLM.format(models=models))
        program = folder / "bin" / "litellm"
        port = str(self.port)
        return [program, "--config", configuration, "--host", "127.0.0.1", "--port", port]

    @override
    def environment(self) -> Mapping[str, str]:
        return {
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }


class Portkey(Peer):
    """It issues no keys and keeps no account in this form."""

    name = "portkey"
    release = "1.15.2"
    health = "/"

    @override
    def install(self, folder: Path) -> list[list[str]]:
        if shutil.which("npm") is None:
            raise Unavailable("There is no npm (Debian: apt install nodejs npm).")
        package = f"@portkey-ai/gateway@{self.release}"
        return [["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", package]]

    @override
    def command(self, folder: Path) -> Sequence[str | Path]:
        self.port = free_port()
        self.headers = (
            ("authorization", "Bearer bench"),
            ("x-portkey-provider", "openai"),
            ("x-portkey-custom-host", f"{self.bench.upstream_url}/v1"),
        )
        program = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
        return ["node", program, f"--port={self.port}", "--headless"]

    @override
    def environment(self) -> Mapping[str, str]:
        return {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
