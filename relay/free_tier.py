"""What the operator allows organizations that live on their free quota alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from billing.engine import Hold
from relay import errors

RETRY_SECONDS = 1.0


class FreeTier:
    """Which models, and how many calls at once per organization in this process; both optional."""

    def __init__(self, *, models: frozenset[str], concurrency: int) -> None:
        self._models = models  # Empty: all.
        self._concurrency = concurrency  # 0: no limit.
        self._running: Counter[int] = Counter()

    @contextmanager
    def admitted(self, hold: Hold, model: str) -> Iterator[None]:
        """Inside, the call is one of its organization's. Raises RelayError."""
        if not hold.free_tier:
            yield
            return
        if self._models and model not in self._models:
            raise errors.model_not_found(model)
        organization_id = hold.lease.organization_id
        if self._concurrency and self._running[organization_id] >= self._concurrency:
            limit = f"{self._concurrency} calls at once on the free quota"
            raise errors.rate_limited(limit, retry_after_seconds=RETRY_SECONDS)
        self._running[organization_id] += 1
        try:
            yield
        finally:
            self._running[organization_id] -= 1
            if not self._running[organization_id]:
                del self._running[organization_id]
