"""What engine tests share: organizations made by plain SQL, calls, and the audit of a database."""

import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

from billing.audit import CHECKS
from billing.engine import (
    Bounds,
    Call,
    EngineSettings,
    Hold,
    HoldRequest,
    LimitSet,
    MoneyEngine,
    Outcome,
    Timing,
)
from billing.engine.spend_limits import LimitTerms
from billing.identifiers import uuid7
from billing.windows import Per

QUICK = Timing(
    heartbeat=0.2,
    ttl=2.0,
    step=0.1,
    max_call=2.0,
    grace=0.9,
    ship=0.02,
    sync=0.02,
    scan=0.1,
    sweep=0.1,
    idle=5.0,
    recall_wait=0.5,
    refusal_memory=0.2,
    timeout=0.5,
)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The system refuses to write any file beyond so many bytes: a real failing write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Bank:
    """An observer and operator of one database, over a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True)

    def organization(self, amount: int, *, strict: bool = True) -> int:
        """A new organization with one grant of so many nano-USD."""
        slug = f"o{uuid4().hex[:12]}"
        organization_id = self.number(
            "INSERT INTO accounts_organization (slug, name, status, time_zone, created_at)"
            " VALUES (%s, %s, 'active', 'UTC', now()) RETURNING id",
            slug,
            slug,
        )
        self.connection.execute(
            "INSERT INTO billing_wallet (organization_id, strict, strict_always,"
            " balance_nano_usd, debt_nano_usd) VALUES (%s, %s, false, 0, 0)",
            [organization_id, strict],
        )
        if amount:
            self.grant(organization_id, amount)
        return organization_id

    def grant(self, organization_id: int, amount: int, *, expires_in: float | None = None) -> int:
        with self.connection.transaction():
            self.connection.execute(
                "UPDATE billing_wallet SET balance_nano_usd = balance_nano_usd + %s"
                " WHERE organization_id = %s",
                [amount, organization_id],
            )
            grant_id = self.number(
                "INSERT INTO billing_grant (organization_id, kind, amount_nano_usd,"
                " free_nano_usd, leased_nano_usd, burnt_nano_usd, expired_nano_usd, reason,"
                " created_at, expires_at)"
                " VALUES (%s, 'top_up', %s, %s, 0, 0, 0, '', now(),"
                " now() + make_interval(secs => %s)) RETURNING id",
                organization_id,
                amount,
                amount,
                expires_in,
            )
            posting = uuid4()
            for sequence, (account, part) in enumerate((("source", -amount), ("wallet", amount))):
                self.connection.execute(
                    "INSERT INTO billing_ledgerentry (posting, sequence, account, organization_id,"
                    " amount_nano_usd, reason, created_at)"
                    " VALUES (%s, %s, %s, %s, %s, 'grant', now())",
                    [posting, sequence, account, organization_id, part],
                )
        return grant_id

    def limit(self, organization_id: int, cap: int, *, per: Per = "day") -> LimitTerms:
        """A limit of the whole organization."""
        limit_id = self.number(
            "INSERT INTO billing_spendlimit (organization_id, per, cap_nano_usd, created_at)"
            " VALUES (%s, %s, %s, now()) RETURNING id",
            organization_id,
            per,
            cap,
        )
        return LimitTerms(limit_id, "organization", per)

    def cap_set(self, organization_id: int, limit: LimitTerms, cap: int) -> None:
        """As the operator does it: while no worker leases of it."""
        with self.connection.transaction():
            self.connection.execute(
                "SELECT 1 FROM billing_wallet WHERE organization_id = %s FOR UPDATE",
                [organization_id],
            )
            self.connection.execute(
                "UPDATE billing_spendlimit SET cap_nano_usd = %s WHERE id = %s", [cap, limit.id]
            )
            self.connection.execute(
                "UPDATE billing_spendlimitperiod SET cap_nano_usd = %(cap)s, over_nano_usd ="
                " greatest(0, leased_nano_usd + used_nano_usd - %(cap)s) WHERE limit_id = %(id)s",
                {"cap": cap, "id": limit.id},
            )

    def window(self, limit: LimitTerms) -> tuple[int, int, int]:
        """What is leased, used and over in the window of the limit that began last."""
        leased, used, over = self.row(
            "SELECT leased_nano_usd, used_nano_usd, over_nano_usd FROM billing_spendlimitperiod"
            " WHERE limit_id = %s ORDER BY period_start DESC LIMIT 1",
            limit.id,
        )
        assert isinstance(leased, int)
        assert isinstance(used, int)
        assert isinstance(over, int)
        return leased, used, over

    def spent_of(self, limit: LimitTerms) -> int:
        """What calls have spent in all windows of the limit, by their records."""
        return self.number(
            "SELECT coalesce(sum(charge_nano_usd), 0)::bigint FROM billing_usagerecord"
            " JOIN billing_lease lease ON lease.id = lease_id WHERE EXISTS"
            " (SELECT 1 FROM billing_spendlimitperiod period"
            " WHERE period.id = ANY(limit_period_ids) AND limit_id = %s)",
            limit.id,
        )

    def drop_other_sessions(self) -> None:
        """As a restart does: settings of the database count for new sessions only."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def repay_and_grant(self, organization_id: int, amount: int) -> None:
        """As the operator's top-up does it: what is owed is repaid first."""
        with self.connection.transaction():
            debt = self.number(
                "SELECT debt_nano_usd FROM billing_wallet WHERE organization_id = %s FOR UPDATE",
                organization_id,
            )
            repaid = min(debt, amount)
            grant_id = self.grant(organization_id, amount)
            self.connection.execute(
                "UPDATE billing_wallet SET debt_nano_usd = debt_nano_usd - %s"
                " WHERE organization_id = %s",
                [repaid, organization_id],
            )
            self.connection.execute(
                "UPDATE billing_grant SET free_nano_usd = free_nano_usd - %s,"
                " burnt_nano_usd = burnt_nano_usd + %s WHERE id = %s",
                [repaid, repaid, grant_id],
            )

    def row(self, query: str, *arguments: object) -> tuple[object, ...]:
        found = self.connection.execute(query, arguments).fetchone()
        assert found is not None
        return found

    def number(self, query: str, *arguments: object) -> int:
        (value,) = self.row(query, *arguments)
        assert isinstance(value, int)
        return value

    def balance(self, organization_id: int) -> int:
        """Wallet and the unspent part of open leases."""
        return self.number(
            "SELECT (w.balance_nano_usd + coalesce((SELECT sum(granted_nano_usd - spent_nano_usd)"
            " FROM billing_lease WHERE organization_id = w.organization_id AND state = 'open'), 0)"
            ")::bigint FROM billing_wallet w WHERE organization_id = %s",
            organization_id,
        )

    def charged(self, organization_id: int) -> int:
        return self.number(
            "SELECT coalesce(sum(charge_nano_usd), 0)::bigint FROM billing_usagerecord"
            " WHERE organization_id = %s",
            organization_id,
        )

    def open_leases(self) -> int:
        return self.number("SELECT count(*) FROM billing_lease WHERE state = 'open'")

    def findings(self, *, retain: float = 60.0) -> list[tuple[str, object, object]]:
        found: list[tuple[str, object, object]] = []
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for check in CHECKS:
                rows = self.connection.execute(check.query.encode(), {"retain": retain}).fetchall()
                found += [(check.invariant, *row) for row in rows]
        return found


