"""UUIDv7: identifiers that sort by the time of their making (RFC 9562). Pure."""

import datetime as dt
import os
import struct
import time
import uuid

_new, _set, _UNKNOWN = object.__new__, object.__setattr__, uuid.SafeUUID.unknown
_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)
_last_ticks = 0
_WORDS = struct.Struct("256Q")
_randoms: list[int] = []
os.register_at_fork(after_in_child=_randoms.clear)  # No two processes may have the same ones.


def uuid7() -> uuid.UUID:
    """A new identifier; those of one process ascend strictly, also within a millisecond."""
    global _last_ticks  # noqa: PLW0603  The order within a process is its whole point.
    # Milliseconds and, in the 12 bits behind the version, their 4096th parts (section 6.2).
    ticks = time.time_ns() * 4096 // 1_000_000
    if ticks <= _last_ticks:
        ticks = _last_ticks + 1
    _last_ticks = ticks
    bits = (ticks >> 12 << 80) | ((ticks & 4095) << 64) | _VERSION_AND_VARIANT | _random()
    # As uuid.UUID(int=bits), which checks so much that it costs more than all of this.
    identifier = _new(uuid.UUID)
    _set(identifier, "int", bits)
    _set(identifier, "is_safe", _UNKNOWN)
    return identifier


def _random() -> int:
    """62 bits; asking the kernel for many at once costs hardly more than for one."""
    while True:
        try:
            return _randoms.pop() >> 2
        except IndexError:
            _randoms.extend(_WORDS.unpack(os.urandom(_WORDS.size)))


def uuid7_floor(moment: dt.datetime | dt.date) -> uuid.UUID:
    """The lower bound of all identifiers made at that moment (a date: its first moment in UTC)."""
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.combine(moment, dt.time(), dt.UTC)
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def uuid7_time(identifier: uuid.UUID) -> dt.datetime:
    """The moment of making, to the millisecond."""
    return dt.datetime.fromtimestamp((identifier.int >> 80) / 1000, dt.UTC)
