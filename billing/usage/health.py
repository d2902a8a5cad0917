"""How calls fared: how many were served, how soon they began to be answered, how long they took."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from billing.models import CallHour
from billing.usage.histograms import added, percentile


@dataclass(slots=True)
class Health:
    served: int = 0
    failed: int = 0
    durations: list[dict[str, int]] = field(default_factory=list, repr=False)
    first_tokens: list[dict[str, int]] = field(default_factory=list, repr=False)

    @property
    def calls(self) -> int:
        return self.served + self.failed

    @property
    def success(self) -> float | None:
        """The share that was served; None: there were no calls."""
        return self.served / self.calls if self.calls else None

    def duration_ms(self, share: float) -> int | None:
        return percentile(added(self.durations), share)

    def first_token_ms(self, share: float) -> int | None:
        """Of streams, from the arrival of the call on."""
        return percentile(added(self.first_tokens), share)


def health_of(rows: Iterable[CallHour], *, attempts: bool = False) -> Health:
    """With `attempts`, also those count that another channel made up for."""
    found = Health()
    for row in rows:
        found.served += row.served
        found.failed += row.failed + (row.attempts_failed if attempts else 0)
        found.durations.append(row.duration_counts)
        found.first_tokens.append(row.first_token_counts)
    return found


def grouped(rows: Iterable[CallHour], name: Callable[[CallHour], str]) -> dict[str, list[CallHour]]:
    found: dict[str, list[CallHour]] = {}
    for row in rows:
        found.setdefault(name(row), []).append(row)
    return found
