"""What one process knows of how its upstreams fare: circuits and calls under way.

As long as nothing fails and no channel is limited it keeps nothing and is asked nothing, so that
health costs the calls nothing. Time and chance come from outside.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from relay.routing.circuits import DEFAULT_POLICY, Circuit, CircuitPolicy, State
from relay.routing.decision import Candidate, Decision, Health, decide

MAX_CIRCUITS = 4096
# These say more of why than that others were tried before.
_TRIED_ANYWAY = frozenset({"probe", "last_resort"})


class Route(Candidate, Protocol):
    """A candidate whose calls at once may be limited."""

    @property
    def concurrency(self) -> int: ...


R = TypeVar("R", bound=Route)


@dataclass(slots=True)
class Attempt(Generic[R]):
    """A call that is sent to a route, until its verdict."""

    route: R
    model: str | None  # None: it is a probe of our own.
    began_at: float
    probes: list[Circuit]
    is_open: bool = True


class Traffic(Generic[R]):
    def __init__(
        self,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        policy: CircuitPolicy = DEFAULT_POLICY,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._policy = policy
        self._circuits: dict[Hashable, Circuit] = {}
        self._under_way: Counter[int] = Counter()

    # --- Choosing --------------------------------------------------------------------------------

    def choose(
        self,
        candidates: Sequence[R],
        *,
        model: str,
        tried: Collection[int] = (),
        sticky: Callable[[], bytes | None] | None = None,
    ) -> Decision[R] | None:
        """Who takes the call, of those whose credential was not tried yet; None: nobody may.

        A model's only way is taken whatever is known of it: upstream then answers for itself.
        """
        if len(candidates) == 1 and not tried:
            route = candidates[0]
            return None if self._is_full(route) else Decision(route, "only")
        left = [route for route in candidates if route.credential_id not in tried]
        if not left:
            return None
        now = self._clock()
        health = [self._health(route, model, now) for route in left]
        key = sticky() if sticky is not None and len(left) > 1 else None
        decision = decide(left, health, sticky=key, draw=self._chance())
        if decision is not None and tried and decision.reason not in _TRIED_ANYWAY:
            return decision._replace(reason="retry")
        return decision

    def _health(self, route: R, model: str, now: float) -> Health:
        if self._is_full(route):
            return Health.BARRED
        if not self._circuits:
            return Health.READY
        found = [_health_of(circuit, now) for circuit in self._of(route, model)]
        return max(found, default=Health.READY)

    def _is_full(self, route: R) -> bool:
        return bool(route.concurrency) and self._under_way[route.id] >= route.concurrency

    # --- What became of calls --------------------------------------------------------------------

    def begin(self, route: R, model: str) -> Attempt[R] | None:
        """A call is about to be sent; None where nobody needs to know."""
        if not self._circuits and not route.concurrency:
            return None
        now = self._clock()
        probes = [circuit for circuit in self._of(route, model) if circuit.began(now)]
        if route.concurrency:
            self._under_way[route.id] += 1
        return Attempt(route, model, now, probes)

    def end(self, attempt: Attempt[R]) -> None:
        """It is over, whether there was a verdict or not. May be said again."""
        if not attempt.is_open:
            return
        attempt.is_open = False
        if attempt.route.concurrency and attempt.model is not None:
            self._under_way[attempt.route.id] -= 1
        for circuit in attempt.probes:
            circuit.gave_up()

    def succeeded(self, attempt: Attempt[R]) -> None:
        now = self._clock()
        for key in _keys(attempt.route, attempt.model):
            circuit = self._circuits.get(key)
            if circuit is not None:
                circuit.succeeded(now, began_at=attempt.began_at)
                if circuit.is_forgettable(now):
                    del self._circuits[key]

    def channel_failed(self, route: R, *, costly: bool) -> None:
        """It could not be reached, or broke; `costly` if a call was lost by it."""
        self._circuit(("channel", route.id)).failed(
            self._clock(), draw=self._chance(), costly=costly
        )

    def credential_limited(self, route: R, model: str, retry_after: float | None) -> None:
        """Upstream takes no more calls of the model on this credential for now."""
        self._circuit((route.credential_id, model)).failed(
            self._clock(), draw=self._chance(), retry_after=retry_after
        )

    def credential_refused(self, route: R) -> None:
        """Upstream does not know this credential any more."""
        self._circuit((route.credential_id, None)).failed(
            self._clock(), draw=self._chance(), retry_after=self._policy.longest_pause_seconds
        )

    # --- Probes ----------------------------------------------------------------------------------

    def to_probe(self, routes: Sequence[R]) -> list[R]:
        """One route of each channel that is due and that no customer's call is to try."""
        now = self._clock()
        found: dict[int, R] = {}
        for route in routes if self._circuits else ():
            circuit = self._circuits.get(("channel", route.id))
            if circuit is not None and circuit.costly and circuit.state(now) is State.DUE:
                found.setdefault(route.id, route)
        return list(found.values())

    def probe(self, route: R) -> Attempt[R]:
        now = self._clock()
        circuit = self._circuit(("channel", route.id))
        return Attempt(route, None, now, [circuit] if circuit.began(now) else [])

    # --- Inside ----------------------------------------------------------------------------------

    def _of(self, route: R, model: str) -> list[Circuit]:
        found = (self._circuits.get(key) for key in _keys(route, model))
        return [circuit for circuit in found if circuit is not None]

    def _circuit(self, key: Hashable) -> Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            if len(self._circuits) >= MAX_CIRCUITS:
                self._circuits.pop(next(iter(self._circuits)))
            circuit = self._circuits[key] = Circuit(self._policy)
        return circuit


def _keys(route: Route, model: str | None) -> tuple[Hashable, ...]:
    """Limits are by model; a refusal is of all of them; what breaks, breaks for the channel."""
    return ("channel", route.id), (route.credential_id, model), (route.credential_id, None)


def _health_of(circuit: Circuit, now: float) -> Health:
    state = circuit.state(now)
    if state is State.CLOSED:
        return Health.READY
    if state is State.OBEYED:
        return Health.BARRED
    if circuit.costly:
        return Health.COSTLY
    return Health.DUE if state is State.DUE else Health.DOUBTFUL
