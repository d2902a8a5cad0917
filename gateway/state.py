"""What a running supervisor tells others about itself: a private file in the data directory."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from gateway.data_directory import DataDirectory
from gateway.ports import parent_of


@dataclass(frozen=True, kw_only=True)
class State:
    """The process tree. What was written may have died since: `living` says what is left of it."""

    supervisor: int
    base_url: str
    ready: bool = False
    workers: tuple[int, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_this_process(
        cls, *, base_url: str, ready: bool, workers: tuple[int, ...], others: Mapping[str, int]
    ) -> Self:
        pid = os.getpid()
        return cls(supervisor=pid, base_url=base_url, ready=ready, workers=workers, others=others)

    @classmethod
    def read(cls, directory: DataDirectory) -> Self | None:
        """What was written last; None if that was never, or is no longer readable."""
        try:
            content: dict[str, Any] = json.loads(_file(directory).read_bytes())
            return cls(**{**content, "workers": tuple(content["workers"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, directory: DataDirectory) -> None:
        directory.write_private(_file(directory), json.dumps(asdict(self)).encode() + b"\n")

    def living_workers(self) -> list[int]:
        """Workers that are still the supervisor's children; other processes reuse their pids."""
        return [pid for pid in self.workers if parent_of(pid) == self.supervisor]

    def family(self) -> set[int]:
        return {self.supervisor, *self.workers, *self.others.values()}


def state_remove(directory: DataDirectory) -> None:
    _file(directory).unlink(missing_ok=True)


def _file(directory: DataDirectory) -> Path:
    return directory.path / "supervisor.json"
