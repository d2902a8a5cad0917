"""Bugs of repetition: calls that were sent, settled or recorded more than once."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import openai
import pytest
from django.db import IntegrityError

from billing.engine.journal import read
from billing.engine.records import Settled, frame
from billing.models import SetAsideRecord, UsageRecord
from billing.set_aside import set_aside_resolve
from relay.upstream import Deadlines
from tests.adversary.gateway import (
    SCRIPTED,
    USD,
    Gateway,
    body_of,
    charge_of,
    now,
)
from tests.adversary.upstream import (
    DONE,
    FINISH,
    STREAM_HEAD,
    answer,
    end,
    json_response,
    said,
    usage_chunk,
    usage_of,
)
from tests.factories import ACTOR
from tests.relay.upstream.support import Peer

HALF_AN_ANSWER = answer({"content": "one two"}, usage=usage_of(9, 2))[:-40]
BROKEN = {"error": {"message": "It broke.", "type": "server_error"}}


async def _reset(peer: Peer) -> None:
    peer.reset()


async def _half_an_answer(peer: Peer) -> None:
    await peer.send(HALF_AN_ANSWER)
    peer.reset()


async def _half_a_head(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-")
    peer.reset()


async def _error(peer: Peer) -> None:
    await peer.send(json_response(500, BROKEN))


async def _nonsense(peer: Peer) -> None:
    await peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")


async def _silence(peer: Peer) -> None:
    await peer.left()


# What an upstream may do with a call that it has read, and the status that the client gets.
ACCEPTED_AND_THEN: dict[str, tuple[Callable[[Peer], Awaitable[None]], int]] = {
    "a reset": (_reset, 502),
    "an end": (end, 502),
    "half a head": (_half_a_head, 502),
    "half an answer": (_half_an_answer, 502),
    "an error": (_error, 502),
    "another protocol": (_nonsense, 502),
    "silence": (_silence, 504),
}


async def test_b35_a_call_that_upstream_may_have_taken_is_not_sent_again(
    empty_gateway: Gateway,
) -> None:
    """Others retry whatever fails, and pay for each of the answers that they never saw."""
    gateway = empty_gateway
    deadlines = Deadlines(first_byte_seconds=0.3)
    acts = iter(ACCEPTED_AND_THEN.values())
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        sent += 1
        act, _ = next(acts)
        await act(peer)

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    for number, (name, (_, status)) in enumerate(ACCEPTED_AND_THEN.items(), start=1):
        # One that has seen the channel fail three times would spare it.
        ignorant = await gateway.worker(deadlines=deadlines)
        reply = await gateway.call(customer, body_of(model=SCRIPTED), at=ignorant)
        await gateway.stop(ignorant)
        assert reply.status == status, name
        # Nor should the client's SDK, which it would by itself.
        assert reply.headers["x-should-retry"] == "false", name
        assert (sent, gateway.arrived()) == (number, 0), name
    await gateway.worker()
    records = await gateway.records(len(ACCEPTED_AND_THEN))
    assert {record.outcome for record in records} == {"upstream_error"}
    assert gateway.balance(customer) == USD


async def test_b35_a_kept_connection_that_dies_with_a_call_is_no_reason_to_send_it_again(
    gateway: Gateway,
) -> None:
    """Many HTTP clients do so by themselves, below whoever counts the attempts."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.answer(answer({"content": "one two"}, usage=usage_of(9, 2)))
        await peer.request()
        sent += 1
        peer.reset()

    upstream = await gateway.scripted(script)
    customer = await gateway.customer(USD)
    assert (await gateway.call(customer, body_of(model=SCRIPTED))).status == 200
    assert (await gateway.call(customer, body_of(model=SCRIPTED))).status == 502
    assert (upstream.accepted, sent, gateway.arrived()) == (1, 1, 0)
    first, second = await gateway.records(2)
    assert (first.charge_nano_usd, second.charge_nano_usd) == (charge_of(9, 2), 0)


