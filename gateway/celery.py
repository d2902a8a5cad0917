"""The Celery application for jobs that may wait; nothing that calls or money depend on at once.

With Redis it is the broker; without, the messages are files in DATA_DIR.
"""

import logging
import signal
import tempfile
import warnings
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from celery import Celery
from celery.beat import Service
from celery.exceptions import SecurityWarning, WorkerShutdown
from celery.platforms import EX_OK
from celery.schedules import crontab
from celery.signals import setup_logging, worker_ready, worker_shutdown
from celery.worker import state

from gateway.launch import prepare_environment

prepare_environment()

from django.conf import settings  # noqa: E402 - they read the environment just prepared.

EVERY_MINUTE_SECONDS = 60.0
EVERY_FIVE_MINUTES_SECONDS = 300.0
EVERY_TEN_MINUTES_SECONDS = 600.0
# How long the beat sleeps at most, and so how long it takes to stop.
BEAT_TURN_SECONDS = 1


def broker_options(folder: Path) -> dict[str, Any]:
    """Where the filesystem transport keeps its messages; with Redis there is nothing to say."""
    if settings.REDIS_URL:
        return {}
    messages = str(folder / "messages")
    return {
        "data_folder_in": messages,
        "data_folder_out": messages,
        "control_folder": str(folder / "control"),
    }


app = Celery("tollgate")
app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_transport_options=broker_options(settings.CELERY_DATA_FOLDER),
    broker_connection_retry_on_startup=True,
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=True,
    task_default_queue="tollgate",
    timezone="UTC",
    enable_utc=True,
    # Remote control is for fleets; on files it would poll one more folder.
    worker_enable_remote_control=bool(settings.REDIS_URL),
    worker_hijack_root_logger=False,
    beat_schedule_filename=str(settings.CELERY_DATA_FOLDER / "beat-schedule"),
    beat_schedule={
        "grants-expire-due": {
            "task": "billing.grants_expire_due",
            "schedule": EVERY_MINUTE_SECONDS,
            # A late one is no use: the next does the same.
            "options": {"expires": EVERY_MINUTE_SECONDS},
        },
        "payments-collect-due": {
            "task": "billing.payments_collect_due",
            "schedule": EVERY_MINUTE_SECONDS,
            "options": {"expires": EVERY_MINUTE_SECONDS},
        },
        "reratings-continue": {
            "task": "billing.reratings_continue",
            "schedule": EVERY_MINUTE_SECONDS,
            "options": {"expires": EVERY_MINUTE_SECONDS},
        },
        "alerts-send": {
            "task": "console.alerts_send",
            "schedule": EVERY_MINUTE_SECONDS,
            "options": {"expires": EVERY_MINUTE_SECONDS},
        },
        "call-hours-gather": {
            "task": "billing.call_hours_gather",
            "schedule": EVERY_MINUTE_SECONDS,
            "options": {"expires": EVERY_MINUTE_SECONDS},
        },
        "call-hours-gather-again": {
            "task": "billing.call_hours_gather_again",
            "schedule": crontab(hour="2", minute="40"),
        },
        "channels-check": {
            "task": "relay.channels_check",
            "schedule": EVERY_FIVE_MINUTES_SECONDS,
            "options": {"expires": EVERY_FIVE_MINUTES_SECONDS},
        },
        "partitions-create-ahead": {
            "task": "billing.partitions_create_ahead",
            "schedule": crontab(hour="3", minute="10"),
        },
        "upstream-ids-delete": {
            "task": "relay.upstream_ids_delete",
            "schedule": crontab(hour="3", minute="40"),
        },
        "reconcile-daily": {
            "task": "relay.reconcile_daily",
            "schedule": crontab(hour="6", minute="20"),
        },
        "idempotency-keys-delete": {
            "task": "relay.idempotency_keys_delete",
            "schedule": crontab(minute="*/10"),
            "options": {"expires": EVERY_TEN_MINUTES_SECONDS},
        },
        "audit-hourly": {
            "task": "billing.audit_hourly",
            "schedule": crontab(minute="17"),
        },
    },
)
app.autodiscover_tasks(["billing", "console", "relay"], related_name="jobs")


@setup_logging.connect
def keep_our_logging(**_: object) -> None:
    """Being connected is enough: Celery then leaves logging as Django set it up."""
    # They report each run of each job, and that a folder has no host name.
    logging.getLogger("celery").setLevel(logging.WARNING)
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)


def jobs_run() -> None:
    """The body of the supervisor's jobs process: one worker, and the beat in a thread of it."""
    make_folders(settings.CELERY_DATA_FOLDER)
    beat = Service(app, max_interval=BEAT_TURN_SECONDS)
    turning = Thread(target=beat.start, name="beat", daemon=True)

    @worker_ready.connect(weak=False)
    def begin(**_: object) -> None:
        # Celery's own handler is followed only when it next looks, which takes seconds.
        signal.signal(signal.SIGTERM, _stop)
        turning.start()

    @worker_shutdown.connect(weak=False)
    def end(**_: object) -> None:
        beat.stop(wait=True)

    with warnings.catch_warnings():
        # It warns of root, who must not read pickles: JSON is all that we accept.
        warnings.simplefilter("ignore", SecurityWarning)
        worker = app.Worker(
            pool="solo", concurrency=1, without_gossip=True, without_mingle=True, quiet=True
        )
    worker.start()


def make_folders(folder: Path) -> None:
    for name in ("messages", "control", "taken"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    # The filesystem transport takes a message by moving it where temporary files are.
    tempfile.tempdir = str(folder / "taken")


def _stop(_: int, __: FrameType | None) -> None:
    """End at once, but let a running job finish."""
    state.should_stop = EX_OK  # type: ignore[assignment]  # The stubs know its first value only.
    if not state.active_requests:
        raise WorkerShutdown(EX_OK)
