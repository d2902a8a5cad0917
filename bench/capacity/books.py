"""What the simulated PostgreSQL holds: the rows that the lease transactions read and write.

A change is undone in reverse when its transaction is rolled back. Others see it a little before it
is committed, unlike in PostgreSQL; all that matters is read under the row's lock.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

NEVER = float("-inf")


@dataclass(slots=True, kw_only=True)
class Wallet:
    organization_id: int
    strict: bool
    balance: int = 0
    debt: int = 0
    short_at: float = NEVER


@dataclass(slots=True, kw_only=True)
class Grant:
    id: int
    organization_id: int
    amount: int
    free: int
    leased: int = 0
    burnt: int = 0


@dataclass(slots=True, kw_only=True)
class WorkerRow:
    id: UUID
    expires_at: float
    state: str = "live"
    shipped_offset: int = 0
    was_lost: bool = False


@dataclass(slots=True, kw_only=True)
class SliceRow:
    id: int
    lease: "LeaseRow"
    grant_id: int
    amount: int


@dataclass(slots=True, kw_only=True)
class LeaseRow:
    id: UUID
    worker_id: UUID
    organization_id: int
    usable_until: float
    state: str = "open"
    version: int = 0
    granted: int = 0
    spent: int = 0
    slices: tuple[SliceRow, ...] = ()


@dataclass(slots=True)
class Books:
    wallets: dict[int, Wallet] = field(default_factory=dict)
    grants: dict[int, list[Grant]] = field(default_factory=lambda: defaultdict(list))
    grant: dict[int, Grant] = field(default_factory=dict)
    workers: dict[UUID, WorkerRow] = field(default_factory=dict)
    leases: dict[UUID, LeaseRow] = field(default_factory=dict)
    slices: dict[int, SliceRow] = field(default_factory=dict)
    slices_made: int = 0
    ledger: Counter[str] = field(default_factory=Counter)
    postings: Counter[str] = field(default_factory=Counter)  # By reason.
    records: int = 0
    charged: int = 0
    # Kept so that no statement walks through all leases that there ever were.
    open_by_organization: dict[int, dict[UUID, LeaseRow]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    open_by_worker: dict[UUID, dict[UUID, LeaseRow]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def fund(self, organization_id: int, amount: int, *, strict: bool = True) -> None:
        wallet = self.wallets.setdefault(
            organization_id, Wallet(organization_id=organization_id, strict=strict)
        )
        grant = Grant(
            id=len(self.grant) + 1, organization_id=organization_id, amount=amount, free=amount
        )
        self.grant[grant.id] = grant
        self.grants[organization_id].append(grant)
        wallet.balance += amount
        self.ledger["source"] -= amount
        self.ledger["wallet"] += amount

    def errors(self) -> list[str]:
        """Which of the protocol's invariants do not hold, where no transaction is under way."""
        opened = [lease for lease in self.leases.values() if lease.state == "open"]
        grants = self.grant.values()
        statements = {
            "a posting is not balanced": sum(self.ledger.values()) == 0,
            "wallets differ from their grants": all(
                wallet.balance == sum(g.free for g in self.grants[number]) - wallet.debt
                for number, wallet in self.wallets.items()
            ),
            "wallets differ from the ledger": self.ledger["wallet"]
            == sum(wallet.balance for wallet in self.wallets.values()),
            "a grant does not add up": all(
                g.amount == g.free + g.leased + g.burnt and min(g.free, g.leased, g.burnt) >= 0
                for g in grants
            ),
            "escrow differs from the leases": self.ledger["escrow"]
            == sum(lease.granted for lease in opened)
            == sum(part.amount for part in self.slices.values())
            == sum(g.leased for g in grants),
            "a lease has spent more than it has": all(
                0 <= lease.spent <= lease.granted for lease in self.leases.values()
            ),
            "leases differ from their records": self.charged
            == sum(lease.spent for lease in self.leases.values()),
        }
        return [error for error, holds in statements.items() if not holds]


class Changes:
    """What one transaction has changed, so that it can be undone."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    @property
    def any(self) -> bool:
        return bool(self._undo)

    def put(self, row: Any, name: str, value: Any) -> None:
        old = getattr(row, name)
        self._undo.append(lambda: setattr(row, name, old))
        setattr(row, name, value)

    def add(self, row: Any, name: str, amount: int) -> None:
        setattr(row, name, getattr(row, name) + amount)
        self._undo.append(lambda: setattr(row, name, getattr(row, name) - amount))

    def insert(self, table: dict[Any, Any], key: Any, row: Any) -> None:
        table[key] = row
        self._undo.append(lambda: table.pop(key, None))

    def delete(self, table: dict[Any, Any], key: Any) -> None:
        row = table.pop(key)
        self._undo.append(lambda: table.__setitem__(key, row))

    def count(self, counter: Counter[str], name: str, amount: int) -> None:
        counter[name] += amount
        self._undo.append(lambda: counter.subtract({name: amount}))

    def roll_back(self) -> None:
        while self._undo:
            self._undo.pop()()
