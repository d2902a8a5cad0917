"""Jobs that Celery runs on a schedule. Each may run twice, or beside itself, without harm."""

import datetime as dt
import logging

from celery import shared_task
from django.conf import settings
from django.db import connection
from django.utils import timezone

from relay.channels.checks import channels_check
from relay.idempotency.store import KEPT_HOURS
from relay.reconciliation import reconcile_all

log = logging.getLogger(__name__)

# Of rows that may be large, so that no statement is long.
AT_ONCE = 500
# Of what upstream keeps until somebody deletes it, an id is good for ever.
KEPT_FOR_GOOD = ("conv_", "file-", "file_", "vs_")
_DELETE_IDS = """
DELETE FROM relay_upstreamid
 WHERE created_at < %s AND NOT (upstream_id ^@ ANY(%s))
"""
_DELETE = """
DELETE FROM relay_idempotencykey WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM relay_idempotencykey WHERE created_at < %s LIMIT %s FOR UPDATE SKIP LOCKED))
"""


@shared_task(name="relay.idempotency_keys_delete", ignore_result=True)
def idempotency_keys_delete() -> None:
    """Forget the keys, and the answers, that are older than they are kept."""
    oldest = timezone.now() - dt.timedelta(hours=KEPT_HOURS)
    deleted, more = 0, True
    with connection.cursor() as cursor:
        while more:
            cursor.execute(_DELETE, [oldest, AT_ONCE])
            deleted += cursor.rowcount
            more = cursor.rowcount == AT_ONCE
    if deleted:
        log.info("Deleted %d idempotency keys", deleted)


@shared_task(name="relay.channels_check", ignore_result=True)
def channels_check_all() -> None:
    """See of every channel whether it answers, and what money is left there."""
    channels_check()


@shared_task(name="relay.reconcile_daily", ignore_result=True)
def reconcile_daily() -> None:
    """Compare the last days with upstream's own books, where a channel has an admin key."""
    reconcile_all(now=timezone.now())


@shared_task(name="relay.upstream_ids_delete", ignore_result=True)
def upstream_ids_delete() -> None:
    """Forget whose the ids are that lead to nothing any more, as upstream has deleted it."""
    if not settings.UPSTREAM_IDS_DAYS:
        return
    oldest = timezone.now() - dt.timedelta(days=settings.UPSTREAM_IDS_DAYS)
    with connection.cursor() as cursor:
        cursor.execute(_DELETE_IDS, [oldest, list(KEPT_FOR_GOOD)])
        if cursor.rowcount:
            log.info("Deleted %d ids of what upstream no longer keeps", cursor.rowcount)
