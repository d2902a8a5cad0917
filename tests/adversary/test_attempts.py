"""What a call's record says of the way that it took."""

from typing import Any

from relay.channels.services import ChannelTerms, channel_set
from relay.upstream import Deadlines
from tests.adversary.gateway import SCRIPTED, USD, Gateway, Record, body_of, charge_of
from tests.adversary.test_bad_days import GOOD, Channel, busy, silence
from tests.factories import ACTOR

NAMES = ("channel", "credential", "reason", "outcome", "status", "upstream_cost_nano_usd")
QUARTER = ChannelTerms(priority=1, cost_ppm=250_000)


async def one_call(gateway: Gateway, first: Channel, second: Channel) -> Record:
    """A call for which the first channel is asked before the second."""
    await gateway.worker(deadlines=Deadlines(first_byte_seconds=0.2))
    await gateway.scripted(first, name="first")
    await gateway.scripted(second, name="second")
    await gateway.change(lambda: channel_set(name="first", terms=QUARTER, actor=ACTOR))
    await gateway.call(await gateway.customer(USD), body_of(model=SCRIPTED))
    return await gateway.record()


def told(record: Record) -> list[tuple[Any, ...]]:
    """Everything of the attempts but how long they took."""
    assert record.attempts is not None
    assert all(0 <= one["duration_ms"] < 10_000 for one in record.attempts)
    return [tuple(one[name] for name in NAMES) for one in record.attempts]


async def test_a_call_that_the_first_channel_served(empty_gateway: Gateway) -> None:
    record = await one_call(empty_gateway, Channel(), Channel())
    assert (record.channel, record.credential, record.route_reason) == ("first", "main", "priority")
    assert record.attempts is None, "the record says it all"
    assert record.upstream_cost_nano_usd == record.official_cost_nano_usd // 4


async def test_a_call_that_the_second_channel_served(empty_gateway: Gateway) -> None:
    record = await one_call(empty_gateway, Channel(busy(429)), Channel())
    assert (record.channel, record.credential, record.route_reason) == ("second", "main", "retry")
    assert record.charge_nano_usd == charge_of(9, 2)
    assert record.upstream_cost_nano_usd == record.official_cost_nano_usd
    assert told(record) == [
        ("first", "main", "priority", "refused", 429, 0),
        ("second", "main", "retry", "completed", 200, record.upstream_cost_nano_usd),
    ]


async def test_a_call_that_was_never_answered(empty_gateway: Gateway) -> None:
    record = await one_call(empty_gateway, Channel(silence), Channel())
    assert (record.status, record.outcome, record.charge_nano_usd) == (504, "upstream_error", 0)
    assert told(record) == [("first", "main", "priority", "unanswered", 0, 0)]


async def test_a_call_that_nobody_took(empty_gateway: Gateway) -> None:
    record = await one_call(empty_gateway, Channel(busy(503)), Channel(busy(500)))
    assert (record.status, record.outcome, record.charge_nano_usd) == (502, "upstream_error", 0)
    assert told(record) == [
        ("first", "main", "priority", "refused", 503, 0),
        ("second", "main", "retry", "failed", 500, 0),
    ]


async def test_why_the_second_channel_was_asked_first(empty_gateway: Gateway) -> None:
    gateway, first = empty_gateway, Channel(busy(429, retry_after="60"))
    await one_call(gateway, first, Channel(GOOD))
    await gateway.call(await gateway.customer(USD), body_of(model=SCRIPTED))
    _, record = await gateway.records(2)
    assert (record.channel, record.route_reason) == ("second", "standby")
    assert record.attempts is None
    assert first.calls == 1
