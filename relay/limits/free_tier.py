"""What the operator allows organizations that live on their free quota alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from billing.engine import Hold
from relay import errors
from relay.limits.limiter import RateLimits


class FreeTier:
    """Which models, and how many calls at once per organization; both optional."""

    def __init__(self, *, models: frozenset[str], concurrency: int, limits: RateLimits) -> None:
        self._models = models  # Empty: all.
        self._concurrency = concurrency  # 0: no limit.
        self._limits = limits

    @asynccontextmanager
    async def admitted(self, hold: Hold, model: str) -> AsyncIterator[None]:
        """Inside, the call is one of its organization's. Raises RelayError."""
        if not hold.free_tier:
            yield
            return
        if self._models and model not in self._models:
            raise errors.model_not_found(model)
        if not self._concurrency:
            yield
            return
        permit = await self._limits.slot(
            subject(hold.lease.organization_id), "the free quota", limit=self._concurrency
        )
        try:
            yield
        finally:
            permit.release()


def subject(organization_id: int) -> str:
    return f"free:{organization_id}"
