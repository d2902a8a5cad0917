"""Counting in plain memory: what was used in the last minute, and what runs now. Pure.

Note [The minute slides]
A counter keeps what was used in each quarter of a second of the last minute, in a ring of cells,
and their sum. What was used is forgotten no earlier than 60 s later and no later than 60.25 s, so
in no 60 seconds, wherever they begin, is more used than the limit.

Note [Killed while counting]
A process may die between two writes. Whoever counts sets a mark before, and takes it away after;
who finds the mark begins a new epoch, in which the sum of each counter is added up from its cells
before it is believed.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from msgspec import Struct

TICKS_PER_SECOND: Final = 4
WINDOW_SECONDS: Final = 60
CELLS: Final = WINDOW_SECONDS * TICKS_PER_SECOND + 1
# What runs is counted by owner, in the same cells.
OWNERS: Final = 240

# The words of the memory before the counters: the mark, the epoch, and which owners there are.
_MARK, _EPOCH, _OWNERS = 0, 1, 16
HEAD_WORDS: Final = 256
# The words of a counter.
_KEY, _TICK, _SUM, _SUM_EPOCH, _KIND, _CELLS = 0, 1, 2, 3, 4, 8
COUNTER_WORDS: Final = 256
# So many places are tried for a counter; only with most of them in use are all of these taken.
PROBES: Final = 64
SLOT_WAIT_SECONDS: Final = 1.0

_NO_CELLS = memoryview(bytes(8 * CELLS)).cast("q")
_NO_COUNTER = memoryview(bytes(8 * COUNTER_WORDS)).cast("q")


def memory_bytes(counters: int) -> int:
    return (HEAD_WORDS + counters * COUNTER_WORDS) * 8


class Kind(IntEnum):
    CALLS = 1
    TOKENS = 2
    SLOTS = 3


class Counter(Struct, frozen=True):
    """Something that is counted, and how much of it there may be."""

    key: int
    """Not 0, and the same in all processes."""
    kind: Kind
    limit: int
    subject: str
    """The scope that is counted, for ever the same; and as its owner knows it:"""
    name: str


class Look(NamedTuple):
    """How full a counter is."""

    counter: Counter
    used: int
    wait_seconds: float
    """Until there is room for what was asked for; 0 if there is."""
    restored_seconds: float
    """Until all is free again, if nothing more is used."""

    @property
    def remaining(self) -> int:
        return max(0, self.counter.limit - self.used)


class Counts:
    """The counters in some memory. Who calls anything here holds the memory's lock."""

    def __init__(self, memory: memoryview) -> None:
        self._words = memory.cast("B").cast("q")
        self._number = (len(self._words) - HEAD_WORDS) // COUNTER_WORDS
        assert memory.nbytes == memory_bytes(self._number) > 0, "no such memory has this size"
        self._places: dict[int, int] = {}

    def begin(self) -> None:
        """Say that counting begins. See Note [Killed while counting]."""
        if self._words[_MARK]:
            self._words[_EPOCH] += 1
        self._words[_MARK] = 1

    def end(self) -> None:
        self._words[_MARK] = 0

    def take(
        self, wants: Sequence[tuple[Counter, int]], *, now: float, owner: int
    ) -> tuple[bool, list[Look]]:
        """Use so much of each, or nothing of any; and how full they are then.

        More than the whole limit is never free: who wants that, gets the whole.
        """
        tick = int(now * TICKS_PER_SECOND)
        looks, is_free = [], True
        for counter, amount in wants:
            look = self._look(counter, min(amount, counter.limit), now, tick)
            is_free = is_free and not look.wait_seconds
            looks.append(look)
        if not is_free:
            return False, looks
        for position, (counter, amount) in enumerate(wants):
            taken = min(amount, counter.limit)
            self._add(counter, taken, owner if counter.kind is Kind.SLOTS else tick)
            looks[position] = Look(
                counter, looks[position].used + taken, 0.0, float(WINDOW_SECONDS)
            )
        return True, looks

    def use(self, counter: Counter, amount: int, *, now: float) -> None:
        """Count what was used in any case."""
        tick = int(now * TICKS_PER_SECOND)
        self._look(counter, 0, now, tick)
        self._add(counter, amount, tick)

    def give_back(self, counter: Counter, amount: int, *, taken_at: float, now: float) -> None:
        """Of what was taken then, so much was not used."""
        tick, now_tick = int(taken_at * TICKS_PER_SECOND), int(now * TICKS_PER_SECOND)
        place = self._place(counter)
        if place < 0 or now_tick - tick >= CELLS:
            return
        self._advance(place, now_tick)
        self._add(counter, -min(amount, self._words[place + _CELLS + tick % CELLS]), tick)

    def release(self, counter: Counter, *, owner: int) -> None:
        """A call has ended."""
        place = self._place(counter)
        if place >= 0 and self._words[place + _CELLS + owner] > 0:
            self._add(counter, -1, owner)

    def running(self, counter: Counter) -> int:
        """How many calls of all owners."""
        place = self._place(counter)
        return 0 if place < 0 else self._words[place + _SUM]

    # --- Owners ----------------------------------------------------------------------------------

    def owner_add(self, owner: int) -> None:
        """One begins, with nothing: what another of its number may have left is gone."""
        if self._words[_OWNERS + owner]:
            self.owner_remove(owner)
        self._words[_OWNERS + owner] = 1

    def owner_remove(self, owner: int) -> None:
        """Whatever it still had running has ended with it."""
        for place in range(HEAD_WORDS, len(self._words), COUNTER_WORDS):
            if self._words[place + _KIND] == Kind.SLOTS:
                self._check(place)
                cell = place + _CELLS + owner
                self._words[place + _SUM] -= self._words[cell]
                self._words[cell] = 0
        self._words[_OWNERS + owner] = 0

    def owners(self) -> list[int]:
        """Those who began and were not removed."""
        return [owner for owner in range(OWNERS) if self._words[_OWNERS + owner]]

    # --- Counters --------------------------------------------------------------------------------

    def _look(self, counter: Counter, amount: int, now: float, tick: int) -> Look:
        place = self._place(counter, tick)
        if place < 0:  # There is no room to count it, so it is not limited.
            return Look(counter, 0, 0.0, 0.0)
        words = self._words
        if counter.kind is Kind.SLOTS:
            used = words[place + _SUM]
            is_free = used + amount <= counter.limit
            return Look(counter, used, 0.0 if is_free else SLOT_WAIT_SECONDS, 0.0)
        self._advance(place, tick)
        used = words[place + _SUM]
        excess = used + amount - counter.limit
        if excess <= 0:
            return Look(counter, used, 0.0, float(WINDOW_SECONDS))
        return Look(
            counter,
            used,
            self._wait(place, excess, now, tick),
            self._wait(place, used, now, tick),
        )

    def _wait(self, place: int, excess: int, now: float, tick: int) -> float:
        """How long until so much of what was used is forgotten."""
        freed = 0
        for then in range(tick - CELLS + 1, tick + 1):
            freed += self._words[place + _CELLS + then % CELLS]
            if freed >= excess:
                return max(0.001, (then + CELLS) / TICKS_PER_SECOND - now)
        return float(WINDOW_SECONDS)

    def _advance(self, place: int, tick: int) -> None:
        """Forget what is older than the window."""
        words = self._words
        last = words[place + _TICK]
        if tick == last:
            return
        cells = place + _CELLS
        if not 0 < tick - last < CELLS:
            if 0 <= last - tick <= TICKS_PER_SECOND:
                return  # Somebody read the clock a little later, and was first here.
            # Long ago, or before this machine was started, when the clock was another one.
            words[cells : cells + CELLS] = _NO_CELLS
            words[place + _SUM] = 0
        else:
            for then in range(last + 1, tick + 1):
                cell = cells + then % CELLS
                if words[cell]:
                    words[place + _SUM] -= words[cell]
                    words[cell] = 0
        words[place + _TICK] = tick

    def _add(self, counter: Counter, amount: int, position: int) -> None:
        place = self._place(counter)
        if place < 0:
            return
        cells = OWNERS if counter.kind is Kind.SLOTS else CELLS
        self._words[place + _CELLS + position % cells] += amount
        self._words[place + _SUM] += amount

    # --- Places ----------------------------------------------------------------------------------

    def _place(self, counter: Counter, tick: int | None = None) -> int:
        """Where the counter is; -1 if nowhere. With a tick, it gets a place if it has none."""
        place = self._places.get(counter.key, -1)
        if place < 0 or self._words[place + _KEY] != counter.key:
            place = self._find(counter, tick)
            if place < 0:
                return place
            self._places[counter.key] = place
        self._check(place)
        return place

    def _find(self, counter: Counter, tick: int | None) -> int:
        vacant = -1
        for probe in range(PROBES):
            place = HEAD_WORDS + (counter.key + probe) % self._number * COUNTER_WORDS
            if self._words[place + _KEY] == counter.key:
                return place
            if vacant < 0 and tick is not None and self._is_vacant(place, tick):
                vacant = place
        if vacant >= 0:
            self._words[vacant : vacant + COUNTER_WORDS] = _NO_COUNTER
            self._words[vacant + _KIND] = counter.kind
            self._words[vacant + _KEY] = counter.key
        return vacant

    def _is_vacant(self, place: int, tick: int) -> bool:
        """Nobody counts there, or all that was counted is past."""
        if not self._words[place + _KEY]:
            return True
        if self._words[place + _KIND] == Kind.SLOTS:
            self._check(place)
            return self._words[place + _SUM] == 0
        return abs(tick - self._words[place + _TICK]) >= CELLS

    def _check(self, place: int) -> None:
        words = self._words
        if words[place + _SUM_EPOCH] != words[_EPOCH]:
            words[place + _SUM] = sum(words[place + _CELLS : place + _CELLS + CELLS])
            words[place + _SUM_EPOCH] = words[_EPOCH]
