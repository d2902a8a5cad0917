"""Figures of several rounds as one figure and its spread. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        assert values, "a figure needs a round"
        return cls(
            median=statistics.median(values),
            least=min(values),
            most=max(values),
            rounds=len(values),
        )

    @property
    def spread(self) -> float:
        """How far the rounds are apart, as a fraction of the median."""
        return (self.most - self.least) / self.median if self.median else 0.0


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Ours by theirs, round by round: neighbours in time share what the machine went through."""
    assert len(ours) == len(theirs), "each round measures both"
    return Figure.of([mine / other for mine, other in zip(ours, theirs, strict=True) if other])
