"""Two upstreams, one of which has a bad day: what the customers see of it, and what they pay."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from accounts.models import AuditEvent
from relay.channels.services import ChannelTerms, channel_set
from relay.models import ChannelCredential
from relay.upstream import Deadlines
from tests.adversary.gateway import SCRIPTED, USD, Customer, Gateway, body_of, charge_of, until
from tests.adversary.upstream import answer, json_response, usage_of
from tests.factories import ACTOR
from tests.relay.upstream.support import Peer

CALLS = 12
LOST_AT_MOST = 3  # Before a channel that takes calls and loses them is left alone.
GOOD = answer({"content": "one two"}, usage=usage_of(9, 2))
MODELS = json_response(200, {"object": "list", "data": []})
HALF = GOOD[: len(GOOD) // 2]
PRICE = charge_of(9, 2)


def busy(status: int, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    body = json_response(status, {"error": {"message": "Not now.", "code": None}})
    return body.replace(b"\r\ncontent-type", f"\r\n{lines}content-type".encode(), 1)


@dataclass
class Channel:
    """An upstream that is well, or does what a test says."""

    act: Callable[[Peer], object] | bytes = GOOD
    calls: int = 0
    keys: list[bytes] = field(default_factory=list)

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            is_probe = head.startswith(b"GET ")
            self.calls += not is_probe
            found = head.lower().split(b"authorization: bearer ")[1].split(b"\r\n")[0]
            self.keys.append(found)
            if not isinstance(self.act, bytes):
                self.act(peer)
                await peer.left()
                return
            await peer.send(MODELS if is_probe and self.act == GOOD else self.act)
            if self.act == HALF:
                peer.reset()
                return


def reset(peer: Peer) -> None:
    peer.reset()


def silence(peer: Peer) -> None:
    """It hangs."""


@dataclass
class Pair:
    """The first channel comes first, as long as it is well."""

    gateway: Gateway
    customer: Customer
    first: Channel
    second: Channel

    async def call(self) -> int:
        return (await self.gateway.call(self.customer, body_of(model=SCRIPTED))).status

    async def calls(self) -> list[int]:
        return [await self.call() for _ in range(CALLS)]


@pytest.fixture
async def pair(empty_gateway: Gateway) -> Pair:
    gateway = empty_gateway
    await gateway.worker(deadlines=Deadlines(first_byte_seconds=0.2, idle_seconds=0.2))
    pair = Pair(gateway, await gateway.customer(USD), Channel(), Channel())
    await gateway.scripted(pair.first, name="first")
    await gateway.scripted(pair.second, name="second")
    terms = ChannelTerms(priority=1)
    await gateway.change(lambda: channel_set(name="first", terms=terms, actor=ACTOR))
    assert await pair.call() == 200
    assert (pair.first.calls, pair.second.calls) == (1, 0)
    return pair


async def charged(pair: Pair, served: int, calls: int) -> None:
    """Each call has one record, and each that was served one charge."""
    records = await pair.gateway.records(calls)
    assert sum(record.charge_nano_usd for record in records) == served * PRICE
    assert sum(record.charge_nano_usd > 0 for record in records) == served
    assert pair.gateway.balance(pair.customer) == USD - served * PRICE


@pytest.mark.parametrize(
    ("act", "asked"),
    [
        (busy(429), LOST_AT_MOST),
        (busy(503), LOST_AT_MOST),
        (busy(429, retry_after="30"), 1),
        (busy(503, retry_after="30"), 1),
    ],
    ids=["429", "503", "429 with retry-after", "503 with retry-after"],
)
async def test_no_customer_notices_an_upstream_that_takes_no_calls(
    pair: Pair, act: bytes, asked: int
) -> None:
    pair.first.act = act
    assert await pair.calls() == [200] * CALLS
    assert (pair.first.calls, pair.second.calls) == (1 + asked, CALLS)
    await charged(pair, 1 + CALLS, 1 + CALLS)


async def test_no_customer_notices_an_upstream_that_is_gone(pair: Pair) -> None:
    await pair.gateway._scripted[0].stop()
    # The connection that was kept may have taken the call that finds it gone.
    statuses = await pair.calls()
    assert statuses.count(200) >= CALLS - 1
    assert statuses[1:] == [200] * (CALLS - 1)
    await charged(pair, 1 + statuses.count(200), 1 + CALLS)


@pytest.mark.parametrize(
    ("act", "status"),
    [(reset, 502), (HALF, 502), (silence, 504), (busy(500), 502)],
    ids=["reset", "half an answer", "silence", "500"],
)
async def test_what_may_have_been_taken_is_sent_once_and_soon_no_more(
    pair: Pair, act: Callable[[Peer], object] | bytes, status: int
) -> None:
    pair.first.act = act
    statuses = await pair.calls()
    assert statuses == [status] * LOST_AT_MOST + [200] * (CALLS - LOST_AT_MOST)
    assert pair.first.calls + pair.second.calls == 1 + CALLS, "nothing was sent twice"
    await charged(pair, 1 + CALLS - LOST_AT_MOST, 1 + CALLS)


@pytest.mark.parametrize("act", [silence, busy(503)], ids=["silence", "503"])
async def test_an_upstream_that_is_well_again_gets_its_calls_back(
    pair: Pair, act: Callable[[Peer], object] | bytes
) -> None:
    """And no customer's call is lost to find out."""
    pair.first.act = act
    await pair.calls()
    pair.first.act = GOOD
    before, calls = pair.first.calls, 0
    while pair.first.calls == before:
        assert await pair.call() == 200
        calls += 1
        assert calls < 5000, "it never came back"
    assert await pair.calls() == [200] * CALLS
    assert pair.first.calls == before + 1 + CALLS


