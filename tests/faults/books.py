"""The standing assertions: what must be true of the money after whatever has happened."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from uuid import UUID

from tests.billing.engine.support import Bank
from tests.faults.customers import CACHED_USD, DOLLAR, INPUT_USD, OUTPUT_USD
from tests.faults.load import Reply
from tests.faults.product import Product, until

DISCOUNT = Fraction(1, 2)
# A record is to be seen so soon after its reply; the rest is for a machine that others use as well.
VISIBLE_SECONDS = 20.0
# What a call costs nothing for.
FREE = ("lost", "expired", "upstream_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    request_id: UUID
    worker: UUID
    organization: str
    outcome: str
    usage_source: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    charge: int
    hold: int
    flags: list[str]


def charge(*, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """What a call costs: one rounding, up, at the very end."""
    dollars = (
        (prompt_tokens - cached_tokens) * Fraction(INPUT_USD)
        + cached_tokens * Fraction(CACHED_USD)
        + completion_tokens * Fraction(OUTPUT_USD)
    ) / 1_000_000
    return ceil(dollars * DISCOUNT * DOLLAR)


def records(bank: Bank) -> list[Record]:
    rows = bank.connection.execute(
        "SELECT u.request_id, u.worker_id, o.slug, u.outcome, u.usage_source, u.prompt_tokens,"
        " u.cached_tokens, u.completion_tokens, u.charge_nano_usd, u.hold_nano_usd, u.flags"
        " FROM billing_usagerecord u JOIN accounts_organization o ON o.id = u.organization_id"
    ).fetchall()
    names = list(Record.__dataclass_fields__)
    return [Record(**dict(zip(names, row, strict=True))) for row in rows]


async def check_books(product: Product, replies: Iterable[Reply]) -> list[Record]:
    """Everything that must be true while the product runs. Returns the records."""
    complete = [reply for reply in replies if reply.is_complete]
    with product.bank() as bank:
        await until(lambda: _missing(bank, complete) == 0, "the records", seconds=VISIBLE_SECONDS)
        await until(
            lambda: _orphaned(bank, product) == [],
            "the end of dead workers' leases",
            seconds=VISIBLE_SECONDS,
        )
        return _check(bank, complete)


def check_books_afterwards(
    product: Product, replies: Iterable[Reply], *, states: frozenset[str] = frozenset({"complete"})
) -> list[Record]:
    """Everything that must be true after a graceful stop. Returns the records.

    `states`: what workers may have come to, as the database knows it.
    """
    assert product.journals() == [], "a journal was left behind"
    with product.bank_afterwards() as bank:
        assert bank.open_leases() == 0
        assert escrow(bank) == 0
        assert _states(bank) <= states
        return _check(bank, [reply for reply in replies if reply.is_complete])


def escrow(bank: Bank) -> int:
    return bank.number(
        "SELECT coalesce(sum(amount_nano_usd), 0)::bigint FROM billing_ledgerentry"
        " WHERE account = 'escrow'"
    )


def _check(bank: Bank, complete: list[Reply]) -> list[Record]:
    assert bank.findings() == []
    found = records(bank)
    by_id = {record.request_id: record for record in found}
    assert len(by_id) == len(found), "a request id has two records"
    assert {reply.disagreement for reply in complete} <= {""}
    ids = {reply.request_id for reply in complete}
    assert len(ids) == len(complete), "two answers have one request id"
    for reply in complete:
        _check_reply(reply, by_id.get(UUID(reply.request_id)))
    for record in found:
        _check_record(record)
    _check_sums(bank)
    return found


def _check_reply(reply: Reply, record: Record | None) -> None:
    """A caller who saw a complete answer pays for it, exactly and once."""
    assert record is not None, f"{reply.request_id} was answered but not recorded"
    wish = reply.wish
    assert record.organization == reply.organization
    assert record.outcome == "completed", record
    assert record.usage_source == "upstream", record
    assert record.charge == charge(
        prompt_tokens=wish.prompt_tokens,
        cached_tokens=wish.cached_tokens,
        completion_tokens=wish.completion_tokens,
    ), record


def _check_record(record: Record) -> None:
    """Whatever became of a call, its charge is that of the usage in its own record."""
    cost = charge(
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
    )
    assert record.charge == (0 if record.outcome in FREE else cost), record
    assert "bound_exceeded" not in record.flags or record.charge > record.hold, record


def _check_sums(bank: Bank) -> None:
    """Each organization: what was granted is what is left and what was charged."""
    rows = bank.connection.execute(
        "SELECT o.slug, o.id, w.strict,"
        " (SELECT coalesce(sum(amount_nano_usd), 0)::bigint FROM billing_grant g"
        "   WHERE g.organization_id = o.id),"
        " (SELECT coalesce(sum(amount_nano_usd), 0)::bigint FROM billing_ledgerentry e"
        "   WHERE e.organization_id = o.id AND e.account = 'write_off')"
        " FROM accounts_organization o JOIN billing_wallet w ON w.organization_id = o.id"
    ).fetchall()
    for slug, organization, strict, granted, write_off in rows:
        balance, charged = bank.balance(organization), bank.charged(organization)
        assert balance + charged + write_off == granted, slug
        assert balance >= 0 or not strict, slug


def _missing(bank: Bank, complete: list[Reply]) -> int:
    """How many complete answers have no record yet."""
    ids = [reply.request_id for reply in complete]
    return len(ids) - bank.number(
        "SELECT count(*) FROM billing_usagerecord WHERE request_id = ANY(%s::uuid[])", ids
    )


def _orphaned(bank: Bank, product: Product) -> list[tuple[object, ...]]:
    """Open leases whose worker's process is dead."""
    living = [worker.pid for worker in product.workers()]
    return bank.connection.execute(
        "SELECT w.pid, l.id FROM billing_lease l JOIN billing_worker w ON w.id = l.worker_id"
        " WHERE l.state = 'open' AND w.pid <> ALL(%s)",
        [living],
    ).fetchall()


def _states(bank: Bank) -> set[object]:
    rows = bank.connection.execute("SELECT DISTINCT state FROM billing_worker").fetchall()
    return {state for (state,) in rows}
