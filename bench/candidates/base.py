"""What every candidate is: something that relays on a port, and processes to account for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from bench.machine import Cores, cpu_seconds, memory_kilobytes
from bench.payloads import Header

RELAY = "relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a candidate gets: an upstream to relay to, cores, and a folder of its own."""

    folder: Path
    cores: Cores
    upstream_port: int
    authority: Path | None = None  # Whose certificate a TLS upstream shows; None: no TLS.
    workers: int = 1

    @property
    def upstream_tls(self) -> bool:
        return self.authority is not None

    @property
    def upstream_url(self) -> str:
        # The certificate is for a name. Without one, nobody has to find out that this machine's
        # name stands for two addresses of which one does not answer.
        host = "https://localhost" if self.upstream_tls else "http://127.0.0.1"
        return f"{host}:{self.upstream_port}"


class Candidate(ABC):
    """One gateway in one configuration. Its headers are those of a customer who may call."""

    name: ClassVar[str]
    warm_seconds: ClassVar[float] = 1.0  # Of calls, before it is measured for the first time.

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.port = bench.upstream_port
        self.headers: Sequence[Header] = (("authorization", "Bearer bench"),)
        # Those of customers who may not call, by what is wrong with their keys.
        self.refused: Mapping[str, Sequence[Sequence[Header]]] = {}

    @abstractmethod
    def start(self) -> None:
        """Return when it relays. Raises Unavailable where it cannot be had."""

    @abstractmethod
    def stop(self) -> None:
        """End it, also one that has only begun to start."""

    @abstractmethod
    def processes(self) -> Mapping[str, Sequence[int]]:
        """Its processes now, by part; the part RELAY is what its figures are about."""

    @property
    @abstractmethod
    def version(self) -> str: ...

    def cpu(self) -> Mapping[str, float]:
        """Seconds of CPU used up to now, by part."""
        return {part: cpu_seconds(pids) for part, pids in self.processes().items()}

    def memory(self) -> int:
        """Kilobytes of the relaying processes."""
        return memory_kilobytes(self.processes()[RELAY])


class Direct(Candidate):
    """Nobody in between."""

    name = "direct"

    @override
    def start(self) -> None:
        """There is nothing to start."""

    @override
    def stop(self) -> None:
        """There is nothing to stop."""

    @override
    def processes(self) -> Mapping[str, Sequence[int]]:
        return {RELAY: ()}

    @property
    @override
    def version(self) -> str:
        return ""
