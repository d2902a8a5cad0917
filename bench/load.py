"""Runs a load program; looks at the processes exactly where its measured time begins and ends."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.workshop import Process, alone, answers, free_port

Reading = Mapping[str, float]
# Whoever measures for longer lets others measure meanwhile.
MOST_ALONE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a load program reports, and by how much each reading grew meanwhile."""

    grown: Mapping[str, float]
    result: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a load program is run. The time to warm up is not measured."""

    seconds: float
    warm_seconds: float = 1.0
    connections: int = 50
    rate: float = 0.0  # Calls a second; 0: as many as are answered.
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    port: int
    requests: Path


class Loader:
    """The load programs, on the cores that are theirs."""

    def __init__(self, programs: Mapping[str, Path], cores: frozenset[int]) -> None:
        self._programs = programs
        self._prefix = ["taskset", "--cpu-list", ",".join(str(core) for core in sorted(cores))]

    def calls(
        self, targets: Sequence[Target], shape: Shape, *, read: Callable[[], Reading]
    ) -> Measured:
        """Plain calls of one target, or of two in turns."""
        ends = [str(part) for target in targets for part in (target.port, target.requests)]
        return self._run(
            [
                self._programs["calls"],
                f"{shape.rate:g}",
                shape.connections,
                f"{shape.warm_seconds:g}",
                f"{shape.seconds:g}",
                shape.status,
                *ends,
            ],
            read,
            is_long=shape.seconds > MOST_ALONE_SECONDS,
        )

    def streams(self, target: Target, shape: Shape, *, read: Callable[[], Reading]) -> Measured:
        """As many open streams as the shape has connections."""
        return self._run(
            [
                self._programs["streams"],
                target.port,
                target.requests,
                shape.connections,
                f"{shape.warm_seconds:g}",
                f"{shape.seconds:g}",
            ],
            read,
        )

    def _run(
        self, command: Sequence[object], read: Callable[[], Reading], *, is_long: bool = False
    ) -> Measured:
        words = [*self._prefix, *(str(part) for part in command)]
        with (
            nullcontext() if is_long else alone(),
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process,
        ):
            assert process.stdout is not None
            _expect(process.stdout.readline(), "begin", words)
            before = read()
            _expect(process.stdout.readline(), "end", words)
            after = read()
            result = json.loads(process.stdout.readline() or "null")
        if result is None or process.returncode:
            raise RuntimeError(f"{words} ended with {process.returncode}.")
        return Measured(grown={name: after[name] - before[name] for name in after}, result=result)


def upstream_start(
    programs: Mapping[str, Path], *, cores: frozenset[int], log: Path
) -> tuple[Process, int]:
    """The native upstream and its port."""
    port = free_port()
    process = Process([programs["upstream"], str(port)], cores=cores, log=log)
    process.wait_for(lambda: answers(port), "upstream")
    return process, port


def _expect(line: str, word: str, command: Sequence[str]) -> None:
    if line.strip() != word:
        raise RuntimeError(f"{command} said {line!r} where {word!r} was due.")
