"""Counters, and worker processes that use them up together."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from relay.limits.window import Counter, Counts, Kind, memory_bytes

PLACES = 128


def counter(limit: int, kind: Kind = Kind.CALLS, *, key: int = 7) -> Counter:
    return Counter(key, kind, limit, f"key:{key}", f"key sk-{key}...")


def counts() -> Counts:
    return Counts(memoryview(bytearray(memory_bytes(PLACES))))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own, without anything of this one's."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def answers(processes: Iterable[subprocess.Popen[str]]) -> list[str]:
    """What each of them says, when all have ended well."""
    said = [process.communicate(timeout=60) for process in processes]
    return [out.strip() for out, _ in said]
