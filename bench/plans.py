"""What a run is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from bench.workshop import ROOT

RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """What to look at."""

    rounds: int = 2
    seconds: float = 2.0
    streams: int = 100
    only: str = ""  # "calls" or "streams".
    # A commit, or a folder with the code. Nothing: the files as they are, and nothing beside them.
    of: str = ""
    against: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """Everything."""

    rounds: int = 5
    seconds: float = 3.0
    minutes: float = 10.0  # Of the run that shows whether memory stays flat; 0: without it.
    of: str = ""
    peers: bool = True
    folder: Path = RESULTS
