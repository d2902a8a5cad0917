"""The engine under random histories of calls, deaths and failing transactions.

After every step the audit of the database must be clean; at the end every call must have exactly
the record that it should have, and every cent must be somewhere.

What a rule draws never depends on what the engine did: it runs in real time, which hypothesis
cannot repeat. A rule that finds nothing to do does nothing.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from billing.engine import (
    EngineUnavailable,
    Hold,
    InsufficientQuota,
    OutcomeUnknown,
    Timing,
    spend_limits_load,
)
from billing.engine.database import Database
from billing.engine.spend_limits import LimitTerms
from billing.engine.sweeper import DatabaseClock, sweep
from billing.windows import PERS
from tests.billing.engine.faulty import Fate, Faults, FaultyEngine
from tests.billing.engine.support import (
    DONE,
    Bank,
    bounded_by,
    call_of,
    request,
    settings_for,
)

T = TypeVar("T")
TIMING = Timing(
    heartbeat=0.05,
    ttl=5.0,
    step=0.1,
    max_call=30.0,
    grace=0.5,
    ship=0.005,
    sync=0.05,
    scan=0.02,
    sweep=0.05,
    idle=0.2,
    recall_wait=0.1,
    refusal_memory=0.05,
    timeout=0.4,
)
FATES = st.one_of(
    st.just(Fate("passes")),
    st.just(Fate("cut")),
    st.just(Fate("answer_lost")),
    st.just(Fate("late")),
    st.builds(Fate, st.just("breaks"), st.integers(0, 9)),
)
# The tests set expiries back by a day; how late leases may close is not what they look at.
A_LONG_TIME = 1e6
AMOUNTS = st.sampled_from([1, 30, 100, 250, 900])
# Which of its organization's two limits bound a call, and what they begin with.
BOUNDS = st.sampled_from([(), (0,), (1,), (0, 1)])
CAPS = (700, 300)


class Histories(RuleBasedStateMachine):
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bank = Bank(self.url)
        self.folder = Path(tempfile.mkdtemp(prefix="tollgate-protocol-"))
        self.settings = settings_for(self.url, self.folder / "journals", timing=TIMING)
        self.faults = Faults()
        self.engines: list[FaultyEngine] = []
        self.organizations: list[tuple[int, bool]] = []
        self.granted: dict[int, int] = {}
        self.open: list[tuple[FaultyEngine, Hold, Any]] = []
        self.expected: dict[Any, tuple[str, int, int]] = {}  # Request id -> outcome, charge, org.
        self.limits: dict[int, list[LimitTerms]] = {}
        self.caps: dict[int, int] = {}
        self.bounded: dict[Any, list[int]] = {}  # Request id -> the limits in which it counts.
        self.may_be_over = False

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize()
    def begin(self) -> None:
        for strict in (True, False):
            organization = self.bank.organization(1_000, strict=strict)
            self.organizations.append((organization, strict))
            self.granted[organization] = 1_000
            self.limits[organization] = [
                self.bank.limit(organization, cap, per=per)
                for cap, per in zip(CAPS, PERS[::3], strict=True)
            ]
            self.caps |= {
                limit.id: cap for limit, cap in zip(self.limits[organization], CAPS, strict=True)
            }
        self.start()

    @rule()
    def start(self) -> None:
        if len(self.engines) == 3:
            return
        engine = FaultyEngine(self.settings, self.faults)
        self.run(engine.start())
        self.engines.append(engine)

    @rule(fates=st.lists(FATES, min_size=1, max_size=6))
    def plan_faults(self, fates: list[Fate]) -> None:
        self.faults.coming += fates

    @rule()
    def deliver_late_messages(self) -> None:
        self.run(self.faults.deliver())

    @rule(
        index=st.integers(0, 2),
        which=st.integers(0, 1),
        wanted=AMOUNTS,
        least=AMOUNTS,
        bounds=BOUNDS,
    )
    def open_call(
        self, index: int, which: int, wanted: int, least: int, bounds: tuple[int, ...]
    ) -> None:
        engine = self.engines[index % len(self.engines)]
        organization, strict = self.organizations[which]
        limits = [self.limits[organization][number] for number in bounds]
        try:
            asked = request(organization, max(wanted, least), min(wanted, least))
            bound = bounded_by(organization, *limits) if limits else None
            hold = self.run(engine.hold_open(asked, bound))
        except (InsufficientQuota, EngineUnavailable):
            return
        call = call_of(organization)
        engine.call_opened(hold, call)
        self.open.append((engine, hold, call))
        self.expected[call.request_id] = "lost", 0, organization
        self.bounded[call.request_id] = [limit.id for limit in limits]
        if strict and not self.may_be_over:
            for limit in limits:
                assert self.gone(limit) <= self.caps[limit.id]

    def gone(self, limit: LimitTerms) -> int:
        """What calls have spent of the limit, or hold and may spend yet."""
        held = {call.request_id: hold.amount_nano_usd for _, hold, call in self.open}
        return sum(
            held.get(request_id, self.expected[request_id][1])
            for request_id, limits in self.bounded.items()
            if limit.id in limits
        )

    @rule(which=st.integers(0, 1), number=st.integers(0, 1), cap=st.sampled_from([0, 300, 1_500]))
    def change_cap(self, which: int, number: int, cap: int) -> None:
        """As billing.limits.spend_limit_set does it; who has a connection hears of it."""
        organization, _ = self.organizations[which]
        limit = self.limits[organization][number]
        self.run(asyncio.to_thread(self.bank.cap_set, organization, limit, cap))
        self.may_be_over |= cap < self.caps[limit.id]
        self.caps[limit.id] = cap
        self.run(self.hear_of_limits())

    async def hear_of_limits(self) -> None:
        for engine in self.engines:
            with suppress(OutcomeUnknown):
                engine.limits_load(await engine.leases_database.run(spend_limits_load))

    @rule(index=st.integers(0, 9), cost=AMOUNTS)
    def settle_call(self, index: int, cost: int) -> None:
        if not self.open:
            return
        engine, hold, call = self.open.pop(index % len(self.open))
        charge = engine.call_settle(hold, DONE, cost)
        assert charge == (min(cost, hold.amount_nano_usd) if hold.strict else cost)
        self.expected[call.request_id] = "completed", charge, call.organization_id

    @rule(which=st.integers(0, 1), amount=AMOUNTS)
    def top_up(self, which: int, amount: int) -> None:
        organization, _ = self.organizations[which]
        # Beside the loop: a transaction that is under way may hold the lock that this waits for.
        self.run(asyncio.to_thread(self.bank.repay_and_grant, organization, amount))
        self.granted[organization] += amount

    @rule(milliseconds=st.sampled_from([1, 10, 60, 250]))
    def wait(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @rule(index=st.integers(0, 2))
    def kill(self, index: int) -> None:
        if len(self.engines) == 1:
            return
        engine = self.engines.pop(index % len(self.engines))
        self.open = [entry for entry in self.open if entry[0] is not engine]
        self.run(engine.die())

    @rule(index=st.integers(0, 2))
    def declare_lost(self, index: int) -> None:
        """The database gives a worker up while it lives: as after a long stall."""
        self.may_be_over = True  # What its calls have promised is charged all the same.
        engine = self.engines[index % len(self.engines)]
        query = "UPDATE billing_worker SET expires_at = now() - interval '1 day' WHERE id = ANY(%s)"
        self.run(asyncio.to_thread(self.bank.connection.execute, query, [engine.serving()]))

        async def sweep_once() -> None:
            database = Database(url=self.url, timeout=5.0)
            await sweep(database, TIMING, DatabaseClock())
            await database.close()

        self.run(sweep_once())

    @invariant()
    def audit_is_clean(self) -> None:
        assert self.bank.findings(retain=A_LONG_TIME) == []

    @override
    def teardown(self) -> None:
        try:
            if self.engines:
                self.finish()
        finally:
            for engine in self.engines:
                self.run(engine.die())
            self.loop.close()
            self.bank.connection.close()
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        self.faults.coming.clear()
        self.run(self.faults.deliver())
        for entry in list(self.open):
            self.open.remove(entry)
            engine, hold, call = entry
            charge = engine.call_settle(hold, DONE, 7)
            self.expected[call.request_id] = "completed", charge, call.organization_id
        while self.engines:
            stopped = self.engines.pop()
            self.run(stopped.stop(10))
            stopped.abandon()
        last = FaultyEngine(self.settings, self.faults)
        self.run(last.start())
        self.run(last.stop(10))
        self.check_everything()

    def check_limits(self) -> None:
        for limit in [limit for limits in self.limits.values() for limit in limits]:
            used, leased = self.bank.row(
                "SELECT coalesce(sum(used_nano_usd), 0)::bigint,"
                " coalesce(sum(leased_nano_usd), 0)::bigint"
                " FROM billing_spendlimitperiod WHERE limit_id = %s",
                limit.id,
            )
            assert (used, leased) == (self.gone(limit), 0)
            assert self.bank.spent_of(limit) == used

    def check_everything(self) -> None:
        self.check_limits()
        assert self.bank.findings(retain=A_LONG_TIME) == []
        assert list((self.folder / "journals").iterdir()) == []
        for organization, strict in self.organizations:
            rows = self.bank.connection.execute(
                "SELECT request_id, outcome, charge_nano_usd, organization_id"
                " FROM billing_usagerecord WHERE organization_id = %s",
                [organization],
            ).fetchall()
            mine = {k: v for k, v in self.expected.items() if v[2] == organization}
            assert {row[0]: row[1:] for row in rows} == mine
            assert len(rows) == len(mine)
            written_off = self.bank.number(
                "SELECT -coalesce(sum(amount_nano_usd), 0)::bigint FROM billing_ledgerentry"
                " WHERE account = 'write_off' AND organization_id = %s",
                organization,
            )
            charged = sum(charge for _, charge, _ in mine.values())
            balance = self.bank.balance(organization)
            assert balance == self.granted[organization] - charged + written_off
            assert balance >= 0 or not strict
            assert (
                self.bank.number(
                    "SELECT count(*) FROM billing_lease WHERE state = 'open'"
                    " AND organization_id = %s",
                    organization,
                )
                == 0
            )


def test_random_histories(fresh_database_url: str) -> None:
    Histories.url = fresh_database_url
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
