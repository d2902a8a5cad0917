"""When to stop sending to what fails, and when to try it again: a pure state machine.

A circuit is closed while calls pass. It opens after failures in a row, when too many of the calls
of a window failed, or when upstream says for how long to stay away. When its pause is over it is
due: one call may try, and closes or opens it. For a while after it has closed it is on trial: a
single failure opens it again, for twice as long. Time and chance come from outside.
"""

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    failures_in_a_row: int = 3
    window_seconds: float = 30.0
    window_calls: int = 20  # Fewer calls have no rate.
    window_failures: float = 0.5  # The share of the window's calls.
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0
    longest_costly_pause_seconds: float = 5.0  # We try these ourselves, which loses no call.
    longest_obeyed_seconds: float = 3600.0
    trial_calls: int = 5


class State(IntEnum):
    """How much a circuit stands in the way of a call; of several, the highest counts."""

    CLOSED = 0
    DUE = 1  # One call may try it.
    PROBING = 2  # One call tries it now.
    OPEN = 3
    OBEYED = 4  # Upstream has said for how long to stay away.


DEFAULT_POLICY = CircuitPolicy()


class Circuit:
    __slots__ = (
        "_barred_until",
        "_calls",
        "_failures",
        "_in_a_row",
        "_level",
        "_opened_at",
        "_policy",
        "_probing",
        "_shut_until",
        "_trial_left",
        "_window_ends_at",
        "costly",
    )

    def __init__(self, policy: CircuitPolicy = DEFAULT_POLICY) -> None:
        self.costly = False
        """Its last failure lost a call: no customer's call is to try it as long as another way
        is open."""
        self._policy = policy
        self._in_a_row = 0
        self._calls = 0
        self._failures = 0
        self._window_ends_at = 0.0
        self._level = 0  # How often it has opened without having proven itself since.
        self._trial_left = 0
        self._opened_at: float | None = None
        self._shut_until = 0.0
        self._barred_until = 0.0
        self._probing = False

    def state(self, now: float) -> State:
        if self._opened_at is None:
            return State.CLOSED
        if now < self._barred_until:
            return State.OBEYED
        if now < self._shut_until:
            return State.OPEN
        return State.PROBING if self._probing else State.DUE

    def is_forgettable(self, now: float) -> bool:
        """Whether it is as good as new."""
        return self._opened_at is None and not self._level and now >= self._window_ends_at

    def began(self, now: float) -> bool:
        """A call is sent through it; returns whether it is the one that tries it."""
        if self.state(now) is not State.DUE:
            return False
        self._probing = True
        return True

    def gave_up(self) -> None:
        """Who tried it ended without a verdict, for instance because the client left."""
        self._probing = False

    def succeeded(self, now: float, *, began_at: float) -> None:
        """A call that began at that time came to a good end."""
        self._count(now)
        if self._opened_at is not None:
            if began_at < self._opened_at:
                return  # It was sent before the trouble began, and says nothing about its end.
            self._close()
        elif self._level:
            self._trial_left -= 1
            if self._trial_left <= 0:
                self._level = 0
        self._in_a_row = 0

    def failed(
        self, now: float, *, draw: float, costly: bool = False, retry_after: float | None = None
    ) -> None:
        """A call failed; `costly` if its customer lost it, `retry_after` if upstream said so.

        `draw`, a number in [0, 1), keeps the workers from coming back all at once.
        """
        self._count(now)
        self._failures += 1
        self._in_a_row += 1
        self.costly = costly
        if retry_after is not None and retry_after > 0:
            seconds = min(retry_after, self._policy.longest_obeyed_seconds)
            self._barred_until = max(self._barred_until, now + seconds)
            self._open(now, seconds * (1 + draw / 10))
            return
        if now < self._shut_until:
            return  # Calls that fail together count once.
        if self._opened_at is not None or self._level or self._has_had_enough():
            self._level += 1
            self._open(now, self._pause() * (0.75 + draw / 2))

    def _pause(self) -> float:
        policy = self._policy
        doublings = min(self._level - 1, 30)
        longest = policy.longest_pause_seconds
        if self.costly:
            longest = policy.longest_costly_pause_seconds
        return float(min(longest, policy.first_pause_seconds * 2**doublings))

    def _has_had_enough(self) -> bool:
        policy = self._policy
        if self._in_a_row >= policy.failures_in_a_row:
            return True
        enough = self._calls >= policy.window_calls
        return enough and self._failures >= policy.window_failures * self._calls

    def _count(self, now: float) -> None:
        if now >= self._window_ends_at:
            self._calls = self._failures = 0
            self._window_ends_at = now + self._policy.window_seconds
        self._calls += 1

    def _open(self, now: float, seconds: float) -> None:
        self._opened_at = now
        self._shut_until = max(self._shut_until, now + seconds)
        self._probing = False

    def _close(self) -> None:
        self._opened_at = None
        self._shut_until = self._barred_until = 0.0
        self._probing = self.costly = False
        self._calls = self._failures = 0
        self._trial_left = self._policy.trial_calls