async def test_b35_a_stream_that_breaks_is_not_begun_again(gateway: Gateway) -> None:
    """A client that got the first words must not get, and pay, them a second time."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        sent += 1
        await peer.send(STREAM_HEAD, said("one"))
        peer.reset()

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    reply = await gateway.call(customer, body_of(model=SCRIPTED, stream=True))
    assert reply.body.count(b'"one"') <= 1
    assert b'"code":"upstream_error"' in reply.body
    record = await gateway.record()
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens)
    assert (sent, gateway.arrived()) == (1, 0)


async def test_b35_only_a_call_that_was_not_taken_goes_elsewhere_and_is_charged_once(
    gateway: Gateway,
) -> None:
    """Where upstream declines, or is not there, another channel is asked: one call, one charge."""
    refusals = iter((429, 503))
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        sent += 1
        await peer.send(json_response(next(refusals), BROKEN))

    upstream = await gateway.scripted(script)
    customer = await gateway.customer(USD)
    knobs = {"prompt_tokens": 9, "completion_tokens": 2}
    for elsewhere in (1, 2, 3):
        if elsewhere == 3:
            await upstream.stop()
        reply = await gateway.call(customer, body_of(model=SCRIPTED, simulate=knobs))
        assert reply.status == 200
        assert gateway.arrived() == elsewhere
    assert sent == 2
    for record in await gateway.records(3):
        assert (record.channel, record.charge_nano_usd) == ("simulator", charge_of(9, 2))
    assert gateway.balance(customer) == USD - 3 * charge_of(9, 2)


async def test_b36_what_an_sdk_sends_again_is_billed_as_often_as_it_was_made(
    gateway: Gateway,
) -> None:
    """An SDK that times out asks again: each is a call of its own, seen as a retry, billed once."""
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        await goes_on.wait()
        if json.loads(body)["stream"]:
            await peer.send(STREAM_HEAD, said("one two"), FINISH, usage_chunk(9, 2), DONE)
        else:
            await peer.send(answer({"content": "one two"}, usage=usage_of(9, 2)))
        await end(peer)

    upstream = await gateway.scripted(script)
    customer = await gateway.customer(USD)
    base_url = f"http://127.0.0.1:{gateway.workers[0].port}/v1"
    async with openai.AsyncOpenAI(
        base_url=base_url,
        api_key=customer.api_key,
        timeout=openai.Timeout(20, read=0.2),
        max_retries=2,
    ) as sdk:
        given_up = await asyncio.gather(
            *(
                sdk.chat.completions.create(
                    model=SCRIPTED, messages=[{"role": "user", "content": "Hello"}], stream=stream
                )
                for stream in (False, True)
            ),
            return_exceptions=True,
        )
    assert [type(one) for one in given_up] == [openai.APITimeoutError] * 2
    goes_on.set()
    records = await gateway.records(6)
    assert (upstream.accepted, gateway.arrived()) == (6, 0)
    for stream in (False, True):
        retries = [record.retry_count for record in records if record.stream is stream]
        assert retries == [0, 1, 2]
    assert [record.charge_nano_usd for record in records] == [charge_of(9, 2)] * 6


async def test_b37_a_call_that_is_logged_twice_is_charged_once(gateway: Gateway) -> None:
    """Others log a call where it is translated and where it is sent, and bill both."""
    customer = await gateway.customer(USD)
    assert (await gateway.call(customer, body_of())).status == 200
    first = await gateway.record()
    [worker] = gateway.workers[0].engine._workers
    entries = [entry for _, _, entry in read(worker.journal.directory, 0, limit_bytes=2**20)]
    [settled] = [entry for entry in entries if isinstance(entry, Settled)]
    # The second logger: once the same, and once at another charge.
    worker.journal.append(frame(settled))
    fields = {name: getattr(settled, name) for name in settled.__struct_fields__}
    worker.journal.append(frame(Settled(**(fields | {"charge_nano_usd": 1}))))
    await gateway.idle()
    assert await gateway.record() == first
    assert gateway.balance(customer) == USD - first.charge_nano_usd
    # Nobody's money moved, and the operator knows.
    findings = gateway.bank.findings()
    assert {invariant for invariant, *_ in findings} == {"no record waits to be set right"}
    assert len(findings) == 2

    def resolve() -> None:
        for record in SetAsideRecord.objects.all():
            assert set_aside_resolve(record_id=record.pk, actor=ACTOR, now=now())

    await gateway.operate(resolve)


async def test_b37_the_database_takes_one_record_per_call(gateway: Gateway) -> None:
    """What two writers both believe to be theirs, the primary key settles."""
    customer = await gateway.customer(USD)
    assert (await gateway.call(customer, body_of())).status == 200
    await gateway.records(1)

    def insert_again() -> None:
        record = UsageRecord.objects.get()
        record.charge_nano_usd = 1
        record.save(force_insert=True)

    with pytest.raises(IntegrityError):
        await gateway.operate(insert_again)
