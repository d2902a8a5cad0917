"""How much a worker asks for: what its waiting calls need, and those expected next. Pure."""

from collections.abc import Sequence
from uuid import UUID

from billing.engine.funds import Want
from billing.engine.holds import Account, Bounds, Lease, Waiter


def want_of(
    account: Account,
    lease: Lease,
    waiters: Sequence[Waiter],
    *,
    worker_id: UUID,
    missing: int,  # What a running call was found to miss: it counts if nobody waits.
) -> Want:
    bounds = [account.bounds(waiter.request) for waiter in waiters]
    if not bounds:  # The running call goes on without it, so nothing is recalled for it.
        bounds = [Bounds(minimum_nano_usd=lease.free, wanted_nano_usd=lease.free + missing)]
    smallest = min(bounds, key=lambda b: b.minimum_nano_usd)
    total = sum(b.wanted_nano_usd for b in bounds)
    total += account.headroom * max(b.wanted_nano_usd for b in bounds)
    return Want(
        worker_id=worker_id,
        organization_id=account.organization_id,
        lease_id=lease.id,
        version=lease.version,
        minimum_nano_usd=smallest.minimum_nano_usd - lease.free,
        desired_nano_usd=smallest.wanted_nano_usd - lease.free,
        wanted_nano_usd=total - lease.free,
        limit_ids=tuple(limit.id for limit in account.limits.limits) if account.limits else (),
    )


def least_missing(account: Account) -> int:
    """With how much more the smallest of the waiting calls could be served."""
    free = 0 if account.lease is None else account.lease.free
    return min(account.bounds(each.request).minimum_nano_usd for each in account.waiting) - free
