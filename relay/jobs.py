"""Jobs that Celery runs on a schedule. Each may run twice, or beside itself, without harm."""

import datetime as dt
import logging

from celery import shared_task
from django.db import connection
from django.utils import timezone

from relay.idempotency_store import KEPT_HOURS

log = logging.getLogger(__name__)

# Of rows that may be large, so that no statement is long.
AT_ONCE = 500
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
