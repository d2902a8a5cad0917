"""How the simulated PostgreSQL knows a statement, and what a transaction of it is."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.capacity.books import Books, Changes, LeaseRow

Rows = list[tuple[Any, ...]]
Parameters = Any  # A sequence, or a mapping.


class LockKey(NamedTuple):
    table: str
    key: Any
    exclusive: bool = True


@dataclass(slots=True, eq=False)
class Transaction:
    """One transaction: what it changed and notified, and what it turned out to be."""

    books: Books
    at: float = 0.0  # The time of the statement that is executed.
    changes: Changes = field(default_factory=Changes)
    payloads: list[str] = field(default_factory=list)
    kind: str = "other"
    organizations: set[int] = field(default_factory=set)
    statements: int = 2  # BEGIN and COMMIT.
    freed: list[LeaseRow] = field(default_factory=list)  # Leases that it closes.


Handler = Callable[[Transaction, Parameters], Rows | int]
Locks = Callable[[Books, Parameters], list[LockKey]]


class Statement(NamedTuple):
    beginning: str
    ending: str
    locks: Locks
    weight: float  # How many times as much work as a plain one.
    handler: Handler


class UnknownStatement(Exception):
    """The product sends what the model does not know: add it to `bench/capacity/statements.py`."""


_STATEMENTS: list[Statement] = []
_found: dict[str, Statement] = {}


def _no_locks(_books: Books, _parameters: Parameters) -> list[LockKey]:
    return []


def find(query: str) -> Statement:
    """Raises UnknownStatement."""
    statement = _found.get(query)
    if statement is None:
        text = re.sub(r"\s+", " ", query).strip()
        fits = [s for s in _STATEMENTS if text.startswith(s.beginning) and text.endswith(s.ending)]
        if len(fits) != 1:
            raise UnknownStatement(f"{len(fits)} meanings of: {text}")
        statement = _found[query] = fits[0]
    return statement


def statement(
    beginning: str, *, ending: str = "", locks: Locks = _no_locks, weight: float = 1.0
) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        _STATEMENTS.append(Statement(beginning, ending, locks, weight, handler))
        return handler

    return add


def row_lock(table: str, position: int, *, exclusive: bool = True) -> Locks:
    """The lock of the row whose key is the parameter at that position."""
    return lambda _, parameters: [LockKey(table, parameters[position], exclusive)]
