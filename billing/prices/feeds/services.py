"""Taking prices over from a feed: nothing changes before somebody has seen and approved it."""

import datetime as dt
import json

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable
from billing.models import Price, PriceImport
from billing.prices import book as price_book
from billing.prices.book import InvalidPriceBook
from billing.prices.book_loading import PriceBookChanges, price_book_take
from billing.prices.changes import filed, laid_over, preview, rate_changes
from billing.prices.feeds.reading import OURS, FeedRow, feed_read
from billing.prices.services import OPERATOR

State = PriceImport.State


class UnableToImport(Refused):
    """There is nothing to import, or it was decided already."""


@durable
def price_import_open(
    *, text: str, form: str, source: str, actor: Actor, now: dt.datetime
) -> PriceImport:
    """Read a feed and keep what it would change. Raises InvalidFeed.

    Refused, each with its reason, are rows that cannot be read and rows in which a price changes
    a hundred times: whoever means that sets the price by hand.
    """
    pending = PriceImport(source=source, form=form, created_at=now)
    for feed_row in feed_read(text, form=form, source=source, today=now.date()):
        if feed_row.row is None:
            _refuse(pending, feed_row.model, feed_row.refused)
        else:
            _compare(pending, feed_row, now)
    pending.save()
    audit_event_record(
        actor=actor,
        action="price_import.open",
        subject=f"{pending} from {source}"[:200],
        details={"changed": len(pending.changes), "refused": len(pending.refused)},
    )
    return pending


@durable
def price_import_approve(*, import_id: int, actor: Actor, now: dt.datetime) -> PriceBookChanges:
    """Let the import's prices count from now on; past calls keep theirs."""
    pending = _decide(import_id, State.APPROVED, now)
    rows = price_book.parse(json.dumps(pending.rows)) if pending.rows else []
    changes = price_book_take(actor=actor, now=now, rows=rows)
    audit_event_record(
        actor=actor,
        action="price_import.approve",
        subject=str(pending),
        details={"models": [row.model for row in rows]},
    )
    return changes


@durable
def price_import_reject(*, import_id: int, actor: Actor, now: dt.datetime) -> None:
    pending = _decide(import_id, State.REJECTED, now)
    audit_event_record(actor=actor, action="price_import.reject", subject=str(pending))


def _decide(import_id: int, state: PriceImport.State, now: dt.datetime) -> PriceImport:
    pending = PriceImport.objects.select_for_update().filter(pk=import_id).first()
    if pending is None:
        raise UnableToImport(f"There is no price import {import_id}.")
    if pending.state != State.WAITING:
        raise UnableToImport(f"The price import {import_id} was {pending.state} already.")
    pending.state, pending.decided_at = state, now
    pending.save(update_fields=["state", "decided_at"])
    return pending


def _compare(pending: PriceImport, feed_row: FeedRow, now: dt.datetime) -> None:
    prices = Price.objects.filter(model=feed_row.model)
    present = prices.filter(effective_from__lte=now).order_by("-effective_from").first()
    if present is not None and present.source == OPERATOR:
        _refuse(pending, feed_row.model, "The operator has set this price: it has the last word.")
        return
    before = None if present is None else filed(present)
    data = dict(feed_row.data) if pending.form == OURS else laid_over(before, feed_row.data)
    changes = rate_changes(before, data)
    wild = [change.as_text() for change in changes if change.is_wild]
    if wild:
        _refuse(pending, feed_row.model, f"A change by 100 times or more: {'; '.join(wild)}")
        return
    if not changes:
        pending.unchanged += 1
        return
    try:
        [row] = price_book.parse(json.dumps([data]))
    except InvalidPriceBook as error:
        _refuse(pending, feed_row.model, f"Laid over what we know of it: {error}")
        return
    pending.rows.append(data)
    pending.changes.append(
        {
            "model": row.model,
            "is_new": present is None,
            "changes": [change.as_text() for change in changes],
            "preview": preview(row.terms(price_id=0)),
        }
    )


def _refuse(pending: PriceImport, model: str, reason: str) -> None:
    pending.refused.append({"model": model, "reason": reason})
