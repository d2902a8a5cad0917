"""The counts, against what each call says of itself."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.limits.window import CELLS, Counts, Kind, memory_bytes
from tests.relay.limits.support import PLACES, counter, counts

NODE = 0
START = 1_000_000.0


def take(here: Counts, limit: int, amount: int, at: float) -> tuple[bool, float]:
    is_free, looks = here.take([(counter(limit), amount)], now=at, owner=NODE)
    return is_free, looks[0].wait_seconds


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 30),
    steps=st.lists(
        st.tuples(st.floats(0.0, 20.0), st.integers(0, 12)),
        min_size=1,
        max_size=80,
    ),
)
def test_no_minute_has_more_than_the_limit_and_none_is_refused_while_it_is_free(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    here, now = counts(), START
    taken: list[tuple[float, int]] = []
    for pause, amount in steps:
        now += pause
        amount = min(amount, limit)  # noqa: PLW2901  More than all is all.
        is_free, wait = take(here, limit, amount, now)
        # To the quarter of a second, to which the counts are kept.
        last_minute = sum(a for at, a in taken if now - at < 60)
        at_most = sum(a for at, a in taken if now - at < 60.25)
        if is_free:
            assert last_minute + amount <= limit
            taken.append((now, amount))
        else:
            assert at_most + amount > limit
            assert 0 < wait <= 60.25
            assert take(counts_copy(here), limit, amount, now + wait + 1e-6)[0]


def counts_copy(here: Counts) -> Counts:
    return Counts(memoryview(bytearray(here._words.tobytes())))


def test_all_limits_of_a_call_or_none() -> None:
    here = counts()
    wide, tight = counter(5, key=1), counter(1, key=2)
    both = [(wide, 1), (tight, 1)]
    assert here.take(both, now=START, owner=NODE)[0]
    is_free, looks = here.take(both, now=START, owner=NODE)
    assert not is_free
    assert [look.used for look in looks] == [1, 1]
    assert [bool(look.wait_seconds) for look in looks] == [False, True]
    assert here.take([(wide, 4)], now=START, owner=NODE)[0]


def test_what_was_not_used_is_free_again_and_what_was_used_beyond_counts() -> None:
    here, tokens = counts(), counter(100, Kind.TOKENS)
    here.take([(tokens, 80)], now=START, owner=NODE)
    here.give_back(tokens, 70, taken_at=START, now=START + 5)
    assert here.take([(tokens, 90)], now=START + 5, owner=NODE)[0]
    here.use(tokens, 50, now=START + 6)
    assert not here.take([(tokens, 0)], now=START + 7, owner=NODE)[0]
    # What is forgotten cannot be given back any more.
    here.give_back(tokens, 100, taken_at=START, now=START + 61)
    assert here.take([(tokens, 0)], now=START + 61, owner=NODE)[1][0].used == 140


def test_more_than_the_whole_limit_gets_the_whole() -> None:
    here, tokens = counts(), counter(100, Kind.TOKENS)
    assert here.take([(tokens, 10_000)], now=START, owner=NODE)[0]
    assert not here.take([(tokens, 1)], now=START, owner=NODE)[0]


def test_slots_of_the_dead_are_free() -> None:
    here, slots = counts(), counter(3, Kind.SLOTS)
    for owner in (1, 1, 2):
        here.owner_add(owner) if owner not in here.owners() else None
        assert here.take([(slots, 1)], now=START, owner=owner)[0]
    assert not here.take([(slots, 1)], now=START + 1000, owner=2)[0]
    here.owner_remove(1)
    assert here.running(slots) == 1
    here.release(slots, owner=2)
    here.release(slots, owner=2)
    assert here.running(slots) == 0


def test_a_number_that_is_used_again_begins_with_nothing() -> None:
    here, slots = counts(), counter(3, Kind.SLOTS)
    here.owner_add(5)
    here.take([(slots, 1)], now=START, owner=5)
    here.owner_add(5)
    assert here.running(slots) == 0


@pytest.mark.parametrize("writes", range(1, 6))
def test_who_is_killed_while_counting_leaves_no_wrong_sum(writes: int) -> None:
    class Killed(Exception):
        pass

    class Words:
        """The memory, until the process is killed."""

        def __init__(self, words: memoryview) -> None:
            self.words, self.left = words, writes

        def __getitem__(self, at: int) -> int:
            return self.words[at]

        def __setitem__(self, at: int, value: int) -> None:
            if not self.left:
                raise Killed
            self.left -= 1
            self.words[at] = value

    memory = memoryview(bytearray(memory_bytes(PLACES)))
    here, dying, calls = Counts(memory), Counts(memory), counter(10)
    here.begin()
    here.take([(calls, 4)], now=START, owner=NODE)
    here.end()
    dying._words = Words(dying._words)  # type: ignore[assignment]  # It stands in for the memory.
    dying.begin()
    try:
        dying.take([(calls, 3)], now=START + 1, owner=NODE)
        dying.end()
    except Killed:
        pass
    here.begin()
    _, (look,) = here.take([(calls, 0)], now=START + 1, owner=NODE)
    assert look.used in (4, 7)
    place = here._place(calls)
    assert look.used == sum(here._words[place + 8 : place + 8 + CELLS])


def test_after_a_restart_of_the_machine_nothing_is_left() -> None:
    here, calls = counts(), counter(1)
    assert here.take([(calls, 1)], now=START, owner=NODE)[0]
    assert here.take([(calls, 1)], now=12.5, owner=NODE)[0]
    assert not here.take([(calls, 1)], now=12.5, owner=NODE)[0]


def test_places_are_used_again() -> None:
    here = counts()
    # All of them want to be at the same place.
    crowd = [counter(1, key=1 + n * PLACES) for n in range(200)]
    for at, calls in zip(itertools.count(START, 61), crowd, strict=False):
        assert here.take([(calls, 1)], now=at, owner=NODE)[0]
        assert not here.take([(calls, 1)], now=at, owner=NODE)[0]