async def test_with_all_of_them_down_calls_are_still_tried(pair: Pair) -> None:
    pair.first.act = pair.second.act = busy(503)
    await pair.calls()
    pair.second.act = GOOD
    assert await pair.call() == 200


async def test_a_refused_credential_is_disabled_and_the_others_go_on(pair: Pair) -> None:
    credentials = {"other": "sk-other"}
    await pair.gateway.change(
        lambda: channel_set(
            name="first", terms=ChannelTerms(), credentials=credentials, actor=ACTOR
        )
    )
    pair.first.keys.clear()
    pair.first.act = busy(401)
    assert await pair.call() == 200
    assert sorted(pair.first.keys) == [b"any", b"sk-other"]

    def state() -> list[tuple[str, bool, bool]]:
        rows = ChannelCredential.objects.filter(channel__name="first").order_by("id")
        return [(row.label, row.enabled, row.refused_at is not None) for row in rows]

    worker = pair.gateway.workers[0]
    await worker.application._runtime.refusals.settled()
    found = await pair.gateway.operate(state)
    assert [refused for _, _, refused in found] == [True, True]
    assert sum(enabled for _, enabled, _ in found) == 1, "the last one is only spared"
    recorded = await pair.gateway.operate(
        lambda: list(
            AuditEvent.objects.filter(action="channel.credential_refused").values_list(
                "details__disabled", flat=True
            )
        )
    )
    assert sorted(recorded) == [False, True]
    assert await pair.calls() == [200] * CALLS
    assert len(pair.first.keys) == 2, "nobody asks again with what was refused"


async def test_a_refusal_that_customers_can_cause_disables_nothing(pair: Pair) -> None:
    pair.first.act = json_response(403, {"error": {"message": "No.", "code": "model_not_found"}})
    assert await pair.call() == 200
    rows = await pair.gateway.operate(
        lambda: list(ChannelCredential.objects.values_list("enabled", "refused_at"))
    )
    assert set(rows) == {(True, None)}


async def test_a_full_channel_leaves_its_calls_to_the_next(pair: Pair) -> None:
    terms = ChannelTerms(concurrency=1, first_byte_seconds=5.0)
    await pair.gateway.change(lambda: channel_set(name="first", terms=terms, actor=ACTOR))
    pair.first.act = silence
    async with pair.gateway.visit(pair.customer, body_of(model=SCRIPTED)):
        before = pair.first.calls
        await until(lambda: pair.first.calls == before + 1, "the call that fills it")
        assert await pair.calls() == [200] * CALLS
        assert pair.first.calls == before + 1
