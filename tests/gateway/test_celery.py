"""Jobs: what is scheduled exists, and is done by the process that `run` starts."""

import datetime as dt
import stat
from pathlib import Path

from celery.schedules import crontab

from gateway.celery import app, broker_options
from gateway.data_directory import DataDirectory
from gateway.postgres import EmbeddedPostgres
from tests.gateway.databases import ask, clean_up
from tests.gateway.running import manage, running, until

_ENQUEUE = """
from gateway import celery
from billing.jobs import grants_expire_due
grants_expire_due.delay()
"""


def test_what_is_scheduled_exists() -> None:
    app.loader.import_default_modules()
    entries = app.conf.beat_schedule
    assert {entry["task"] for entry in entries.values()} <= set(app.tasks)
    assert entries["grants-expire-due"]["schedule"] == 60
    assert isinstance(entries["partitions-create-ahead"]["schedule"], crontab)


def test_times_are_utc_and_results_are_not_kept() -> None:
    assert str(app.conf.timezone) == "UTC"
    assert app.conf.enable_utc
    assert app.conf.result_backend is None


def test_without_redis_messages_are_files(tmp_path: Path) -> None:
    assert app.conf.broker_url.startswith("filesystem://")
    folders = set(broker_options(tmp_path).values())
    assert {Path(folder).parent for folder in folders} == {tmp_path}


def test_the_jobs_process_does_what_it_is_sent(place: Path) -> None:
    data = place / "var"
    directory = DataDirectory(data)
    try:
        with running(data) as gateway:
            url = EmbeddedPostgres(directory).database_url
            past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
            ask(url, f"UPDATE billing_grant SET expires_at = '{past.isoformat()}'")
            done = manage(data, "shell", "-c", _ENQUEUE)
            assert done.returncode == 0, done.stderr
            query = "SELECT free_nano_usd, expired_nano_usd > 0 FROM billing_grant"
            until(lambda: ask(url, query) == [(0, True)])
            assert gateway.status()["postgres"]
            assert stat.S_IMODE((data / "celery" / "messages").stat().st_mode) == 0o700
    finally:
        clean_up(directory)
