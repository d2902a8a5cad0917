import asyncio
import datetime as dt
from typing import Any
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import asdict, replace

from billing.engine.copying import COLUMNS, copy_rows
from billing.engine.records import Attempt, Call, Outcome, Settled
from billing.identifiers import uuid7

WORKER = UUID(int=2**128 - 1)
CALL = Call(
    request_id=UUID(int=1),
    organization_id=2,
    project_id=3,
    api_key_id=4,
    api_key_prefix="sk-0123456789",
    endpoint="chat/completions",
    model="模型",
    upstream_model="a\\b\tc\nd",
    channel="",
    stream=True,
    price_id=2**63 - 1,
    discount_ppm=500_000,
    retry_count=32_767,
    opened_at=1_795_209_910.505953,
    credential="Schlüssel",
    route_reason="retry",
)
REFUSED = Attempt(
    channel="first", credential="é", reason="priority", outcome="refused", status=429, duration_ms=5
)
OUTCOME = Outcome(
    status=200,
    outcome="completed",
    usage_source="upstream",
    prompt_tokens=1,
    cached_tokens=2,
    completion_tokens=3,
    reasoning_tokens=2**31 - 1,
    units={"input_tokens": 1, "output_tokens": 3},
    service_tier="default",
    official_cost_nano_usd=5,
    upstream_cost_nano_usd=6,
    upstream_request_id="chatcmpl-é",
    first_byte_ms=0,
    duration_ms=7,
    flags=("bound_exceeded", "ünïcode", ""),
    first_token_ms=2,
    attempts=(REFUSED, replace(REFUSED, channel="second", upstream_cost_nano_usd=6)),
)
SETTLED = Settled(
    call=CALL,
    lease_id=UUID(int=9),
    hold_nano_usd=10,
    charge_nano_usd=0,
    outcome=OUTCOME,
    settled_at=946_684_799.25,
)
BARE = replace(SETTLED, outcome=Outcome(status=0, outcome="lost"))


def copied(database_url: str, records: list[tuple[int, Settled]]) -> list[dict[str, Any]]:
    """What stands in a table like that of the usage records after these were copied into it."""

    async def work() -> list[dict[str, Any]]:
        async with (
            await psycopg.AsyncConnection.connect(database_url) as connection,
            connection.cursor(row_factory=psycopg.rows.dict_row) as cursor,
        ):
            await cursor.execute("CREATE TEMP TABLE copied (LIKE billing_usagerecord)")
            command = f"COPY copied ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
            async with cursor.copy(command) as copy:
                await copy.write(copy_rows(WORKER, records))
            await cursor.execute("SELECT * FROM copied ORDER BY journal_offset")
            return await cursor.fetchall()

    return asyncio.run(work())


def expected(offset: int, record: Settled) -> dict[str, Any]:
    call, outcome = asdict(record.call), asdict(record.outcome)
    return {
        **call,
        **outcome,
        "created_at": dt.datetime.fromtimestamp(call.pop("opened_at"), dt.UTC),
        "settled_at": dt.datetime.fromtimestamp(record.settled_at, dt.UTC),
        "flags": list(record.outcome.flags),
        "worker_id": WORKER,
        "journal_offset": offset,
        "lease_id": record.lease_id,
        "hold_nano_usd": record.hold_nano_usd,
        "charge_nano_usd": record.charge_nano_usd,
        "limit_lease_ids": [],
        "attempts": [asdict(attempt) for attempt in record.outcome.attempts] or None,
    }


def test_every_value_arrives_as_it_was(committing_db: str) -> None:
    records = [(0, SETTLED), (700, BARE)]
    rows = copied(committing_db, records)
    assert len(rows) == len(records)
    for row, (offset, record) in zip(rows, records, strict=True):
        wanted = expected(offset, record)
        assert {name: row[name] for name in COLUMNS} == {name: wanted[name] for name in COLUMNS}


def test_no_column_that_must_be_filled_is_left_out(committing_db: str) -> None:
    with psycopg.connect(committing_db) as connection:
        columns = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE is_nullable = 'NO'"
            " AND table_name = 'billing_usagerecord' AND column_default IS NULL"
        ).fetchall()
    assert {name for (name,) in columns} <= set(COLUMNS)


def test_no_records_are_no_rows(committing_db: str) -> None:
    assert copied(committing_db, []) == []


@pytest.mark.parametrize(
    "record",
    [
        replace(SETTLED, charge_nano_usd=2**63),
        replace(SETTLED, call=replace(CALL, retry_count=2**15)),
        replace(SETTLED, outcome=replace(OUTCOME, duration_ms=2**31)),
        replace(SETTLED, outcome=replace(OUTCOME, first_byte_ms=2**31)),
        replace(SETTLED, call=replace(CALL, model="a\0b")),
        replace(SETTLED, call=replace(CALL, model="x" * 10_000)),
    ],
)
def test_what_does_not_fit_is_refused_as_the_database_would(
    committing_db: str, record: Settled
) -> None:
    with pytest.raises(psycopg.DataError):
        copied(committing_db, [(0, record)])


def test_times_are_kept_to_the_microsecond(committing_db: str) -> None:
    moments = [0.0, 946_684_800.0, 1_795_209_910.000001, 1_795_209_910.999999]
    records = [
        (index, replace(SETTLED, settled_at=at, call=replace(CALL, request_id=uuid7())))
        for index, at in enumerate(moments)
    ]
    rows = copied(committing_db, records)
    assert [row["settled_at"] for row in rows] == [
        dt.datetime.fromtimestamp(at, dt.UTC) for at in moments
    ]