def settings_for(url: str, journals: Path, *, timing: Timing = QUICK) -> EngineSettings:
    journals.mkdir(parents=True, exist_ok=True)
    return EngineSettings(database_url=url, journals=journals, node="test", timing=timing)


@asynccontextmanager
async def running(settings: EngineSettings) -> AsyncIterator[MoneyEngine]:
    engine = MoneyEngine(settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(5.0)


def request(organization_id: int, wanted: int, minimum: int | None = None) -> HoldRequest:
    bounds = Bounds(minimum_nano_usd=wanted if minimum is None else minimum, wanted_nano_usd=wanted)
    return HoldRequest(organization_id=organization_id, strict=bounds, standard=bounds)


def bounded_by(organization_id: int, *limits: LimitTerms) -> LimitSet:
    return LimitSet(organization_id, "UTC", limits)


def call_of(organization_id: int) -> Call:
    return Call(
        request_id=uuid7(),
        organization_id=organization_id,
        project_id=1,
        api_key_id=1,
        api_key_prefix="sk-test",
        endpoint="chat/completions",
        model="gpt-4o-mini",
        upstream_model="gpt-4o-mini",
        channel="simulator",
        stream=False,
        price_id=1,
        discount_ppm=500_000,
        retry_count=0,
        opened_at=time.time(),
    )


DONE = Outcome(
    status=200,
    outcome="completed",
    usage_source="upstream",
    prompt_tokens=1,
    completion_tokens=2,
    units={"input_tokens": 1, "output_tokens": 2},
)


async def spend(
    engine: MoneyEngine, organization_id: int, hold: int, cost: int, limits: LimitSet | None = None
) -> int:
    """One whole call. Returns its charge."""
    opened = await engine.hold_open(request(organization_id, hold), limits)
    return settle(engine, opened, cost)


def settle(engine: MoneyEngine, hold: Hold, cost: int) -> int:
    engine.call_opened(hold, call_of(hold.lease.organization_id))
    return engine.call_settle(hold, DONE, cost)
