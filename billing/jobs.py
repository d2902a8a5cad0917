"""Jobs that Celery runs on a schedule. Each may run twice, or beside itself, without harm."""

import datetime as dt
import logging

from celery import shared_task
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from accounts.audit_trail import Actor
from billing.audit import audit_run
from billing.credit.grants import grants_expire
from billing.credit.payments import payments_collect
from billing.engine import Timing
from billing.money import format_usd
from billing.rerating import reratings_continue
from billing.usage.call_hours import hours_gather, hours_gather_again
from billing.usage.partitions import TABLE, partitions_create

log = logging.getLogger(__name__)
LATE_DAYS = 3


@shared_task(name="billing.grants_expire_due", ignore_result=True)
def grants_expire_due() -> None:
    """Take the money of due grants out of the wallets.

    Workers do so for their own organizations whenever they need money; this is for the others.
    """
    expired = grants_expire(now=timezone.now())
    if expired.grants:
        log.info("%d grants expired: %s USD", expired.grants, format_usd(expired.amount_nano_usd))


@shared_task(name="billing.payments_collect_due", ignore_result=True)
def payments_collect_due() -> None:
    """Take back what refunds and disputes made due while workers still had it in their leases."""
    payments_collect(actor=Actor(user_id=None, label="job:payments"), now=timezone.now())


@shared_task(name="billing.reratings_continue", ignore_result=True)
def reratings_go_on() -> None:
    """Make decided re-ratings count, wherever somebody stopped."""
    reratings_continue(actor=Actor(user_id=None, label="job:reratings"), now=timezone.now())


@shared_task(name="billing.partitions_create_ahead", ignore_result=True)
def partitions_create_ahead() -> None:
    """Create next months' partitions of the usage records."""
    with transaction.atomic(), connection.cursor() as cursor:
        # One at a time; and rather not at all than with every shipper waiting behind it.
        cursor.execute("SET LOCAL lock_timeout = '3s'")
        cursor.execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        created = partitions_create(today=timezone.now().date())
    if created:
        log.info("Created the partitions %s", ", ".join(created))


@shared_task(name="billing.call_hours_gather", ignore_result=True)
def call_hours_gather() -> None:
    """Add up the last calls by channel and model, for margins and health."""
    hours_gather(now=timezone.now())


@shared_task(name="billing.call_hours_gather_again", ignore_result=True)
def call_hours_gather_again() -> None:
    """The same for the last days, in which records came late from workers that had died."""
    now = timezone.now()
    hours_gather_again(since=now - dt.timedelta(days=LATE_DAYS), until=now)


@shared_task(name="billing.audit_hourly", ignore_result=True)
def audit_hourly() -> None:
    """Check every invariant; a breach is an alarm in the log and on the console's first page."""
    retain = Timing(max_call=settings.MAX_CALL_SECONDS).retain
    run = audit_run(retain_seconds=retain, now=timezone.now())
    for finding in run.findings:
        log.critical("The audit found a breach: %(invariant)s: %(subject)s: %(detail)s", finding)
