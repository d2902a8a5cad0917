"""What organizations on their free quota may do."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from billing.engine import Hold
from billing.engine.holds import Lease
from relay.errors import RelayError
from relay.limits.free_tier import FreeTier, subject
from relay.limits.limiter import RateLimits


@pytest.fixture
async def limits(tmp_path: Path) -> AsyncIterator[RateLimits]:
    limits = RateLimits(tmp_path, realm="a database")
    limits.start()
    yield limits
    await limits.stop()


def hold(organization_id: int, *, free_tier: bool = True) -> Hold:
    lease = Lease(id=uuid4(), organization_id=organization_id)
    return Hold(lease=lease, amount_nano_usd=1, strict=True, free_tier=free_tier, deadline=0.0)


async def test_only_so_many_calls_at_once(limits: RateLimits) -> None:
    tier = FreeTier(models=frozenset(), concurrency=2, limits=limits)
    async with tier.admitted(hold(1), "a"), tier.admitted(hold(1), "a"):
        with pytest.raises(RelayError) as refused:
            await tier.admitted(hold(1), "a").__aenter__()
        assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
        async with tier.admitted(hold(2), "a"), tier.admitted(hold(1, free_tier=False), "a"):
            pass
    async with tier.admitted(hold(1), "a"):
        pass
    assert not limits.running(subject(1))


async def test_all_workers_of_a_node_count_together(limits: RateLimits, tmp_path: Path) -> None:
    other = RateLimits(tmp_path, realm="a database")
    other.start()
    here, there = (
        FreeTier(models=frozenset(), concurrency=1, limits=each) for each in (limits, other)
    )
    async with here.admitted(hold(1), "a"):
        with pytest.raises(RelayError):
            await there.admitted(hold(1), "a").__aenter__()
    async with there.admitted(hold(1), "a"):
        pass
    await other.stop()


async def test_a_call_that_fails_makes_room_again(limits: RateLimits) -> None:
    tier = FreeTier(models=frozenset(), concurrency=1, limits=limits)
    for _ in range(2):
        with pytest.raises(KeyError):
            async with tier.admitted(hold(1), "a"):
                raise KeyError


async def test_only_the_models_that_are_allowed(limits: RateLimits) -> None:
    tier = FreeTier(models=frozenset({"cheap"}), concurrency=0, limits=limits)
    async with tier.admitted(hold(1), "cheap"), tier.admitted(hold(1, free_tier=False), "dear"):
        pass
    with pytest.raises(RelayError) as refused:
        await tier.admitted(hold(1), "dear").__aenter__()
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")
