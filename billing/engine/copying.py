"""Usage records as PostgreSQL's COPY takes them in its binary form (pure).

The driver would choose and call an adapter for each of the values. There are three dozen of them in
each record, and every call that is served pays for its record here.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

import msgspec
import psycopg

from billing.engine.records import Attempt, Settled

# Of a fixed length, each with its code in `struct`; then the others.
_FIXED = (
    ("request_id", "16s"),
    ("worker_id", "16s"),
    ("lease_id", "16s"),
    ("journal_offset", "q"),
    ("organization_id", "q"),
    ("project_id", "q"),
    ("api_key_id", "q"),
    ("price_id", "q"),
    ("discount_ppm", "q"),
    ("hold_nano_usd", "q"),
    ("charge_nano_usd", "q"),
    ("official_cost_nano_usd", "q"),
    ("upstream_cost_nano_usd", "q"),
    ("created_at", "q"),
    ("settled_at", "q"),
    ("prompt_tokens", "i"),
    ("cached_tokens", "i"),
    ("completion_tokens", "i"),
    ("reasoning_tokens", "i"),
    ("duration_ms", "i"),
    ("retry_count", "h"),
    ("status", "h"),
    ("stream", "?"),
)
_VARYING = (
    "first_byte_ms",
    "first_token_ms",
    "api_key_prefix",
    "endpoint",
    "model",
    "upstream_model",
    "channel",
    "outcome",
    "usage_source",
    "service_tier",
    "credential",
    "route_reason",
    "upstream_request_id",
    "units",
    "flags",
    "limit_lease_ids",
    "attempts",
)
COLUMNS = (*(name for name, _ in _FIXED), *_VARYING)

BEGINNING = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"

# The number of columns, and each fixed one with its length in front.
_ROW = struct.Struct(">h" + "".join(f"i{code}" for _, code in _FIXED))
_UUID, _INT8, _INT4, _INT2, _BOOL = 16, 8, 4, 2, 1
_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)
_INTEGER = struct.Struct(">ii")
_ARRAY = struct.Struct(">iiiii")
_VARCHAR_OID, _UUID_OID = 1043, 2950
_JSONB_VERSION = b"\x01"
# PostgreSQL counts microseconds from the beginning of 2000.
_EPOCH_MICROSECONDS = 946_684_800_000_000
_encode_json = msgspec.json.Encoder().encode


def copy_rows(worker_id: UUID, records: Iterable[tuple[int, Settled]]) -> bytes:
    """The whole input of a COPY of these columns, of records and their offsets in the journal.

    Raises psycopg.DataError where a number does not fit its column.
    """
    worker = worker_id.bytes
    try:
        rows = [_row(worker, offset, record) for offset, record in records]
    except struct.error as error:
        raise psycopg.DataError(f"a number does not fit its column: {error}") from error
    return b"".join((BEGINNING, *rows, END))


def _row(worker_id: bytes, offset: int, record: Settled) -> bytes:
    call, outcome = record.call, record.outcome
    # fmt: off
    fixed = _ROW.pack(
        len(COLUMNS),
        _UUID, call.request_id.int.to_bytes(16), _UUID, worker_id,
        _UUID, record.lease_id.int.to_bytes(16),
        _INT8, offset,
        _INT8, call.organization_id, _INT8, call.project_id, _INT8, call.api_key_id,
        _INT8, call.price_id, _INT8, call.discount_ppm,
        _INT8, record.hold_nano_usd, _INT8, record.charge_nano_usd,
        _INT8, outcome.official_cost_nano_usd, _INT8, outcome.upstream_cost_nano_usd,
        _INT8, _timestamp(call.opened_at), _INT8, _timestamp(record.settled_at),
        _INT4, outcome.prompt_tokens, _INT4, outcome.cached_tokens,
        _INT4, outcome.completion_tokens, _INT4, outcome.reasoning_tokens,
        _INT4, outcome.duration_ms,
        _INT2, call.retry_count, _INT2, outcome.status,
        _BOOL, call.stream,
    )
    # fmt: on
    first_byte_ms, first_token_ms = outcome.first_byte_ms, outcome.first_token_ms
    return b"".join(
        (
            fixed,
            _NULL if first_byte_ms is None else _INTEGER.pack(_INT4, first_byte_ms),
            _NULL if first_token_ms is None else _INTEGER.pack(_INT4, first_token_ms),
            _repeated_texts(
                call.api_key_prefix,
                call.endpoint,
                call.model,
                call.upstream_model,
                call.channel,
                outcome.outcome,
                outcome.usage_source,
                outcome.service_tier,
                call.credential,
                call.route_reason,
            ),
            _sized(outcome.upstream_request_id.encode()),
            _sized(_JSONB_VERSION + _encode_json(outcome.units)),
            _texts(outcome.flags),
            _NO_UUIDS,
            _attempts(outcome.attempts) if outcome.attempts else _NULL,
        )
    )


def _timestamp(unix_time: float) -> int:
    return round(unix_time * 1_000_000) - _EPOCH_MICROSECONDS


def _sized(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


@lru_cache(4096)
def _repeated_texts(*texts: str) -> bytes:
    """One column after another; the calls of one key to one model have them in common."""
    return b"".join([_sized(text.encode()) for text in texts])


@lru_cache(256)
def _texts(texts: tuple[str, ...]) -> bytes:
    if not texts:
        return _empty_array(_VARCHAR_OID)
    elements = b"".join(_sized(text.encode()) for text in texts)
    # One dimension, no nulls, of so many elements that are counted from 1.
    return _sized(_ARRAY.pack(1, 0, _VARCHAR_OID, len(texts), 1) + elements)


def _attempts(attempts: tuple[Attempt, ...]) -> bytes:
    """By their names, for whoever asks in SQL."""
    rows = [msgspec.structs.asdict(attempt) for attempt in attempts]
    return _sized(_JSONB_VERSION + _encode_json(rows))


def _empty_array(oid: int) -> bytes:
    return _sized(struct.pack(">iii", 0, 0, oid))


_NO_UUIDS = _empty_array(_UUID_OID)
