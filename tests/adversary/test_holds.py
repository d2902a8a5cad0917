"""Holds that never return: every way out of a call, tried."""

import asyncio
import itertools
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from relay.channels.services import channel_disable
from relay.upstream import Deadlines
from tests.adversary.gateway import (
    CHAT,
    SCRIPTED,
    USD,
    Customer,
    Gateway,
    Worker,
    body_of,
    charge_of,
    until,
)
from tests.factories import ACTOR
from tests.relay.upstream.support import Peer

FAILURES: dict[str, dict[str, Any]] = {
    "an error": {"status": 500},
    "our limit": {"status": 429},
    "our credential": {"status": 401},
    "a web page": {"fault": "html"},
    "nothing": {"fault": "empty_body"},
    "half a document": {"fault": "garbage"},
    "an error that says 200": {"fault": "json_error_200"},
    "another address": {"fault": "redirect"},
    "a cut": {"fault": "cut"},
    "less than announced": {"fault": "bad_content_length"},
    "compressed": {"fault": "gzip"},
    "silence": {"fault": "hang"},
    "an error event": {"fault": "error_event_first", "stream": True},
    "a stream that ends at once": {"fault": "truncated", "after_chunks": 0, "stream": True},
    "a stream that is cut at once": {"fault": "cut", "after_chunks": 0, "stream": True},
    "a stream that falls silent": {"fault": "silent_stream", "stream": True},
}
MAX_TOKENS = 50
LONG_TEXT = "word " * 100


async def test_b4_no_failure_keeps_its_hold(empty_gateway: Gateway) -> None:
    """Others forget the reservation on some way out, until limits are reached by nobody's calls."""
    gateway = empty_gateway
    await gateway.worker(deadlines=Deadlines(first_byte_seconds=0.5, idle_seconds=0.5))
    last = body_of(LONG_TEXT, max_tokens=MAX_TOKENS)
    # For one call at a time, and none if a single hold is not returned.
    balance = charge_of(len(last), MAX_TOKENS)
    customer = await gateway.customer(balance, strict=True)
    for name, failure in FAILURES.items():
        knobs = dict(failure)
        stream = knobs.pop("stream", False)
        body = body_of(max_tokens=MAX_TOKENS, stream=stream, simulate=knobs)
        answer = await gateway.call(customer, body)
        assert answer.status != 429, f"{name}: the hold of a call before it was kept"
        assert b'"error"' in answer.body, name
        await until(lambda: gateway.workers[0].held_nano_usd == 0, f"the hold of {name}")
    records = await gateway.records(len(FAILURES))
    assert {record.charge_nano_usd for record in records} == {0}
    assert gateway.balance(customer) == balance
    assert (await gateway.call(customer, last)).status == 200
    await gateway.records(len(FAILURES) + 1)


async def never_asked(peer: Peer) -> None:
    raise AssertionError("a call arrived")


async def test_b4_an_upstream_that_is_not_there_keeps_no_hold(gateway: Gateway) -> None:
    """A connection that is refused is a way out, too: nothing was sent, nothing is recorded."""
    customer = await gateway.customer(USD, strict=True)
    upstream = await gateway.scripted(never_asked)
    await gateway.change(lambda: channel_disable(name="simulator", actor=ACTOR))
    await upstream.stop()
    answer = await gateway.call(customer, body_of(model=SCRIPTED))
    assert answer.status == 503
    assert gateway.workers[0].held_nano_usd == 0
    assert gateway.balance(customer) == USD


@dataclass
class Stepped:
    """Awaits a coroutine, and throws an exception into it in place of the nth thing it awaits."""

    work: Awaitable[Any]
    step: int
    exception: type[BaseException]
    thrown: bool = False

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self.work.__await__()
        for number in itertools.count():
            try:
                if number == self.step:
                    self.thrown = True
                    awaited = steps.throw(self.exception)
                else:
                    awaited = next(steps)
            except StopIteration:
                return
            yield awaited


async def ask(worker: Worker, customer: Customer, body: bytes, *, fail_at: int = -1) -> int:
    """A call past HTTP, whose nth message to the client fails; returns how many there were."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "headers": [(b"authorization", f"Bearer {customer.api_key}".encode())],
        "client": ("127.0.0.1", 1),
    }
    incoming = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent = 0

    async def receive() -> dict[str, Any]:
        message = next(incoming, None)
        if message is None:
            await asyncio.Event().wait()  # It stays for as long as it takes.
        assert message is not None
        return message

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal sent
        sent += 1
        if sent - 1 == fail_at:
            raise OSError("the client's line broke")

    await worker.application(scope, receive, send)
    return sent


@pytest.mark.parametrize("stream", [False, True])
async def test_b4_a_cancellation_at_any_await_keeps_no_hold(
    gateway: Gateway, *, stream: bool
) -> None:
    """Others release in `except Exception`, which a cancelled call never enters."""
    [worker] = gateway.workers
    body = body_of(stream=stream, max_tokens=MAX_TOKENS, simulate={"text": "one two three"})
    for step in itertools.count():
        # A stranger each time, so that the call waits for the key and for the money, too.
        customer = await gateway.customer(USD, strict=True)
        stepped = Stepped(ask(worker, customer, body), step, asyncio.CancelledError)
        try:
            await stepped
        except asyncio.CancelledError:
            assert stepped.thrown
        assert worker.open_holds == 0, f"step {step}"
        assert worker.held_nano_usd == 0, f"step {step}"
        if not stepped.thrown:
            break
    assert step >= 4
    # Whatever went upstream is on record.
    await gateway.idle()
    assert gateway.arrived() <= len(gateway.recorded()) <= step + 1


@pytest.mark.parametrize("stream", [False, True])
async def test_b4_an_answer_that_cannot_be_sent_keeps_no_hold(
    gateway: Gateway, *, stream: bool
) -> None:
    """What happens between the server and its client must not decide whether a hold ends."""
    [worker] = gateway.workers
    customer = await gateway.customer(USD, strict=True)
    body = body_of(stream=stream, max_tokens=MAX_TOKENS, simulate={"text": "one two three"})
    messages = await ask(worker, customer, body)
    for number in range(messages):
        await ask(worker, customer, body, fail_at=number)
        assert worker.held_nano_usd == 0, f"message {number}"
    assert gateway.arrived() == messages + 1
    # And it must not decide about the charge.
    first, *others = await gateway.records(messages + 1)
    assert first.charge_nano_usd > 0
    assert {record.charge_nano_usd for record in others} == {first.charge_nano_usd}
