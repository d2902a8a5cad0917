"""Sees all money at once, as no part of the product can: was a refused call payable?"""

import bisect
from dataclasses import dataclass, field
from uuid import UUID

from bench.capacity.books import LeaseRow


@dataclass(slots=True)
class FreeMoney:
    """What an organization has that no call holds and no dead worker keeps, and since when.

    `_lows` are levels of the past, rising: for each amount, the last of them below it tells when
    that amount was last not there.
    """

    now_free: int = 0
    _lows: list[int] = field(default_factory=list)
    _until: list[float] = field(default_factory=list)

    def change(self, amount: int, at: float) -> None:
        if self._until:
            self._until[-1] = at
        self.now_free += amount
        while self._lows and self._lows[-1] >= self.now_free:
            self._lows.pop()
            self._until.pop()
        self._lows.append(self.now_free)
        self._until.append(at)

    def payable_for(self, amount: int, at: float) -> float:
        """For how many seconds, without a break, so much has been free; 0: it is not."""
        if self.now_free < amount:
            return 0.0
        index = bisect.bisect_left(self._lows, amount) - 1
        return at - self._until[index] if index >= 0 else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    organization_id: int
    at: float
    minimum_nano_usd: int
    payable_for: float  # Without a break, when it was refused.
    starved_for: float  # The part of that in which this customer has been asking for it.


class Observer:
    def __init__(self) -> None:
        self.money: dict[int, FreeMoney] = {}
        self.denials: list[Denial] = []
        self.returned_at: dict[UUID, float] = {}  # When a dead worker's lease gave its money back.
        self._dead: dict[UUID, int] = {}  # What each lease of a dead worker keeps.

    def of(self, organization_id: int) -> FreeMoney:
        return self.money.setdefault(organization_id, FreeMoney())

    def change(self, organization_id: int, amount: int, at: float) -> None:
        self.of(organization_id).change(amount, at)

    def denied(self, organization_id: int, minimum: int, *, at: float, first_asked: float) -> None:
        payable_for = self.of(organization_id).payable_for(minimum, at)
        self.denials.append(
            Denial(
                organization_id=organization_id,
                at=at,
                minimum_nano_usd=minimum,
                payable_for=payable_for,
                starved_for=min(payable_for, at - first_asked),
            )
        )

    def died(self, lease: LeaseRow, *, spent: int, held: int, at: float) -> None:
        """Its owner is gone, with calls that held so much: that is nobody's until it is closed."""
        kept = lease.granted - spent
        self._dead[lease.id] = kept
        self.change(lease.organization_id, held - kept, at)

    def freed(self, lease: LeaseRow, at: float) -> None:
        if kept := self._dead.pop(lease.id, 0):
            self.returned_at[lease.id] = at
            self.change(lease.organization_id, kept, at)

    @property
    def kept_by_the_dead(self) -> int:
        return sum(self._dead.values())
