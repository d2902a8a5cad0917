"""Records that the database refused: an operator looks at them and says so."""

import datetime as dt

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable
from billing.models import SetAsideRecord


@durable
def set_aside_resolve(*, record_id: int, actor: Actor, now: dt.datetime) -> bool:
    """End the alarm about a record; False if it was ended already. The record itself stays."""
    open_records = SetAsideRecord.objects.filter(pk=record_id, resolved_at__isnull=True)
    if not open_records.update(resolved_at=now):
        return False
    audit_event_record(actor=actor, action="set_aside.resolve", subject=f"record {record_id}")
    return True
