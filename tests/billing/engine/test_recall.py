"""An organization's money in the slices of many workers, with the times of a real install."""

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest

from billing.engine import MoneyEngine, Timing, growing, transactions
from billing.engine.database import CHANNEL, Database
from billing.engine.funds import Want
from billing.engine.growing import GrowAnswer
from billing.identifiers import uuid7
from tests.billing.engine.support import Bank, request, running, settings_for, settle

WORKERS = 8
SLICE = 1_000


@pytest.mark.parametrize("holders", [1, WORKERS - 1])
async def test_the_last_call_gets_its_money_wherever_it_lies(
    fresh_database_url: str, tmp_path: Path, holders: int
) -> None:
    bank = Bank(fresh_database_url)
    async with AsyncExitStack() as stack:
        engines: list[MoneyEngine] = []
        for number in range(WORKERS):
            settings = settings_for(bank.url, tmp_path / f"journals-{number}", timing=Timing())
            engines.append(await stack.enter_async_context(running(settings)))
        taker, *others = engines
        organization = bank.organization(holders * SLICE)
        holds = [await each.hold_open(request(organization, SLICE)) for each in others[:holders]]
        for each, hold in zip(others, holds, strict=False):
            each.hold_release(hold)
        everything = holders * SLICE
        hold = await taker.hold_open(request(organization, everything))
        assert settle(taker, hold, everything) == everything
    assert bank.charged(organization) == everything
    assert bank.findings() == []
    bank.connection.close()


@pytest.mark.parametrize(
    ("seconds_ago", "notified"), [(None, True), (1, False), (3_600, True), (-60, True)]
)
async def test_there_is_one_recall_at_a_time(
    fresh_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    seconds_ago: int | None,
    notified: bool,
) -> None:
    """Also not none, where the database's clock was set back."""
    monkeypatch.setattr(growing, "RECALL_SECONDS", 600.0)
    bank = Bank(fresh_database_url)
    organization = bank.organization(SLICE)
    bank.connection.execute(
        "UPDATE billing_wallet SET short_at = clock_timestamp() - make_interval(secs => %s)",
        [seconds_ago],
    )
    worker, timing = uuid7(), Timing()
    want = Want(
        worker_id=worker,
        organization_id=organization,
        lease_id=uuid7(),
        version=0,
        minimum_nano_usd=SLICE + 1,
        desired_nano_usd=SLICE + 1,
        wanted_nano_usd=SLICE + 1,
    )
    database = Database(url=bank.url, timeout=5.0)
    register = partial(transactions.worker_register, worker_id=worker, node="n", pid=1)
    with psycopg.connect(bank.url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        await database.run(partial(register, timing=timing))
        asked = partial(growing.grow, worker_id=worker, wants=[want], timing=timing)
        (answer,) = await database.run(asked) or []
        assert isinstance(answer, GrowAnswer)
        assert answer.short
        listener.execute("SELECT pg_notify(%s, 'end')", [CHANNEL])
        payloads = []
        for notification in listener.notifies():
            if notification.payload == "end":
                break
            payloads.append(notification.payload)
    await database.close()
    assert payloads == ([f"recall 0 {organization}"] if notified else [])
    bank.connection.close()
