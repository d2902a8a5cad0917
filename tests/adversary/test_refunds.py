"""Money that comes back: twice, or though it was spent after all."""

import asyncio
import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from billing.engine import Bounds, HoldRequest
from billing.models import Worker as WorkerRow
from tests.adversary.gateway import (
    SCRIPTED,
    TIMING,
    USD,
    Gateway,
    body_of,
    charge_of,
    now,
    until,
    whole_hold_body,
)
from tests.adversary.upstream import DONE, FINISH, STREAM_HEAD, end, said, usage_chunk
from tests.billing.engine.faulty import Fate, Faults, FaultyEngine
from tests.billing.engine.support import DONE as COMPLETED
from tests.billing.engine.support import call_of, request, settings_for, settle
from tests.relay.upstream.support import Peer


async def test_b5_a_journal_that_is_put_back_refunds_and_charges_nothing_twice(
    gateway: Gateway,
) -> None:
    """Others undo and redo by what a file or a queue says, however often it says so."""
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, said("one"))
        await goes_on.wait()
        await peer.send(said(" two"), FINISH, usage_chunk(9, 2), DONE)
        await end(peer)

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    for _ in range(2):
        assert (await gateway.call(customer, body_of())).status == 200
    (journal,) = gateway.journals.iterdir()
    async with gateway.visit(customer, body_of(model=SCRIPTED, stream=True)) as visitor:
        await visitor.see(b"one")
        # As a backup would have it: by this, the third call never ended.
        saved = {path.name: path.read_bytes() for path in journal.iterdir()}
        goes_on.set()
        await visitor.see(b"[DONE]")
    records = await gateway.records(3)
    await gateway.stop(gateway.workers[0])
    assert not journal.exists()
    balance = gateway.balance(customer)
    for _ in range(2):
        journal.mkdir()
        for name, content in saved.items():
            (journal / name).write_bytes(content)
        worker = await gateway.worker()  # At its start it replays what seems to be a dead one's.
        assert not journal.exists()
        await gateway.stop(worker)
    assert await gateway.records(3) == records
    assert gateway.balance(customer) == balance
    assert balance == USD - sum(record.charge_nano_usd for record in records)


async def test_b5_a_refund_whose_answer_was_lost_is_not_paid_again(
    empty_gateway: Gateway, tmp_path: Path
) -> None:
    """Others move money and mark it as moved apart, and repeat both when they hear nothing."""
    customer = await empty_gateway.customer(25_000, strict=True)
    faults = Faults()
    settings = settings_for(empty_gateway.database_url, tmp_path / "lost", timing=TIMING)
    engine = FaultyEngine(settings, faults)
    await engine.start()
    try:
        *holds, spare = [
            await engine.hold_open(request(customer.id, amount))
            for amount in (10_000, 10_000, 5_000)
        ]
        engine.hold_release(spare)
        # The refund is applied, and nobody hears of it; it is sent again, and once more.
        faults.coming = [Fate("answer_lost")] * 4
        engine._workers[0].book.give(spare.lease)
        await until(lambda: not spare.lease.busy, "the refund")
        assert faults.met == 4
        # So are the charges.
        faults.coming = [Fate("answer_lost")] * 4
        for hold in holds:
            assert settle(engine, hold, 10_000) == 10_000
        await until(lambda: not faults.coming, "the charges")
    finally:
        await engine.stop(10.0)
    assert empty_gateway.bank.charged(customer.id) == 20_000
    assert empty_gateway.balance(customer) == 5_000


async def test_b5_a_hold_ends_once_in_whatever_order_its_ends_come(gateway: Gateway) -> None:
    """Others release in several places; clamping at zero hides that they do so twice."""
    customer = await gateway.customer(USD)
    engine = gateway.workers[0].engine
    bounds = Bounds(minimum_nano_usd=1_000, wanted_nano_usd=1_000)
    request = HoldRequest(organization_id=customer.id, strict=bounds, standard=bounds)
    ends: dict[str, Callable[[Any], Any]] = {
        "settle": lambda hold: engine.call_settle(hold, COMPLETED, 700),
        "settle for more": lambda hold: engine.call_settle(hold, COMPLETED, 900),
        "release": engine.hold_release,
    }
    charged = 0
    for order in itertools.permutations(ends):
        opened = await engine.hold_open(request)
        if order[0] != "release":
            engine.call_opened(opened, call_of(customer.id))
        charged += ends[order[0]](opened) or 0
        for name in order[1:]:
            with pytest.raises((AssertionError, KeyError)):
                ends[name](opened)
        assert gateway.workers[0].held_nano_usd == 0
    assert charged == 2 * 700 + 2 * 900
    await gateway.records(4)
    assert gateway.balance(customer) == USD - charged


async def test_b6_a_call_that_was_written_off_and_ends_after_all_is_charged_once(
    empty_gateway: Gateway,
) -> None:
    """Others settle a lost call at a guess, and then record a correction that moves no money."""
    gateway = empty_gateway
    # The sweeper spares everybody for so long after its own start.
    timing = replace(TIMING, timeout=1.0, grace=1.5)
    lost = await gateway.worker(timing=timing)
    other = await gateway.worker(timing=timing)
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD, said("one"))
        await goes_on.wait()
        await peer.send(said(" two"), FINISH, usage_chunk(9, 2), DONE)
        await end(peer)

    await gateway.scripted(script)
    everything, balance = whole_hold_body()
    saver = await gateway.customer(balance, strict=True)
    spender = await gateway.customer(balance, strict=True)
    body = body_of(model=SCRIPTED, stream=True, max_tokens=50)
    async with (
        gateway.visit(saver, body, at=lost) as one,
        gateway.visit(spender, body, at=lost) as another,
    ):
        for visitor in (one, another):
            await visitor.see(b"one")
        # Their worker is taken for dead, and for longer than any of its calls may last.
        [worker] = lost.engine._workers
        row, long_ago = WorkerRow.objects.filter(pk=worker.id), now() - dt.timedelta(days=1)
        await gateway.operate(
            lambda: row.update(state=WorkerRow.State.EXPIRED, expires_at=long_ago)
        )
        await until(lambda: gateway.bank.open_leases() == 0, "the write-off")
        assert gateway.balance(saver) == gateway.balance(spender) == balance
        assert (await gateway.call(spender, everything, at=other)).status == 200
        goes_on.set()
        for visitor in (one, another):
            assert b" two" in await visitor.see(b"[DONE]")
    late = [record for record in await gateway.records(3) if record.stream]
    assert [record.outcome for record in late] == ["completed"] * 2
    assert [record.charge_nano_usd for record in late] == [charge_of(9, 2)] * 2
    assert gateway.balance(saver) == balance - charge_of(9, 2)
    # What is not there any more is the operator's loss, and nobody's debt.
    assert gateway.balance(spender) == 0
