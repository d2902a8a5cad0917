"""UUIDv7: identifiers that sort by the time of their making (RFC 9562). Pure."""

import datetime as dt
import os
import struct
import time
import uuid

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
    _last_ticks = ticks = max(ticks, _last_ticks + 1)
    milliseconds, fraction = divmod(ticks, 4096)
    random = _random()
    return uuid.UUID(int=(milliseconds << 80) | (fraction << 64) | _VERSION_AND_VARIANT | random)


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
