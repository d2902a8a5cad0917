"""The engine's times, in seconds, and how they hang together (the reasons: docs/guarantees.md).

Tests use shorter ones; the relations are checked when an instance is made.
"""

import time
from dataclasses import dataclass

DRIFT = 0.01  # How much faster or slower than true time each of two clocks may run.


def now() -> float:
    """The worker's clock: it goes on while the machine is suspended, and nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    heartbeat: float = 5.0
    ttl: float = 60.0  # How long open leases serve while the database is away.
    step: float = 2.0  # The largest step of the database's clock.
    max_call: float = 1800.0
    grace: float = 12.0  # After a database start, before anybody is expired.
    ship: float = 0.1
    sync: float = 0.1
    scan: float = 1.0
    sweep: float = 1.0
    idle: float = 60.0  # Who needs the money sooner recalls it.
    recall_wait: float = 1.0
    refusal_memory: float = 1.0
    timeout: float = 2.0
    lease_age: float = 3600.0

    def __post_init__(self) -> None:
        if self.heartbeat > self.ttl / 6:
            raise ValueError("The heartbeat must be at most a sixth of the leases' time to live.")
        if self.fence <= self.heartbeat:
            raise ValueError("The leases' time to live leaves no room for the clock's steps.")
        if self.grace < 2 * self.heartbeat + self.timeout:
            raise ValueError("The grace must let everybody renew before anybody is expired.")

    @property
    def fence(self) -> float:
        """A worker opens no hold later than this after it sent its last answered renewal."""
        return self.ttl * (1 - 3 * DRIFT) - self.step

    @property
    def cover(self) -> float:
        """How long an extension of a lease should last its organization."""
        return self.idle / 2

    @property
    def retain(self) -> float:
        """The leases of an expired worker are kept whole for so long: its calls may still run."""
        return self.max_call * (1 + 3 * DRIFT) + self.step
