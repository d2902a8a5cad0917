"""What the kernel knows: cores, CPU time and memory of processes, and what this machine is."""

import os
import platform
import re
import subprocess
import sysconfig
import timeit
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
# Positions behind the name in /proc/PID/stat: the parent, then the CPU time in user and system
# mode, of the process itself and of its children that have ended.
_PARENT, _TIMES = 1, slice(11, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Who runs where; on one core everybody shares it, and only CPU time means something."""

    gateway: frozenset[int]
    load: frozenset[int]  # Load, upstream, and whatever of a gateway is no relay: its database.

    @classmethod
    def of_this_machine(cls) -> "Cores":
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(gateway=frozenset({first}), load=frozenset(others or {first}))

    def wider(self, workers: int) -> "Cores":
        """So many cores for workers, as far as there are; the last one is never only theirs."""
        every = sorted(self.gateway | self.load)
        mine = frozenset(every[: max(1, min(workers, len(every) - 1))])
        return Cores(gateway=mine, load=frozenset(every) - mine or mine)


def pin(pids: Iterable[int], cores: frozenset[int]) -> None:
    """Move all threads of the processes; those that they start later follow."""
    for pid in pids:
        for task in (_PROC / str(pid) / "task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


def parse_stat(text: str) -> tuple[int, int]:
    """The parent, and the ticks of CPU time, from the content of /proc/PID/stat."""
    # The name may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return int(fields[_PARENT]), sum(int(field) for field in fields[_TIMES])


def family(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            stat = _stat(int(entry.name))
            if stat is not None:
                children.setdefault(stat[0], []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, ())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """What the processes have used up to now, with their children that have ended."""
    stats = (_stat(pid) for pid in pids)
    return sum(stat[1] for stat in stats if stat is not None) / _TICKS


def memory_kilobytes(pids: Iterable[int]) -> int:
    """PSS: a page that several processes share counts for each in part."""
    total = 0
    for pid in pids:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def description() -> dict[str, str | int]:
    """What a reader has to know about the machine; nothing that names it."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30,
        "kernel": re.split(r"[^\d.]", platform.release())[0],
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": interpreter(),
    }


def interpreter() -> str:
    """The Python that runs this and Tollgate, with what tells a fast build of it from a slow one.

    How it was configured does not settle it: distributions optimize theirs by ways of their own.
    """
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS"))
    found = [word for word in ("--enable-optimizations", "--with-lto") if word in arguments]
    configured = " ".join(found) or "no --enable-optimizations"
    version = f"{platform.python_version()} ({platform.python_compiler()})"
    return f"{version}, {configured}, {_nanoseconds_per_step():.0f} ns per step of a plain loop"


def _nanoseconds_per_step() -> float:
    steps = 200_000
    program = "for each in steps:\n if each & 1: kept[each & 63] = each"
    seconds = timeit.repeat(
        program, globals={"steps": range(steps), "kept": {}}, number=1, repeat=5
    )
    return min(seconds) / steps * 1e9


@cache
def commit(root: Path) -> str:
    """The commit that is measured; a plus where files differ from it."""
    changed = _git(root, "status", "--porcelain", "--", "gateway", "relay", "billing", "accounts")
    return f"{commit_named(root, 'HEAD')}{'+' if changed else ''}"


def commit_named(root: Path, name: str) -> str:
    """The commit that is called so; the name itself, if it is that of a folder."""
    return (
        _git(root, "rev-parse", "--verify", "--quiet", "--short=12", f"{name}^{{commit}}") or name
    )


def _git(root: Path, *arguments: str) -> str:
    command = ("git", "-C", str(root), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _stat(pid: int) -> tuple[int, int] | None:
    try:
        return parse_stat((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def _processor() -> str:
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
