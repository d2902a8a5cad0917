"""What organizations on their free quota may do."""

from uuid import uuid4

import pytest

from billing.engine import Hold
from billing.engine.holds import Lease
from relay.errors import RelayError
from relay.free_tier import FreeTier


def hold(organization_id: int, *, free_tier: bool = True) -> Hold:
    lease = Lease(id=uuid4(), organization_id=organization_id)
    return Hold(lease=lease, amount_nano_usd=1, strict=True, free_tier=free_tier, deadline=0.0)


def test_only_so_many_calls_at_once() -> None:
    tier = FreeTier(models=frozenset(), concurrency=2)
    with tier.admitted(hold(1), "a"), tier.admitted(hold(1), "a"):
        with pytest.raises(RelayError) as refused, tier.admitted(hold(1), "a"):
            pytest.fail("a third call was admitted")
        assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
        with tier.admitted(hold(2), "a"), tier.admitted(hold(1, free_tier=False), "a"):
            pass
    with tier.admitted(hold(1), "a"):
        pass
    assert not tier._running


def test_a_call_that_fails_makes_room_again() -> None:
    tier = FreeTier(models=frozenset(), concurrency=1)
    for _ in range(2):
        with pytest.raises(KeyError), tier.admitted(hold(1), "a"):
            raise KeyError


def test_only_the_models_that_are_allowed() -> None:
    tier = FreeTier(models=frozenset({"cheap"}), concurrency=0)
    with tier.admitted(hold(1), "cheap"), tier.admitted(hold(1, free_tier=False), "dear"):
        pass
    with pytest.raises(RelayError) as refused, tier.admitted(hold(1), "dear"):
        pytest.fail("a dear model was admitted")
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")
