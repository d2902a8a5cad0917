"""What a worker keeps in memory: its leases, and the holds that calls opened on them. Pure."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from msgspec import Struct

from billing.engine.limit_rooms import Room
from billing.engine.records import Call, LimitWindow
from billing.engine.spend_limits import LimitSet, LimitTerms

LEAST_HEADROOM, MAX_HEADROOM = 4, 4096
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.05, 0.2


class InsufficientQuota(Exception):
    """The wallet cannot pay this call, by a definite answer of the database."""


class SpendLimitReached(InsufficientQuota):
    """A spend limit has no room for this call, by a definite answer of the database."""

    def __init__(self, limit: LimitTerms, room: Room) -> None:
        super().__init__(f"{limit.scope} per {limit.per}")
        self.limit = limit
        self.cap_nano_usd = room.cap_nano_usd
        self.resets_at = room.window.end


class EngineUnavailable(Exception):
    """No hold can be opened now, for a reason that is ours: the call may be tried again."""


class Bounds(Struct, frozen=True, kw_only=True, gc=False):
    """How much a call would like to set aside, and with how little it can still be served."""

    minimum_nano_usd: int
    wanted_nano_usd: int


class HoldRequest(Struct, frozen=True, kw_only=True, gc=False):
    organization_id: int
    # Which of the two counts is the organization's policy, which the engine knows.
    strict: Bounds
    standard: Bounds


# Calls share leases if they are of the same organization, and bounded by the same limits, if any.
AccountKey = int | LimitSet


@dataclass(slots=True, kw_only=True)
class Lease:
    """What a worker knows of one of its leases. Amounts in nano-USD, times on its own clock."""

    id: UUID
    organization_id: int
    key: AccountKey = 0
    limits: tuple[LimitWindow, ...] = ()  # The windows in which it takes room.
    version: int = 0
    granted: int = 0
    spent: int = 0
    held: int = 0
    usable_until: float = float("inf")
    used_at: float = 0.0
    last_end: int = 0  # The journal's offset behind the last record that spent of it.
    busy: bool = False  # An operation on it is in flight; there is never more than one.
    draining: bool = False  # It takes no new holds and gives back what they leave.
    recalled: bool = False  # Somebody ran short while it was busy.

    def __post_init__(self) -> None:
        self.key = self.key or self.organization_id

    @property
    def free(self) -> int:
        return self.granted - self.spent - self.held

    def takes_of(self, limit_id: int) -> bool:
        """Also before it is known in which window."""
        key = self.key
        return any(window.limit_id == limit_id for window in self.limits) or (
            isinstance(key, LimitSet) and key.has(limit_id)
        )


class HoldState(Enum):
    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"


class Hold(Struct, kw_only=True, eq=False):
    """Money of a lease that one call may spend; it ends exactly once, settled or released."""

    lease: Lease
    amount_nano_usd: int
    strict: bool
    free_tier: bool
    deadline: float
    state: HoldState = HoldState.OPEN
    # Set when its `opened` record is in the journal; from then on it must be settled.
    call: Call | None = None
    opened_offset: int = -1
    # Set where the reply must wait for more than the write of its record.
    kept: "asyncio.Future[None] | None" = None


@dataclass(slots=True, kw_only=True, eq=False)
class Waiter:
    """A call that waits for its hold."""

    request: HoldRequest
    asked_at: float
    granted: "asyncio.Future[Hold]"
    # A lease operation was answered since it asked: less than wanted is now acceptable.
    answered: bool = False


@dataclass(slots=True, kw_only=True)
class Account:
    """What a worker knows of one organization, or of its calls that the same limits bound."""

    organization_id: int
    limits: LimitSet | None = None
    strict: bool = True  # Until the database says otherwise: the safe assumption.
    free_tier: bool = False
    lease: Lease | None = None
    waiting: list[Waiter] = field(default_factory=list)
    # While this lasts, the wallet is known to hold nothing more: no statement is worth it.
    dry_until: float = 0.0
    # A refusal is remembered: calls that need as much or more are refused at once.
    refused_until: float = 0.0
    refused_minimum: int = 0
    short_limit: Room | None = None  # It was refused for want of room in there.
    # The next extension's size, in calls.
    headroom: int = LEAST_HEADROOM
    grown_at: float = 0.0
    # Who was told that the wallet is short asks again at the next of these, or when it hears that
    # money came back; each time in vain makes the next pause longer.
    retry: asyncio.TimerHandle | None = None
    pause: float = RETRY_SECONDS
    money_came: bool = False  # While an operation was in flight.

    @property
    def key(self) -> AccountKey:
        return self.organization_id if self.limits is None else self.limits

    def refusal(self) -> InsufficientQuota:
        """Why calls are refused, by the last answer."""
        if self.short_limit is not None and self.limits is not None:
            for limit in self.limits.limits:
                if limit.id == self.short_limit.limit_id:
                    return SpendLimitReached(limit, self.short_limit)
        return InsufficientQuota()

    def refuse(self, minimum: int, *, asked_before: float) -> int:
        """Refuse those who need as much or more and asked by then; returns how many they were."""
        refused = [
            waiter
            for waiter in self.waiting
            if self.bounds(waiter.request).minimum_nano_usd >= minimum
            and waiter.asked_at <= asked_before
        ]
        for waiter in refused:
            self.waiting.remove(waiter)
            if not waiter.granted.done():
                waiter.granted.set_exception(self.refusal())
        return len(refused)

    def bounds(self, request: HoldRequest) -> Bounds:
        return request.strict if self.strict else request.standard

    def set_headroom(self, now: float, *, cover: float) -> None:
        """For the extension that is about to be asked for: it should last so many seconds."""
        lasted = now - self.grown_at
        if lasted < cover:
            self.headroom = min(self.headroom * 2, MAX_HEADROOM)
        elif lasted > 2 * cover:
            self.headroom = max(self.headroom // 2, LEAST_HEADROOM)
        self.grown_at = now

    def retry_stop(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None
        self.pause = RETRY_SECONDS

    def forget_refusal(self) -> None:
        self.dry_until = self.refused_until = 0.0

    def refuses(self, minimum: int, now: float) -> bool:
        return now < self.refused_until and minimum >= self.refused_minimum


class Accounts(dict[AccountKey, Account]):
    """What a worker knows, by whose calls share leases."""

    def __init__(self) -> None:
        super().__init__()
        self._of_organizations: dict[int, dict[AccountKey, Account]] = {}

    def open(self, organization_id: int, limits: LimitSet | None) -> Account:
        """The account, which is a new one if there was none."""
        account = self.get(organization_id if limits is None else limits)
        if account is None:
            account = Account(organization_id=organization_id, limits=limits)
            self[account.key] = account
            self._of_organizations.setdefault(organization_id, {})[account.key] = account
        return account

    def of(self, organization_id: int) -> list[Account]:
        return list(self._of_organizations.get(organization_id, {}).values())

    def bound_by(self, limit_id: int) -> list[Account]:
        return [a for a in self.values() if a.limits is not None and a.limits.has(limit_id)]

    def keep(self, used: set[AccountKey]) -> None:
        """Forget those that are not used, and for whose leases nobody waits."""
        for key in [k for k, account in self.items() if k not in used and not account.waiting]:
            organization_id = self.pop(key).organization_id
            others = self._of_organizations[organization_id]
            del others[key]
            if not others:
                del self._of_organizations[organization_id]
