"""What the journal holds: a call that was opened, and how it was settled. Pure.

Each record says everything that its usage record needs, so that whoever replays it needs nothing
else. On disk it is a length, a checksum and the MessagePack of the structure.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

HEADER = struct.Struct("<II")
# A hold reserves this much room in the journal: for its opened and its settled record.
MAX_RECORD_BYTES = 4096
RESERVED_BYTES = 2 * MAX_RECORD_BYTES
# What a settled record has on top of its opened one, at most: so a call that could be opened can
# always be settled.
OUTCOME_BYTES = 2304
# What its attempts may take of that, where an upstream failed; of it, the one that stands for
# those that found no room.
ATTEMPTS_BYTES = 1408
_MORE_BYTES = 48


class LimitWindow(NamedTuple):
    """A window of a spend limit in which a call counts, in seconds of Unix time."""

    limit_id: int
    start: int
    end: int


class Call(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Who calls what, and what was agreed before anything went upstream."""

    request_id: UUID
    organization_id: int
    project_id: int
    api_key_id: int
    api_key_prefix: str
    endpoint: str
    model: str
    upstream_model: str
    channel: str
    stream: bool
    price_id: int
    discount_ppm: int
    retry_count: int
    opened_at: float  # Unix time: for people. Deadlines run on the engine's own clock.
    # Which of the channel's credentials, and why the call went this way: see relay.routing.
    credential: str = ""
    route_reason: str = ""


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="o", kw_only=True, gc=False):
    """Written before the first byte goes upstream."""

    call: Call
    lease_id: UUID
    hold_nano_usd: int
    limits: tuple[LimitWindow, ...] = ()


class Attempt(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A call as it was sent to one channel, and what came of it there."""

    channel: str
    credential: str
    reason: str
    outcome: str
    status: int  # Upstream's answer; 0: there was none.
    duration_ms: int
    upstream_cost_nano_usd: int = 0


class Outcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """How a call ended and what it used, as the relay measured it."""

    status: int
    outcome: str
    usage_source: str = "none"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    units: dict[str, int] = {}
    service_tier: str = ""
    official_cost_nano_usd: int = 0
    upstream_cost_nano_usd: int = 0
    upstream_request_id: str = ""
    first_byte_ms: int | None = None
    duration_ms: int = 0
    flags: tuple[str, ...] = ()
    first_token_ms: int | None = None
    # All of them, where one failed; else none, for the record says it all.
    attempts: tuple[Attempt, ...] = ()


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="s", kw_only=True):
    """Written before the last byte of the reply. The charge is final."""

    call: Call
    lease_id: UUID
    hold_nano_usd: int
    charge_nano_usd: int
    outcome: Outcome
    settled_at: float
    # Where its lease takes room, should the database forget that lease.
    limits: tuple[LimitWindow, ...] = ()


Record = Opened | Settled
_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
# What every Opened begins with: that it is an array, of how many members, and the tag.
_OPENED = _encoder.encode(("o", *Opened.__struct_fields__))[:3]


class RecordTooLarge(Exception):
    """The record does not fit into the room that its hold reserved."""


class BadRecord(Exception):
    """The bytes are no whole record: a torn tail, or damage."""


def frame(record: Record) -> bytes:
    """The record as it stands in the journal.

    Raises RecordTooLarge.
    """
    payload = _encoder.encode(record)
    room = MAX_RECORD_BYTES - OUTCOME_BYTES if isinstance(record, Opened) else MAX_RECORD_BYTES
    if len(payload) + HEADER.size > room:
        raise RecordTooLarge(f"{len(payload)} bytes")
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def fitting(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """The attempts as far as a record has room for them; what is left out becomes one of them.

    The last one stays, and what they cost together.
    """
    room = ATTEMPTS_BYTES - _MORE_BYTES - len(_encoder.encode(attempts[-1]))
    kept = 0
    for attempt in attempts[:-1]:
        room -= len(_encoder.encode(attempt))
        if room < 0:
            break
        kept += 1
    if kept == len(attempts) - 1:
        return tuple(attempts)
    left_out = attempts[kept:-1]
    more = Attempt(
        channel="",
        credential="",
        reason="",
        outcome=f"{len(left_out)} more",
        status=0,
        duration_ms=sum(attempt.duration_ms for attempt in left_out),
        upstream_cost_nano_usd=sum(attempt.upstream_cost_nano_usd for attempt in left_out),
    )
    return (*attempts[:kept], more, attempts[-1])


def unframe(data: bytes, position: int) -> tuple[Record, int] | None:
    """The record at the position and the position behind it; None where nothing was written.

    Raises BadRecord.
    """
    found = _payload(data, position)
    return None if found is None else (_decoded(found[0], position), found[1])


def unframe_settled(data: bytes, position: int) -> tuple[Settled | None, int] | None:
    """The same, for who does not care what an Opened says: that one is None."""
    found = _payload(data, position)
    if found is None:
        return None
    payload, end = found
    if payload.startswith(_OPENED):
        return None, end
    record = _decoded(payload, position)
    return record if isinstance(record, Settled) else None, end


def _payload(data: bytes, position: int) -> tuple[bytes, int] | None:
    if position + HEADER.size > len(data):
        return None
    length, checksum = HEADER.unpack_from(data, position)
    if length == 0:
        return None
    start, end = position + HEADER.size, position + HEADER.size + length
    if length > MAX_RECORD_BYTES or end > len(data):
        raise BadRecord(f"a length of {length} at {position}")
    payload = data[start:end]
    if zlib.crc32(payload) != checksum:
        raise BadRecord(f"a wrong checksum at {position}")
    return payload, end


def _decoded(payload: bytes, position: int) -> Record:
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise BadRecord(f"an unreadable record at {position}: {error}") from error
