"""Whether what upstreams say that we used is what we say: by day and model, tokens and costs."""

from relay.reconciliation.services import (
    UnableToReconcile,
    drift_threshold_ppm,
    drifting,
    reconcile,
    reconcile_all,
)
from relay.reconciliation.upstream_books import UnreadableBooks

__all__ = [
    "UnableToReconcile",
    "UnreadableBooks",
    "drift_threshold_ppm",
    "drifting",
    "reconcile",
    "reconcile_all",
]
