"""The Idempotency-Keys that were used, with the answers that their calls got, in PostgreSQL.

One row for each key of an organization at an endpoint. It is there before its call begins, so who
comes second sees it on whichever worker; it gets the answer when the call ends, or goes away where
the call ended without having cost anything.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from billing.engine import Connection
from billing.usage.call_charges import call_charge
from relay.headers import Header

KEPT_HOURS: Final = 24
# Of one organization: beyond the first no new key is taken, beyond the second no answer is kept.
MAX_KEYS: Final = 10_000
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024
# The row that is in the way may go away at any moment; not many times in a row.
_ATTEMPTS: Final = 3

# `_WHERE` and the interval are constants of this file: nothing in them came from outside.
_WHERE = "WHERE organization_id = %s AND endpoint = %s AND key = %s"
_READ = (
    "SELECT request_id, body_digest, status, headers, body,"  # noqa: S608
    f" created_at > clock_timestamp() - interval '{KEPT_HOURS} hours'"
    f" FROM relay_idempotencykey {_WHERE}"
)
_INSERT = """
INSERT INTO relay_idempotencykey
       (organization_id, endpoint, key, request_id, body_digest, created_at)
VALUES (%s, %s, %s, %s, %s, clock_timestamp())
    ON CONFLICT (organization_id, endpoint, key) DO NOTHING
"""
_TAKE_OVER = (
    "UPDATE relay_idempotencykey SET request_id = %s, body_digest = %s,"  # noqa: S608
    " created_at = clock_timestamp(), status = NULL, headers = NULL, body = NULL"
    f" {_WHERE} AND request_id = %s"
)
_ANSWER = (
    "UPDATE relay_idempotencykey SET status = %s, headers = %s, body = %s"  # noqa: S608
    f" {_WHERE} AND request_id = %s"
)
_DELETE = f"DELETE FROM relay_idempotencykey {_WHERE} AND request_id = %s"  # noqa: S608
_COUNT = """
SELECT count(*), coalesce(sum(octet_length(body)), 0)::bigint
  FROM relay_idempotencykey WHERE organization_id = %s
"""


class Key(NamedTuple):
    organization_id: int
    endpoint: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One request that came with a key."""

    key: Key
    request_id: UUID
    body_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    status: int
    headers: list[Header]
    body: bytes | None
    """None: it was too large to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The request that used the key before."""

    request_id: UUID
    same_body: bool
    answer: StoredAnswer | None
    charge_nano_usd: int | None
    """None: no record of it is known, so it may still be running."""

    @property
    def lacks_answer(self) -> bool:
        """It was carried out, and its answer is not here; or not yet."""
        return self.same_body and self.answer is None and self.charge_nano_usd is not None


class KeysUsed(NamedTuple):
    keys: int
    kept_bytes: int


async def claim(connection: Connection, use: Use) -> Earlier | None:
    """Take the key for this request; None: it is taken, and its call may begin.

    A key is taken over from a request that ended without a charge, as a call does that a crash
    has interrupted, and from one that is older than keys are kept.
    """
    earlier: Earlier | None = None
    for _ in range(_ATTEMPTS):
        inserted = await connection.execute(_INSERT, [*use.key, use.request_id, use.body_digest])
        if inserted.rowcount:
            return None
        row = await (await connection.execute(_READ, use.key)).fetchone()
        if row is None:
            continue
        earlier, is_kept = await _earlier(connection, row, use)
        is_free = earlier.answer is None and earlier.same_body and earlier.charge_nano_usd == 0
        if is_kept and not is_free:
            return earlier
        taken = await connection.execute(
            _TAKE_OVER, [use.request_id, use.body_digest, *use.key, earlier.request_id]
        )
        if taken.rowcount:
            return None
    # Others are as eager: one of them has it by now.
    return earlier or Earlier(
        request_id=use.request_id, same_body=True, answer=None, charge_nano_usd=None
    )


async def _earlier(connection: Connection, row: tuple[Any, ...], use: Use) -> tuple[Earlier, bool]:
    """What the row says, and whether it is still valid."""
    request_id, digest, status, headers, body, is_kept = row
    answer = charge = None
    if status is not None:
        answer = StoredAnswer(status=status, headers=_decoded(headers), body=body)
    else:
        charge = await call_charge(connection, request_id)
    earlier = Earlier(
        request_id=request_id,
        same_body=bytes(digest) == use.body_digest,
        answer=answer,
        charge_nano_usd=charge,
    )
    return earlier, is_kept


async def answered(connection: Connection, use: Use, answer: StoredAnswer) -> None:
    """The call has ended, with this answer."""
    values = [answer.status, _encoded(answer.headers), answer.body]
    await connection.execute(_ANSWER, [*values, *use.key, use.request_id])


async def released(connection: Connection, use: Use) -> None:
    """The call has ended and cost nothing: the key is as if it had never been used."""
    await connection.execute(_DELETE, [*use.key, use.request_id])


async def keys_used(connection: Connection, organization_id: int) -> KeysUsed:
    row = await (await connection.execute(_COUNT, [organization_id])).fetchone()
    assert row is not None, "an aggregate has a row"
    return KeysUsed(*row)


def _encoded(headers: list[Header]) -> str:
    return json.dumps([[part.decode("latin-1") for part in header] for header in headers])


def _decoded(headers: list[list[str]]) -> list[Header]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
