"""Tollgate's own server and upstream engine without what bills: see bench/plain.py."""

import os
import sys
from collections.abc import Mapping, Sequence

from typing_extensions import override

from accounts.keys import key_generate
from bench.candidates.base import RELAY, Bench, Candidate
from bench.machine import commit, family
from bench.plain import PEPPER
from bench.workshop import ROOT, Process, answers, free_port


class BillingOff(Candidate):
    name = "billing off"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._process: Process | None = None

    @override
    def start(self) -> None:
        self.port = free_port()
        key = key_generate(brand_prefix="sk-", pepper=PEPPER).key
        self.headers = (("authorization", f"Bearer {key}"),)
        environment = dict(os.environ)
        if self.bench.authority is not None:
            environment["SSL_CERT_FILE"] = str(self.bench.authority)
        self._process = Process(
            [sys.executable, "-m", "bench.plain", str(self.port), self.upstream_url, key],
            cores=self.bench.cores.gateway,
            log=self.bench.folder / "plain.log",
            environment=environment,
        )
        self._process.wait_for(lambda: answers(self.port), "relay without billing")

    @property
    def upstream_url(self) -> str:
        return f"{self.bench.upstream_url}/v1"

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
        return commit(ROOT)
