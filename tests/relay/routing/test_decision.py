"""The router against an oracle, and three channels through thousands of bad days."""

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from relay.routing.decision import REASONS, STICKY_BYTES, Health, decide, sticky_key


@dataclass(frozen=True)
class Way:
    id: int
    credential_id: int
    priority: int = 0
    weight: float = 1.0
    concurrency: int = 0


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Way], list[Health]]:
    count = draw(st.integers(1, 6))
    ways = [
        Way(
            id=draw(st.integers(1, 3)),
            credential_id=number,
            priority=draw(st.integers(-1, 1)),
            weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
        )
        for number in range(count)
    ]
    return ways, [draw(st.sampled_from(Health)) for _ in ways]


def oracle(ways: list[Way], health: list[Health]) -> list[Way]:
    """Who may take the call, said as plainly as can be."""
    for tier in ((Health.READY, Health.DUE), (Health.DOUBTFUL,), (Health.COSTLY,)):
        fit = [way for way, state in zip(ways, health, strict=True) if state in tier]
        for priority in (1, 0, -1):
            best = [way for way in fit if way.priority == priority]
            if best:
                return best
    return []


@given(situations(), st.floats(0, 1, exclude_max=True), st.none() | st.binary(max_size=8))
def test_the_router_agrees_with_the_oracle(
    situation: tuple[list[Way], list[Health]], draw: float, sticky: bytes | None
) -> None:
    ways, health = situation
    may = oracle(ways, health)
    decision = decide(ways, health, sticky=sticky, draw=draw)
    if decision is None:
        assert may == []
        return
    assert decision.reason in REASONS
    assert decision.candidate in may
    state = health[ways.index(decision.candidate)]
    is_standby = decision.candidate.priority < max(way.priority for way in ways)
    if state >= Health.DOUBTFUL:
        assert decision.reason == "last_resort"
    elif state is Health.DUE:
        assert decision.reason == "probe"
    elif is_standby:
        assert decision.reason == "standby"
    elif len(may) == 1:
        assert decision.reason in {"only", "priority"}
    else:
        assert decision.reason == ("weight" if sticky is None else "sticky")


@given(situations(), st.binary(max_size=8))
def test_a_sticky_call_moves_only_if_its_own_way_goes(
    situation: tuple[list[Way], list[Health]], sticky: bytes
) -> None:
    ways, health = situation
    decision = decide(ways, health, sticky=sticky, draw=0)
    if decision is None:
        return
    for number, way in enumerate(ways):
        if way != decision.candidate and health[number] is not Health.BARRED:
            changed = [*health[:number], Health.BARRED, *health[number + 1 :]]
            again = decide(ways, changed, sticky=sticky, draw=0)
            assert again is not None
            assert again.candidate == decision.candidate


def test_calls_are_shared_by_weight_drawn_or_sticky() -> None:
    ways = [Way(1, 1, weight=1.0), Way(2, 2, weight=3.0), Way(3, 3, weight=6.0)]
    ready = [Health.READY] * 3
    total = 10_000
    drawn = Counter[int]()
    stuck = Counter[int]()
    for number in range(total):
        by_draw = decide(ways, ready, sticky=None, draw=number / total)
        by_key = decide(ways, ready, sticky=b"key %d" % number, draw=0)
        assert by_draw is not None
        assert by_key is not None
        drawn[by_draw.candidate.id] += 1
        stuck[by_key.candidate.id] += 1
    assert drawn == {1: 1000, 2: 3000, 3: 6000}
    for channel, share in {1: 0.1, 2: 0.3, 3: 0.6}.items():
        assert abs(stuck[channel] / total - share) < 0.02


def test_long_prompts_and_cache_keys_stick_and_short_ones_do_not() -> None:
    long = b"x" * STICKY_BYTES
    assert sticky_key(1, prompt_cache_key=None, body=long[1:]) is None
    same = sticky_key(1, prompt_cache_key=None, body=long + b" and a question")
    assert same == sticky_key(1, prompt_cache_key=None, body=long + b" and another") is not None
    assert same != sticky_key(2, prompt_cache_key=None, body=long)
    assert sticky_key(1, prompt_cache_key="a", body=b"1") == sticky_key(
        1, prompt_cache_key="a", body=b"2"
    )
    keys = {sticky_key(o, prompt_cache_key=k, body=b"") for o in (1, 2, 12) for k in ("a", "2:a")}
    assert len(keys) == 6


def test_the_draw_is_no_bias_towards_the_ends() -> None:
    ways = [Way(1, 1), Way(2, 2)]
    chance = random.Random(1)
    found = Counter[int]()
    for _ in range(2000):
        decision = decide(ways, [Health.READY] * 2, sticky=None, draw=chance.random())
        assert decision is not None
        found[decision.candidate.id] += 1
    assert 900 < found[1] < 1100
