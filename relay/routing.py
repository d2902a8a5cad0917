"""Which channel takes a call: a pure decision over what is known of the channels."""

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the decision looks at."""

    @property
    def id(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def weight(self) -> float: ...


C = TypeVar("C", bound=Candidate)


def choose(candidates: Sequence[C], *, tried: Collection[int], draw: float) -> C | None:
    """The channel of the highest priority that was not tried yet; None when all were.

    Between channels of equal priority `draw`, a number in [0, 1), decides in proportion to their
    weights.
    """
    if len(candidates) == 1 and not tried:  # Most models have one channel.
        return candidates[0]
    left = [candidate for candidate in candidates if candidate.id not in tried]
    if not left:
        return None
    highest = max(candidate.priority for candidate in left)
    best = [candidate for candidate in left if candidate.priority == highest]
    point = draw * sum(candidate.weight for candidate in best)
    for candidate in best:
        point -= candidate.weight
        if point < 0:
            return candidate
    return best[-1]
