"""One scenario: a fleet, its traffic, what happens to its money; and what was seen of it."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from bench.capacity import virtual_time
from bench.capacity.books import LeaseRow
from bench.capacity.fleet import TIMING, Fleet, fleet, journals
from bench.capacity.observer import Denial, Observer
from bench.capacity.server import LEASE_KINDS, Costs, Server, Tally
from bench.capacity.sql import Transaction
from bench.capacity.traffic import Answers, Traffic, mean_cost
from billing.engine import Timing

PLENTY = 10**15
ENOUGH_CALLS = 20  # A refill of a wallet pays so many seconds of the traffic.


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    name: str
    nodes: int = 100
    workers: int = 1
    organizations: int = 1
    per_second: float
    warm_up: float = 15.0
    seconds: float = 20.0
    funded_seconds: float | None = None  # Of traffic; None: more than it can spend.
    refilled_at: float | None = None  # Seconds after the warm-up.
    killed_at: float | None = None
    back_after: float | None = None  # None: the node never comes back.
    timing: Timing = TIMING
    costs: Costs = field(default_factory=Costs)
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    plan: Plan
    tally: Tally  # Of the measured seconds.
    seconds: float
    server_share: float  # Of one core.
    answers: Answers
    denials: Sequence[Denial]
    left_nano_usd: Mapping[int, int]
    errors: Sequence[str]
    postings: Mapping[str, int]
    total: Mapping[str, int]  # Transactions by kind, from the first to the last.
    back_after: float | None  # Seconds from a death until all its money had come back.

    def rate(self, kinds: Sequence[str] = LEASE_KINDS) -> float:
        return sum(self.tally.statements[kind] for kind in kinds) / self.seconds

    def transactions(self, kinds: Sequence[str] = LEASE_KINDS) -> float:
        return sum(self.tally.transactions[kind] for kind in kinds) / self.seconds

    @property
    def bound(self) -> float:
        """How long the protocol may refuse what could be paid, where no message is lost."""
        return self.plan.timing.recall_wait + 2 * self.plan.timing.heartbeat

    def starved(self, more_than: float) -> list[Denial]:
        """Denials of customers who have asked for so long, and were payable all the time."""
        return [denial for denial in self.denials if denial.starved_for > more_than]

    @property
    def wrongly_denied(self) -> list[Denial]:
        return self.starved(self.bound)


def play(plan: Plan) -> Seen:
    with journals() as folder:
        return virtual_time.run(lambda: _Play(plan).run(folder))


class _Play:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.server = Server(plan.costs)
        self.observer = Observer()
        self.server.on_freed = self._freed
        self.organizations = range(1, plan.organizations + 1)
        self.died_at: float | None = None

    def _freed(self, transaction: Transaction) -> None:
        for lease in transaction.freed:
            self.observer.freed(lease, self.server.now())

    def _fund(self, organization_id: int, amount: int) -> None:
        self.server.books.fund(organization_id, amount)
        self.observer.change(organization_id, amount, self.server.now())

    async def run(self, folder: Path) -> Seen:
        plan = self.plan
        spent_a_second = mean_cost(random.Random(plan.seed)) * plan.per_second / plan.organizations
        seconds = plan.funded_seconds
        for number in self.organizations:
            self._fund(number, PLENTY if seconds is None else round(spent_a_second * seconds))
        async with fleet(
            self.server, folder, nodes=plan.nodes, workers=plan.workers, timing=plan.timing
        ) as made:
            traffic = Traffic(
                made.engines,
                self.observer,
                list(self.organizations),
                per_second=plan.per_second,
                seed=plan.seed,
            )
            traffic.start()
            await asyncio.sleep(plan.warm_up)
            self.server.reset_tally()
            began = self.server.now()
            await self._events(made, traffic, round(spent_a_second * ENOUGH_CALLS))
            tally, seconds = self.server.tally, self.server.now() - began
            share = (self.server.cores.busy_seconds - tally.busy_seconds) / seconds
            self.server.reset_tally()
            traffic.stop()
            await traffic.drained()
        return Seen(
            plan=plan,
            tally=tally,
            seconds=seconds,
            server_share=share,
            answers=traffic.answers,
            denials=self.observer.denials,
            left_nano_usd={n: self.observer.of(n).now_free for n in self.organizations},
            errors=self._errors(traffic.answers),
            postings=self.server.books.postings,
            total=self.server.total,
            back_after=self._back_after(),
        )

    async def _events(self, made: Fleet, traffic: Traffic, refill: int) -> None:
        plan = self.plan
        events = [
            (at, event)
            for at, event in (
                (plan.refilled_at, "refill"),
                (plan.killed_at, "kill"),
                (plan.seconds, "end"),
            )
            if at is not None
        ]
        began = self.server.now()
        for at, event in sorted(events):
            await asyncio.sleep(began + at - self.server.now())
            if event == "refill":
                for number in self.organizations:
                    self._fund(number, refill)
                    self.server.tell(f"wallet 0 {number}")
            elif event == "kill":
                await self._kill(made, traffic)

    async def _kill(self, made: Fleet, traffic: Traffic) -> None:
        victim = made.engines[0]
        spent = {
            lease.id: lease.spent for each in victim.workers for lease in each.book.leases.values()
        }
        ids = {each.id for each in victim.workers}
        await made.kill(victim)
        held: dict[object, int] = {}
        for hold in traffic.died(victim):
            held[hold.lease.id] = held.get(hold.lease.id, 0) + hold.amount_nano_usd
        self.died_at = self.server.now()
        for lease in self._open_of(ids):
            self.observer.died(
                lease, spent=spent[lease.id], held=held.get(lease.id, 0), at=self.died_at
            )
        if self.plan.back_after is not None:
            await asyncio.sleep(self.plan.back_after)
            await made.start(0)

    def _open_of(self, ids: set[UUID]) -> list[LeaseRow]:
        return [lease for each in ids for lease in self.server.books.open_by_worker[each].values()]

    def _back_after(self) -> float | None:
        if self.died_at is None or self.observer.kept_by_the_dead:
            return None
        return max(self.observer.returned_at.values(), default=self.died_at) - self.died_at

    def _errors(self, answers: Answers) -> list[str]:
        books = self.server.books
        errors = books.errors()
        opened = sum(lease.state == "open" for lease in books.leases.values())
        if opened and not self.observer.kept_by_the_dead:
            errors.append(f"{opened} leases stay open")
        if self.plan.killed_at is None and books.ledger["revenue"] != answers.charged:
            errors.append("the revenue is not what the calls cost")
        if answers.settled != books.records and self.plan.killed_at is None:
            errors.append("not every settled call has its record")
        for number in self.organizations:
            funded = sum(grant.amount for grant in books.grants[number])
            if not 0 <= self.observer.of(number).now_free <= funded:
                errors.append(f"organization {number} has more or less than it can have")
        return errors


def per_call(seen: Seen, ordered: Sequence[float], part: float) -> float:
    """A percentile of all calls that were served; those that did not wait are not in the list."""
    at_once = seen.answers.served - len(ordered)
    index = round(part * seen.answers.served) - at_once - 1
    return ordered[min(index, len(ordered) - 1)] if ordered and index >= 0 else 0.0


def percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
