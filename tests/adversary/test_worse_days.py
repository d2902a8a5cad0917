"""Streams on bad days: upstreams that trickle, cut, dawdle, flap and dam up, as customers see them.

Whatever an upstream does, each call has one record; bytes that went out are never followed by those
of another attempt; and what the attempts were is what upstreams saw.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from relay.channels.services import ChannelTerms, channel_set
from relay.upstream import Deadlines
from tests.adversary.gateway import SCRIPTED, USD, Customer, Gateway, body_of, charge_of, until
from tests.adversary.test_bad_days import LOST_AT_MOST, MODELS, busy
from tests.adversary.upstream import DONE, STREAM_HEAD, end, said, usage_chunk
from tests.factories import ACTOR
from tests.faults.http_client import Answer
from tests.relay.upstream.support import Peer

Act = Callable[[Peer], Awaitable[None]]
CALLS = 10
WORDS = said("one") + said(" two")
WHOLE = WORDS + usage_chunk(9, 2) + DONE
PRICE = charge_of(9, 2)
DEADLINES = Deadlines(first_byte_seconds=0.3, idle_seconds=0.3, total_seconds=1.0)


async def well(peer: Peer) -> None:
    await peer.send(STREAM_HEAD, WORDS, usage_chunk(9, 2), DONE)
    await end(peer)


async def hang(peer: Peer) -> None:
    await peer.left()


async def hang_after_words(peer: Peer) -> None:
    await peer.send(STREAM_HEAD, WORDS)
    await peer.left()


async def cut(peer: Peer) -> None:
    await peer.send(STREAM_HEAD, said("one"))
    await asyncio.sleep(0.05)  # So that it is read before the reset discards it.
    peer.reset()


async def trickle(peer: Peer) -> None:
    """Never silent for long, and never done."""
    await peer.send(STREAM_HEAD)
    for byte in count():
        await peer.send(b":" if byte % 2 == 0 else b"\n")
        await asyncio.sleep(0.1)


async def dawdle(peer: Peer) -> None:
    """Slow, but within all deadlines: no reason to be left alone."""
    await asyncio.sleep(0.1)
    await peer.send(STREAM_HEAD)
    for piece in (said("one"), said(" two"), usage_chunk(9, 2), DONE):
        await asyncio.sleep(0.05)
        await peer.send(piece)
    await end(peer)


def refuse(answer: bytes) -> Act:
    async def act(peer: Peer) -> None:
        await peer.send(answer)
        await end(peer)

    return act


@dataclass
class Moody:
    """An upstream that goes through its moods, one a call, and stays with the last."""

    moods: list[Act] = field(default_factory=lambda: [well])
    calls: int = 0

    async def __call__(self, peer: Peer) -> None:
        head, _ = await peer.request()
        if head.startswith(b"GET "):
            await peer.send(MODELS)
            return
        mood = self.moods[0] if len(self.moods) == 1 else self.moods.pop(0)
        self.calls += 1
        await mood(peer)


@dataclass
class Stage:
    gateway: Gateway
    customer: Customer
    first: Moody
    second: Moody

    async def call(self) -> Answer:
        body = body_of(model=SCRIPTED, stream=True)
        return await self.gateway.call(self.customer, body)

    async def calls(self, number: int = CALLS) -> list[Answer]:
        return [await self.call() for _ in range(number)]

    async def check(self, answers: list[Answer]) -> None:
        """What holds whatever upstreams did."""
        records = await self.gateway.records(len(answers))
        attempts = sum(len(record.attempts) if record.attempts else 1 for record in records)
        assert attempts == self.first.calls + self.second.calls, "upstreams saw just these"
        whole = [answer for answer in answers if is_whole(answer)]
        paid = [record for record in records if record.outcome == "completed"]
        assert len(whole) == len(paid)
        assert all(record.charge_nano_usd == PRICE for record in paid)
        for answer in answers:
            assert answer.body.count(b'"one"') <= 1, "never the words of two attempts"
            assert answer.body.count(b"[DONE]") == (answer.status == 200)
        charged = sum(record.charge_nano_usd for record in records)
        assert self.gateway.balance(self.customer) == USD - charged


def is_whole(answer: Answer) -> bool:
    return answer.status == 200 and answer.body == WORDS + DONE


@pytest.fixture
async def stage(empty_gateway: Gateway) -> Stage:
    gateway = empty_gateway
    await gateway.worker(deadlines=DEADLINES)
    stage = Stage(gateway, await gateway.customer(USD), Moody(), Moody())
    await gateway.scripted(stage.first, name="first")
    await gateway.scripted(stage.second, name="second")
    terms = ChannelTerms(priority=1)
    await gateway.change(lambda: channel_set(name="first", terms=terms, actor=ACTOR))
    return stage


@pytest.mark.parametrize(
    "mood", [hang, hang_after_words, cut, trickle], ids=lambda mood: mood.__name__
)
async def test_what_breaks_loses_few_calls_and_none_is_sent_twice(stage: Stage, mood: Act) -> None:
    stage.first.moods = [mood]
    answers = await stage.calls()
    assert [is_whole(answer) for answer in answers] == [False] * LOST_AT_MOST + [True] * (
        CALLS - LOST_AT_MOST
    )
    assert stage.first.calls == LOST_AT_MOST
    await stage.check(answers)


async def test_who_got_words_before_the_end_pays_for_them_once(stage: Stage) -> None:
    stage.first.moods = [cut]
    answer = await stage.call()
    assert b'"one"' in answer.body
    assert b'"error"' in answer.body
    record = await stage.gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert 0 < record.charge_nano_usd < charge_of(200, 2)
    assert stage.second.calls == 0
    await stage.check([answer])


async def test_the_slow_are_waited_for(stage: Stage) -> None:
    stage.first.moods = [dawdle]
    answers = await stage.calls(5)
    assert all(is_whole(answer) for answer in answers)
    assert (stage.first.calls, stage.second.calls) == (5, 0)
    await stage.check(answers)


@pytest.mark.parametrize("status", [429, 503])
async def test_who_flaps_by_refusing_loses_no_call(stage: Stage, status: int) -> None:
    stage.first.moods = [refuse(busy(status)), well] * 20 + [well]
    answers = await stage.calls(30)
    assert all(is_whole(answer) for answer in answers)
    await stage.check(answers)


async def test_who_flaps_by_breaking_is_soon_left_alone(stage: Stage) -> None:
    stage.first.moods = [well, cut] * 40
    answers = await stage.calls(40)
    lost = sum(not is_whole(answer) for answer in answers)
    # Half of a window of 20 calls, which begins with the first failure, until the rate is seen.
    assert lost <= 11
    assert stage.second.calls > 0
    await stage.check(answers)


async def test_who_asks_for_time_gets_it(stage: Stage) -> None:
    stage.first.moods = [refuse(busy(429, retry_after="1")), well]
    answers = [await stage.call()]
    assert stage.first.calls == 1
    loop = asyncio.get_running_loop()
    told_at = loop.time()
    while stage.first.calls == 1:
        answers.append(await stage.call())
        assert len(answers) < 5000, "it never got its calls back"
    assert loop.time() >= told_at + 0.9, "it was left alone for as long as it had said"
    assert all(is_whole(answer) for answer in answers)
    await stage.check(answers)


async def test_both_may_have_their_bad_day(stage: Stage) -> None:
    stage.first.moods = [cut, refuse(busy(503)), refuse(busy(429)), well]
    stage.second.moods = [well, hang, well]
    answers = await stage.calls(6)
    assert [is_whole(answer) for answer in answers] == [False, True, False, True, True, True]
    await stage.check(answers)


async def test_calls_at_once_share_a_bad_day(stage: Stage) -> None:
    """What is under way when an upstream breaks is lost; what comes then is not."""
    stage.first.moods = [cut]
    answers = await asyncio.gather(*(stage.call() for _ in range(20)))
    assert all(answer.status == 200 for answer in answers)
    then = await stage.calls(5)
    assert all(is_whole(answer) for answer in then)
    await until(lambda: len(stage.gateway.recorded()) == 25, "all records")
    await stage.check([*answers, *then])
