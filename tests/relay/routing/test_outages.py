"""Three channels through 10,000 outages, in virtual time, with the relay's own decisions."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from relay.routing.circuits import DEFAULT_POLICY
from relay.routing.traffic import Traffic
from tests.relay.routing.test_decision import Way

MODEL = "any"
OUTAGES = 10_000
REFUSING, BUSY, LIMITED, HANGING = "refusing", "busy", "limited", "hanging"


@dataclass
class Weather:
    """A channel's good and bad spells."""

    chance: random.Random
    until: float = 0.0
    mode: str = ""  # Empty: all is well.
    outages: int = 0
    lost: Counter[int] = field(default_factory=Counter)  # Calls lost by each of its outages.

    def at(self, now: float) -> str:
        while now >= self.until:
            if self.mode:
                self.mode = ""
                self.until += self.chance.expovariate(1 / 20)
            else:
                self.mode = self.chance.choice([REFUSING, BUSY, LIMITED, HANGING])
                self.outages += 1
                self.until += self.chance.expovariate(1 / 10)
        return self.mode


@dataclass
class World:
    seed: int
    now: float = 0.0
    avoidable: int = 0
    unavoidable: int = 0
    served: int = 0
    gambled: int = 0
    needless: int = 0  # Sent where upstream had said to stay away.

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.ways = [Way(1, 1, priority=1), Way(2, 2, weight=2.0), Way(3, 3)]
        self.weather = {way.id: Weather(random.Random(self.seed + way.id)) for way in self.ways}
        self.told: dict[int, float] = {}
        self.traffic: Traffic[Way] = Traffic(clock=lambda: self.now, chance=self.chance.random)

    def run(self, outages: int) -> None:
        while sum(weather.outages for weather in self.weather.values()) < outages:
            self.now += self.chance.expovariate(4)
            self.probe()
            self.call()

    def probe(self) -> None:
        for way in self.traffic.to_probe(self.ways):
            attempt = self.traffic.probe(way)
            if self.weather[way.id].at(self.now):
                self.traffic.channel_failed(way, costly=True)
            else:
                self.traffic.succeeded(attempt)
            self.traffic.end(attempt)

    def call(self) -> None:
        """What the relay does with a call, as far as channels are concerned."""
        modes = {way.id: self.weather[way.id].at(self.now) for way in self.ways}
        could_be_served = any(
            not mode and self.told.get(channel, 0) <= self.now for channel, mode in modes.items()
        )
        tried: set[int] = set()
        while decision := self.traffic.choose(self.ways, model=MODEL, tried=tried):
            way = decision.candidate
            tried.add(way.credential_id)
            attempt = self.traffic.begin(way, MODEL)
            self.needless += self.told.get(way.id, 0) > self.now
            verdict = self.send(way, modes[way.id])
            if attempt is not None:
                if verdict == "served":
                    self.traffic.succeeded(attempt)
                self.traffic.end(attempt)
            if verdict == "served":
                self.served += 1
                return
            if verdict == "lost":
                if decision.reason == "last_resort":
                    self.gambled += 1  # As far as anybody could know, all were down.
                elif could_be_served:
                    weather = self.weather[way.id]
                    weather.lost[weather.outages] += 1
                return
        if could_be_served:
            self.avoidable += 1
        else:
            self.unavoidable += 1

    def send(self, way: Way, mode: str) -> str:
        if not mode:
            return "served"
        if mode == HANGING:
            self.traffic.channel_failed(way, costly=True)
            return "lost"
        if mode == REFUSING:
            self.traffic.channel_failed(way, costly=False)
        elif mode == BUSY:
            self.traffic.credential_limited(way, MODEL, None)
        else:
            remaining = self.weather[way.id].until - self.now
            self.told[way.id] = self.now + remaining
            self.traffic.credential_limited(way, MODEL, remaining)
        return "refused"


@pytest.mark.parametrize("seed", [1, 2])
def test_no_call_is_lost_that_another_channel_could_have_served(seed: int) -> None:
    world = World(seed)
    world.run(OUTAGES)
    assert world.avoidable == 0
    assert world.needless == 0
    assert world.unavoidable + world.gambled < world.served / 20
    # An upstream that takes a call and never answers is found out by the calls that it takes.
    lost = [lost for weather in world.weather.values() for lost in weather.lost.values()]
    assert max(lost) <= DEFAULT_POLICY.failures_in_a_row


def test_calls_at_once_are_limited_by_the_channel() -> None:
    ways = [Way(1, 1, priority=1, concurrency=2), Way(1, 2, priority=1, concurrency=2), Way(2, 3)]
    traffic: Traffic[Way] = Traffic(clock=lambda: 0.0, chance=lambda: 0.0)
    attempts = []
    for channel in (1, 1, 2, 2):
        decision = traffic.choose(ways, model=MODEL)
        assert decision is not None
        assert decision.candidate.id == channel
        attempts.append(traffic.begin(decision.candidate, MODEL))
    first = attempts[0]
    assert first is not None
    traffic.end(first)
    traffic.end(first)
    again = [traffic.choose(ways, model=MODEL), traffic.choose(ways[:1], model=MODEL)]
    assert [decision and decision.candidate.id for decision in again] == [1, 1]
    traffic.begin(ways[0], MODEL)
    assert traffic.choose(ways[:1], model=MODEL) is None


def test_a_refused_credential_leaves_the_others_alone() -> None:
    ways = [Way(1, 1), Way(1, 2)]
    traffic: Traffic[Way] = Traffic(clock=lambda: 0.0, chance=lambda: 0.0)
    traffic.credential_refused(ways[0])
    for _ in range(10):
        decision = traffic.choose(ways, model=MODEL)
        assert decision is not None
        assert decision.candidate.credential_id == 2


def test_a_limit_of_one_model_is_not_one_of_another() -> None:
    ways = [Way(1, 1, priority=1), Way(2, 2)]
    traffic: Traffic[Way] = Traffic(clock=lambda: 0.0, chance=lambda: 0.0)
    traffic.credential_limited(ways[0], "busy", 10)
    found = [traffic.choose(ways, model=model) for model in ("busy", "other")]
    assert [decision and decision.candidate.id for decision in found] == [2, 1]


def test_health_costs_nothing_while_all_is_well() -> None:
    traffic: Traffic[Way] = Traffic(clock=lambda: 0.0, chance=lambda: 0.0)
    way = Way(1, 1)
    assert traffic.begin(way, MODEL) is None
    traffic.channel_failed(way, costly=False)
    assert traffic.begin(way, MODEL) is not None
