"""Exact money at full speed: a lease before a call, a journal behind it (see billing/README.md)."""

from billing.engine.database import Connection, Database, OutcomeUnknown
from billing.engine.durability import Durability
from billing.engine.engine import MoneyEngine
from billing.engine.holds import (
    Bounds,
    EngineUnavailable,
    Hold,
    HoldRequest,
    HoldState,
    InsufficientQuota,
    SpendLimitReached,
)
from billing.engine.journal import JournalFailed
from billing.engine.records import Attempt, Call, Outcome, fitting
from billing.engine.settings import EngineSettings
from billing.engine.spend_limits import LimitSet, SpendLimitTable, spend_limits_load
from billing.engine.timing import Timing
from billing.engine.worker import DeadlinePassed

__all__ = [
    "Attempt",
    "Bounds",
    "Call",
    "Connection",
    "Database",
    "DeadlinePassed",
    "Durability",
    "EngineSettings",
    "EngineUnavailable",
    "Hold",
    "HoldRequest",
    "HoldState",
    "InsufficientQuota",
    "JournalFailed",
    "LimitSet",
    "MoneyEngine",
    "Outcome",
    "OutcomeUnknown",
    "SpendLimitReached",
    "SpendLimitTable",
    "Timing",
    "fitting",
    "spend_limits_load",
]
