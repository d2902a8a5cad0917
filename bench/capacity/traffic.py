"""Calls as customers make them: at random moments, of random sizes, each with a hold of its own."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.capacity.observer import Observer
from billing.engine import (
    Bounds,
    Call,
    EngineUnavailable,
    Hold,
    HoldRequest,
    InsufficientQuota,
    MoneyEngine,
    Outcome,
)
from billing.identifiers import uuid7

# Of a small and of a large model: nano-USD for a token of the prompt, and for one of the answer.
RATES = ((150, 600), (2_500, 10_000))
SMALL_SHARE = 0.8
LIMITS = (512, 1024, 4096, 16_384)
MIN_OUTPUT = 256
LONGEST_ANSWER = 3_000  # Tokens; so that a scenario ends half a minute after its last call.
BOUND_PER_PROMPT_TOKEN = 4  # The bound counts bytes.
TOKENS_PER_SECOND = 120.0
FIRST_TOKEN_SECONDS = 0.4
# Some customers ask again, somewhere else, until they are served.
PATIENT_SHARE = 0.1
MOST_PATIENT = 50
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.5
DONE = Outcome(status=200, outcome="completed", usage_source="upstream")


class Sample(NamedTuple):
    minimum_nano_usd: int
    wanted_nano_usd: int
    cost_nano_usd: int
    seconds: float


def sample(dice: random.Random) -> Sample:
    """Log-normal lengths: most calls are short and cheap, a few cost a hundred times as much."""
    prompt_rate, answer_rate = RATES[dice.random() > SMALL_SHARE]
    prompt = min(100_000, round(dice.lognormvariate(math.log(800), 1.2)))
    limit = dice.choice(LIMITS)
    answer = max(1, min(limit, LONGEST_ANSWER, round(dice.lognormvariate(math.log(250), 1.0))))
    bound = prompt * BOUND_PER_PROMPT_TOKEN * prompt_rate
    return Sample(
        minimum_nano_usd=bound + MIN_OUTPUT * answer_rate,
        wanted_nano_usd=bound + limit * answer_rate,
        cost_nano_usd=prompt * prompt_rate + answer * answer_rate,
        seconds=FIRST_TOKEN_SECONDS + answer / TOKENS_PER_SECOND,
    )


def mean_cost(dice: random.Random, samples: int = 20_000) -> int:
    return sum(sample(dice).cost_nano_usd for _ in range(samples)) // samples


def call_of(organization_id: int) -> Call:
    return Call(
        request_id=uuid7(),
        organization_id=organization_id,
        project_id=1,
        api_key_id=1,
        api_key_prefix="sk-simulated",
        endpoint="chat/completions",
        model="simulated",
        upstream_model="simulated",
        channel="simulated",
        stream=True,
        price_id=1,
        discount_ppm=1_000_000,
        retry_count=0,
        opened_at=0.0,
    )


def request_of(organization_id: int, wanted: Sample) -> HoldRequest:
    bounds = Bounds(
        minimum_nano_usd=wanted.minimum_nano_usd, wanted_nano_usd=wanted.wanted_nano_usd
    )
    return HoldRequest(organization_id=organization_id, strict=bounds, standard=bounds)


@dataclass(slots=True)
class Answers:
    """What became of the calls."""

    served: int = 0
    denied: int = 0
    unavailable: int = 0
    died: int = 0
    settled: int = 0
    charged: int = 0
    waits: list[float] = field(default_factory=list)  # Of those that did not get a hold at once.


class Traffic:
    """Arrives at every engine alike, at so many calls a second in total."""

    def __init__(
        self,
        engines: Sequence[MoneyEngine],
        observer: Observer,
        organizations: Sequence[int],
        *,
        per_second: float,
        seed: int,
    ) -> None:
        self.answers = Answers()
        self.engines = engines
        self.open: dict[Hold, tuple[MoneyEngine, asyncio.TimerHandle]] = {}
        self._observer = observer
        self._organizations = organizations
        self._pause = 1 / per_second
        self._dice = random.Random(seed)
        # Of its own, so that what is asked again does not change what is asked first.
        self._retry_dice = random.Random(-seed)
        self._next: asyncio.TimerHandle | None = None
        self.patient = 0
        self.stopped = False
        self._empty: asyncio.Event | None = None  # While somebody waits for the last call.
        self._asking: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._later(asyncio.get_running_loop().time())

    def stop(self) -> None:
        self.stopped = True
        if self._next is not None:
            self._next.cancel()

    async def drained(self) -> None:
        """When all calls have ended."""
        while self._asking:
            await asyncio.wait(self._asking)
        if self.open:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def _later(self, at: float) -> None:
        at += self._dice.expovariate(1) * self._pause
        self._next = asyncio.get_running_loop().call_at(at, self._arrive, at)

    def _arrive(self, at: float) -> None:
        self._later(at)
        dice = self._dice
        engine, organization_id = dice.choice(self.engines), dice.choice(self._organizations)
        task = asyncio.create_task(self._call(engine, organization_id, sample(dice)))
        self._asking.add(task)
        task.add_done_callback(self._asked)

    def _asked(self, task: "asyncio.Task[None]") -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.result()

    async def _call(self, engine: MoneyEngine, organization_id: int, wanted: Sample) -> None:
        loop = asyncio.get_running_loop()
        first = began = loop.time()
        patient = self.patient < MOST_PATIENT and self._retry_dice.random() < PATIENT_SHARE
        self.patient += patient
        while (hold := await self._ask(engine, organization_id, wanted, first=first)) is None:
            if not patient or self.stopped or loop.time() - first > PATIENCE_SECONDS:
                self.patient -= patient
                return
            await asyncio.sleep(RETRY_SECONDS)
            engine, began = self._retry_dice.choice(self.engines), loop.time()
        self.patient -= patient
        now = loop.time()
        self.answers.served += 1
        if now > began:
            self.answers.waits.append(now - began)
        self._observer.change(organization_id, -hold.amount_nano_usd, now)
        engine.call_opened(hold, call_of(organization_id))
        cost = min(wanted.cost_nano_usd, hold.amount_nano_usd)
        timer = loop.call_later(wanted.seconds, self._settle, engine, hold, cost)
        self.open[hold] = engine, timer

    async def _ask(
        self, engine: MoneyEngine, organization_id: int, wanted: Sample, *, first: float
    ) -> Hold | None:
        try:
            return await engine.hold_open(request_of(organization_id, wanted))
        except InsufficientQuota:
            self.answers.denied += 1
        except EngineUnavailable:
            self.answers.unavailable += 1
        self._observer.denied(
            organization_id,
            wanted.minimum_nano_usd,
            at=asyncio.get_running_loop().time(),
            first_asked=first,
        )
        return None

    def _settle(self, engine: MoneyEngine, hold: Hold, cost: int) -> None:
        del self.open[hold]
        if not self.open and self._empty is not None:
            self._empty.set()
        charge = engine.call_settle(hold, DONE, cost)
        self.answers.settled += 1
        self.answers.charged += charge
        now = asyncio.get_running_loop().time()
        self._observer.change(hold.lease.organization_id, hold.amount_nano_usd - charge, now)

    def died(self, engine: MoneyEngine) -> list[Hold]:
        """The calls of a process that was killed end with it; returns their holds."""
        lost = [hold for hold, (owner, _) in self.open.items() if owner is engine]
        for hold in lost:
            self.open.pop(hold)[1].cancel()
        self.answers.died += len(lost)
        return lost
