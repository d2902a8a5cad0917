"""manage.py journal, on what a killed worker left."""

from pathlib import Path

from tests.billing.engine.faulty import Faults, FaultyEngine
from tests.billing.engine.support import Bank, call_of, request, settings_for, settle
from tests.commands import manage


async def test_replay_ships_what_the_dead_left(fresh_database_url: str, tmp_path: Path) -> None:
    bank = Bank(fresh_database_url)
    organization = bank.organization(1_000)
    engine = FaultyEngine(settings_for(bank.url, tmp_path / "journals"), Faults())
    await engine.start()
    settled = await engine.hold_open(request(organization, 100))
    settle(engine, settled, 70)
    left_open = await engine.hold_open(request(organization, 100))
    engine.call_opened(left_open, call_of(organization))
    (worker_id,) = engine.serving()
    environment = {"DATABASE_URL": bank.url, "DATA_DIR": str(tmp_path)}
    alive = manage("journal", "inspect", **environment)
    assert f"{worker_id}  alive" in alive.stdout
    assert "1 settled, 1 open" in alive.stdout
    await engine.die()
    dead = manage("journal", "inspect", str(worker_id), **environment)
    assert f"{worker_id}  dead" in dead.stdout
    assert "completed 0.00000007 USD gpt-4o-mini sk-test" in dead.stdout
    assert manage("journal", "replay", **environment).returncode == 0
    rows = bank.connection.execute(
        "SELECT outcome, charge_nano_usd FROM billing_usagerecord ORDER BY request_id"
    ).fetchall()
    assert rows == [("completed", 70), ("lost", 0)]
    assert bank.balance(organization) == 930
    assert bank.open_leases() == 0
    assert bank.findings() == []
    assert list((tmp_path / "journals").iterdir()) == []
    bank.connection.close()
