"""What a terminal shows of the simulated scenarios."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from bench.capacity.fleet import TIMING
from bench.capacity.scenarios import Plan, Seen, per_call, percentile, play

QUICK = (
    Plan(name="one wallet, 10 calls/s", per_second=10, seconds=20),
    Plan(name="one wallet, 100 calls/s", per_second=100, seconds=20),
    Plan(name="one wallet, 1,000 calls/s", per_second=1000, warm_up=12, seconds=10),
    Plan(name="400 workers, 100 calls/s", workers=4, per_second=100, warm_up=12, seconds=10),
    Plan(
        name="10 nodes, the wallet runs dry and is refilled",
        nodes=10,
        per_second=20,
        warm_up=0,
        seconds=50,
        funded_seconds=20,
        refilled_at=40,
    ),
    Plan(
        name="100 nodes, the wallet runs dry and is refilled",
        per_second=20,
        warm_up=0,
        seconds=50,
        funded_seconds=20,
        refilled_at=40,
    ),
    Plan(
        name="100 customers on 100 nodes, 100 calls/s",
        organizations=100,
        per_second=100,
        warm_up=12,
        seconds=10,
    ),
    Plan(
        name="a node dies and is back after 3 s",
        per_second=50,
        seconds=12,
        killed_at=2,
        back_after=3.0,
    ),
    Plan(
        name="a node of 10 never comes back (calls last a minute at most)",
        nodes=10,
        per_second=10,
        seconds=170,
        killed_at=1,
        timing=replace(TIMING, max_call=60.0),
    ),
)
WHOLE = (
    *QUICK,
    Plan(name="one wallet, 10,000 calls/s", per_second=10_000, warm_up=10, seconds=8),
    Plan(name="400 workers, 1,000 calls/s", workers=4, per_second=1000, seconds=10),
    Plan(name="400 workers, 10,000 calls/s", workers=4, per_second=10_000, warm_up=8, seconds=6),
    Plan(
        name="100 customers on 100 nodes, 1,000 calls/s",
        organizations=100,
        per_second=1000,
        warm_up=12,
        seconds=8,
    ),
    Plan(
        name="100 nodes, 100 calls/s, the wallet runs dry and is refilled",
        per_second=100,
        warm_up=0,
        seconds=60,
        funded_seconds=20,
        refilled_at=50,
    ),
)


def played(plans: Sequence[Plan], *, seed: int, processes: int) -> Iterator[Seen]:
    """The longest first, so that none of them is alone at the end; each as soon as it can be."""
    order = sorted(plans, key=lambda plan: -plan.per_second)
    with ProcessPoolExecutor(max_workers=processes) as pool:
        yield from pool.map(play, [replace(plan, seed=seed) for plan in order])


def lines(seen: Seen) -> list[str]:
    tally, answers, plan = seen.tally, seen.answers, seen.plan
    busiest = max(tally.by_wallet.values(), default=0) / seen.seconds
    held = max(tally.wallet_held.values(), default=0) / 1e9 / seen.seconds
    waited = sorted(answers.waits)
    kinds = ("lease_grow", "lease_return", "lease_close", "short", "none")
    each = ", ".join(f"{name} {tally.transactions[name] / seen.seconds:.1f}" for name in kinds)
    row = f"{busiest:.0f} at the busiest wallet, whose row is locked {100 * held:.0f} % of the time"
    ended = f"{answers.served} served, {answers.denied} refused, {answers.unavailable} to try again"
    p50, p99 = (1e3 * per_call(seen, waited, part) for part in (0.5, 0.99))
    told = [
        "",
        f"{plan.name} ({plan.nodes} nodes x {plan.workers}, {plan.organizations} wallets)",
        f"  lease transactions/s  {seen.transactions():.1f} ({each})",
        f"  lease statements/s    {seen.rate():.0f} in total, {row}",
        f"  waits for that row    {_milliseconds(sorted(tally.wallet_waits))}",
        f"  calls                 {ended}; {len(waited)} of the served waited",
        f"  waits for a hold      of all p50 {p50:.1f}, p99 {p99:.1f} ms; {_milliseconds(waited)}",
        f"  PostgreSQL            {seen.server_share:.2f} cores, shipping and renewals included",
    ]
    if seen.denials:
        told += _denials(seen)
    if plan.killed_at is not None:
        back = "never" if seen.back_after is None else f"after {seen.back_after:.1f} s"
        told.append(f"  the dead node's money came back {back}")
    return told + [f"  ERROR: {error}" for error in seen.errors]


def _denials(seen: Seen) -> list[str]:
    payable = sum(denial.payable_for > 0 for denial in seen.denials)
    longest = max(denial.starved_for for denial in seen.denials)
    right, wrong = len(seen.denials) - payable, len(seen.wrongly_denied)
    return [
        f"  refusals              {right} right: the money was not there; {payable} though it was",
        f"  refused too long      {wrong} (bound {seen.bound:.0f} s); the longest {longest:.1f} s",
    ]


def _milliseconds(ordered: Sequence[float]) -> str:
    if not ordered:
        return "none"
    found = (1e3 * percentile(ordered, part) for part in (0.5, 0.99, 1.0))
    return "of those who did p50 {:.1f}, p99 {:.1f}, worst {:.1f} ms".format(*found)
