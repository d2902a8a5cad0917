"""What an engine is told at its start."""

from dataclasses import dataclass
from pathlib import Path

from billing.engine.durability import Durability
from billing.engine.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    database_url: str
    journals: Path  # This node's journals: a local folder, shared by its processes only.
    node: str
    timing: Timing
    durability: Durability = Durability.JOURNAL
