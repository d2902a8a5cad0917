"""What was charged against what it cost, by whatever hours of calls are grouped by. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from billing.models import CallHour


@dataclass(slots=True)
class Margin:
    calls: int = 0
    failed: int = 0
    attempts_failed: int = 0
    official_nano_usd: int = 0
    charge_nano_usd: int = 0
    cost_nano_usd: int = 0
    unearned_nano_usd: int = 0
    """The part of the cost for which nobody was charged."""

    @property
    def margin_nano_usd(self) -> int:
        return self.charge_nano_usd - self.cost_nano_usd

    def add(self, row: CallHour) -> None:
        self.calls += row.calls
        self.failed += row.failed
        self.attempts_failed += row.attempts_failed
        self.official_nano_usd += row.official_cost_nano_usd
        self.charge_nano_usd += row.charge_nano_usd
        self.cost_nano_usd += row.upstream_cost_nano_usd
        self.unearned_nano_usd += row.unearned_cost_nano_usd


def total_margin(rows: Iterable[CallHour]) -> Margin:
    total = Margin()
    for row in rows:
        total.add(row)
    return total


def margins(rows: Iterable[CallHour], name: Callable[[CallHour], str]) -> dict[str, Margin]:
    """One margin for each name that the rows have."""
    found: dict[str, Margin] = {}
    for row in rows:
        found.setdefault(name(row), Margin()).add(row)
    return found
