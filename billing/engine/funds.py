"""What there is for leases, in wallets and in limits, and how much of it each lease gets. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.engine.leases import LockedWallet
from billing.engine.limit_rooms import Room
from billing.engine.money_moves import Slice
from billing.engine.records import LimitWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a worker asks of a wallet and of limits: at least the minimum, at best all it wants."""

    worker_id: UUID
    organization_id: int
    lease_id: UUID
    version: int  # 0: the lease does not exist yet.
    minimum_nano_usd: int  # What the smallest waiting call needs; less than this is no help.
    desired_nano_usd: int  # What that call would like; a quarter's rule does not cut it.
    wanted_nano_usd: int  # What all that wait, and those expected next, would take.
    limit_ids: tuple[int, ...] = ()  # Of each it takes what it takes of the wallet.


@dataclass(slots=True)
class Purse:
    """The free parts of one wallet's grants, in the order in which they burn."""

    grants: list[tuple[int, int, Any]] = field(default_factory=list)  # Id, free, expiry.

    @property
    def available(self) -> int:
        return sum(free for _, free, _ in self.grants)

    def take(self, amount: int) -> tuple[list[Slice], Any]:
        """The origins of so much money, and when the first of them expires (None: never)."""
        slices: list[Slice] = []
        ends, rest = [], amount
        while rest:
            grant_id, free, expires_at = self.grants[0]
            part = min(rest, free)
            rest -= part
            slices.append((grant_id, part))
            if expires_at is not None:
                ends.append(expires_at)
            if part == free:
                del self.grants[0]
            else:
                self.grants[0] = (grant_id, free - part, expires_at)
        return slices, min(ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What one lease gets."""

    want: Want
    amount: int
    slices: list[Slice]
    # With the first of its grants to expire, and of its windows to end: no call may spend expired
    # money, nor count in a window that is over.
    ends_at: Any
    limits: Mapping[int, LimitWindow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """All that there is for the leases that are asked for, under the locks."""

    wallets: dict[int, LockedWallet]
    purses: dict[int, Purse]
    rooms: dict[int, Room]

    def rooms_of(self, want: Want) -> list[Room]:
        """Without those of limits that were removed since the worker heard of them."""
        return [self.rooms[limit] for limit in want.limit_ids if limit in self.rooms]

    def amount(self, want: Want) -> int | None:
        """How much the lease gets; None: less than is of use to anybody."""
        available = [self.purses[want.organization_id].available]
        available += [max(0, room.left) for room in self.rooms_of(want)]
        amounts = [_amount(want, each) for each in available]
        enough = [amount for amount in amounts if amount is not None]
        return min(enough) if len(enough) == len(amounts) else None

    def take(self, want: Want, amount: int) -> Taking:
        slices, ends_at = self.purses[want.organization_id].take(amount)
        rooms = self.rooms_of(want)
        for room in rooms:
            room.left -= amount
        ends = [ends_at, *(room.window.end for room in rooms)]
        return Taking(
            want=want,
            amount=amount,
            slices=slices,
            ends_at=min((end for end in ends if end is not None), default=None),
            limits={room.period_id: room.named for room in rooms},
        )


def _amount(want: Want, available: int) -> int | None:
    """How much of what is available the lease gets; None: less than is of use to anybody."""
    if available < want.minimum_nano_usd:
        return None
    desired = max(want.minimum_nano_usd, want.desired_nano_usd, available // 4)
    return min(max(want.wanted_nano_usd, want.desired_nano_usd), desired, available)
