"""Which channel, and which of its credentials, takes a call: a pure decision.

What is healthy comes first, by priority; within a priority a call that repeats a long prompt goes
where the last one like it went (upstreams cache prompts by credential), and others are drawn by
weight. Where nothing is healthy, a call is rather tried on what failed before than not at all,
unless upstream itself has said to stay away.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Generic, NamedTuple, Protocol, TypeVar

# Upstreams cache prompts from about a thousand tokens on; shorter bodies are not worth a place.
STICKY_BYTES = 4096
_HASH_BYTES = 8


class Candidate(Protocol):
    """What the decision looks at: a channel with one of its credentials."""

    @property
    def id(self) -> int: ...
    @property
    def credential_id(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def weight(self) -> float: ...


class Health(IntEnum):
    """What is known of a candidate. The lower, the sooner it is asked."""

    READY = 0
    DUE = 1  # It failed, its pause is over, and no call is lost by trying it: it counts as ready.
    DOUBTFUL = 2  # It does not take calls, or did not: only where nothing is ready.
    COSTLY = 3  # It took calls and lost them, and may again: only where there is no other way.
    BARRED = 4  # Full, or upstream has said to stay away: never.


C = TypeVar("C", bound=Candidate)

# Why a call went where it went: the word that its record keeps, and what it means.
REASONS = {
    "only": "Only this channel could serve the call.",
    "priority": "It has the highest priority of those that serve the model.",
    "standby": "Those of higher priority were out of order, full or had asked to be left alone.",
    "weight": "Drawn by weight from the channels of its priority.",
    "sticky": "The last call with the same beginning went there: upstream may have it cached.",
    "retry": "Those that were asked before did not take the call.",
    "probe": "It had failed, its pause was over, and this call was to find out how it is now.",
    "last_resort": "None was known to work, so one was tried rather than none.",
}


class Decision(NamedTuple, Generic[C]):
    candidate: C
    reason: str


def decide(
    candidates: Sequence[C],
    health: Sequence[Health],
    *,
    sticky: bytes | None,
    draw: float,
) -> Decision[C] | None:
    """The candidate that takes the call, and why; None when nobody may.

    `draw` is a number in [0, 1). `sticky` names calls that should go the same way.
    """
    best_health = max(min(health), Health.DUE)
    if best_health is Health.BARRED:
        return None
    usable = [c for c, h in zip(candidates, health, strict=True) if h <= best_health]
    highest = max(candidate.priority for candidate in usable)
    best = [candidate for candidate in usable if candidate.priority == highest]
    if len(best) == 1:
        chosen, reason = best[0], "only" if len(candidates) == 1 else "priority"
    elif sticky is not None:
        chosen, reason = _rendezvous(best, sticky), "sticky"
    else:
        chosen, reason = _drawn(best, draw), "weight"
    if highest < max(candidate.priority for candidate in candidates):
        reason = "standby"
    if best_health is not Health.DUE:
        reason = "last_resort"
    elif health[candidates.index(chosen)] is Health.DUE:
        reason = "probe"
    return Decision(chosen, reason)


def sticky_key(organization_id: int, *, prompt_cache_key: str | None, body: bytes) -> bytes | None:
    """What calls have in common whose prompts upstream may have cached; None: nothing worth it."""
    if prompt_cache_key is not None:
        common = b"k" + prompt_cache_key.encode("utf-8", "surrogatepass")
    elif len(body) >= STICKY_BYTES:
        common = b"p" + body[:STICKY_BYTES]
    else:
        return None
    return blake2b(b"%d:" % organization_id + common, digest_size=_HASH_BYTES).digest()


def _drawn(best: Sequence[C], draw: float) -> C:
    point = draw * sum(candidate.weight for candidate in best)
    for candidate in best:
        point -= candidate.weight
        if point < 0:
            return candidate
    return best[-1]


def _rendezvous(best: Sequence[C], sticky: bytes) -> C:
    """By weight too, over all keys; and when one goes or comes, only its own keys move."""

    def score(candidate: C) -> float:
        name = b"%d:%d:" % (candidate.id, candidate.credential_id) + sticky
        number = int.from_bytes(blake2b(name, digest_size=_HASH_BYTES).digest())
        return -candidate.weight / math.log((number + 1) / (2 ** (8 * _HASH_BYTES) + 1))

    return max(best, key=score)
