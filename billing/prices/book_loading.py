"""Bringing the price book that ships with the product into the dated rows of the database."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from accounts.audit_trail import Actor, audit_event_record
from accounts.transactions import durable, transaction_required
from billing.models import Price
from billing.prices import book as price_book
from billing.prices.book import PriceRow
from billing.prices.catalog import PRICE_COLUMNS, price_terms
from billing.prices.periods import period_begin, present_and_future, writers_take_turns
from billing.prices.services import OPERATOR
from billing.pricing import InvalidRates

Outcome = Literal["added", "changed", "unchanged", "kept"]

# The id of a price that is only compared.
_NO_ID = 0


@dataclass(frozen=True, slots=True)
class PriceBookChanges:
    """What loading did to each model of the book."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    kept: tuple[str, ...]  # Priced, or taken off sale, by the operator, who has the last word.


@durable
def price_book_load(
    *, actor: Actor, now: dt.datetime, rows: Sequence[PriceRow] | None = None
) -> PriceBookChanges:
    """Take over the book (or the given rows of one), as `price_book_take` says."""
    return price_book_take(actor=actor, now=now, rows=price_book.load() if rows is None else rows)


@transaction_required
def price_book_take(
    *, actor: Actor, now: dt.datetime, rows: Sequence[PriceRow]
) -> PriceBookChanges:
    """Take over rows of a price book, sorted by model and date.

    A model that is new gets all of its rows, past ones too. For the others only what is in force
    now or later counts, and the past stays as calls were charged: a changed price ends the present
    row now. Models that the book no longer has keep their price.
    """
    writers_take_turns(Price)
    known = set(Price.objects.values_list("model", flat=True))
    outcomes: dict[Outcome, list[str]] = {"added": [], "changed": [], "unchanged": [], "kept": []}
    new: list[Price] = []
    for model, of_model in groupby(rows, key=lambda row: row.model):
        book = list(of_model)
        if model in known:
            outcome, successors = _model_update(model, book, now)
            new += successors
        else:
            outcome = "added"
            new += _prices(book, now)
        outcomes[outcome].append(model)
    # All at once: every statement on prices is a notice to every worker.
    Price.objects.bulk_create(new)
    changes = PriceBookChanges(**{name: tuple(models) for name, models in outcomes.items()})
    if changes.added or changes.changed:
        audit_event_record(
            actor=actor,
            action="price_book.load",
            subject=f"{len(changes.added)} added, {len(changes.changed)} changed",
            details={"added": list(changes.added), "changed": list(changes.changed)},
        )
    return changes


def _model_update(
    model: str, book: Sequence[PriceRow], now: dt.datetime
) -> tuple[Outcome, list[Price]]:
    """Close what the book has changed; returns the rows that have to follow."""
    prices = Price.objects.filter(model=model)
    stored = list(present_and_future(prices, now))
    # Where nothing is in force the operator took the model off sale.
    if not stored or any(price.source == OPERATOR for price in stored):
        return "kept", []
    wanted = _present_and_future(book, now)
    stored_contents = [_stored_content(price, now) for price in stored]
    wanted_contents = [_book_content(row, now) for row in wanted]
    if stored_contents == wanted_contents:
        return "unchanged", []
    # Nobody was charged by a row that has not begun: such rows may go.
    prices.filter(effective_from__gt=now).delete()
    present = stored[0]
    stays = stored_contents[0] == wanted_contents[0]
    if present.effective_from <= now and (stays or wanted[0].effective_from > now):
        # Only what follows the row in force is different.
        followers = wanted[1:] if stays else wanted
        present.effective_to = followers[0].effective_from if followers else None
        present.save(update_fields=["effective_to"])
        return "changed", _prices(followers, now)
    _, begins_at, _ = period_begin(prices, now)
    return "changed", _prices(wanted, now, not_before=begins_at)


def _present_and_future(book: Sequence[PriceRow], now: dt.datetime) -> list[PriceRow]:
    begun = [row for row in book if row.effective_from <= now]
    return begun[-1:] + [row for row in book if row.effective_from > now]


def _prices(
    rows: Sequence[PriceRow], now: dt.datetime, *, not_before: dt.datetime | None = None
) -> list[Price]:
    """Rows to store, each in force until the next, the first not before the given moment."""
    if not rows:
        return []
    starts = [row.effective_from for row in rows]
    if not_before is not None:
        starts[0] = max(starts[0], not_before)
    return [
        Price(
            model=row.model,
            effective_from=start,
            effective_to=end,
            tiers=row.tiers,
            unit_rates=row.unit_rates,
            long_context=row.long_context,
            context_tokens=row.context_tokens,
            max_output_tokens=row.max_output_tokens,
            output_cap_field=row.output_cap_field,
            endpoints=list(row.endpoints),
            deprecated_on=row.deprecated_on,
            source=f"{row.source} ({row.date})",
            created_at=now,
        )
        for row, start, end in zip(rows, starts, [*starts[1:], None], strict=True)
    ]


def _stored_content(price: Price, now: dt.datetime) -> tuple[object, ...]:
    """What makes a price another one: its terms, and its beginning if that is still to come."""
    try:
        terms = price_terms({name: getattr(price, name) for name in PRICE_COLUMNS} | {"id": _NO_ID})
    except InvalidRates:
        return ()  # Nothing can be charged by it, so whatever the book says is better.
    begins_at = max(price.effective_from, now)
    return terms, list(price.endpoints), price.deprecated_on, begins_at


def _book_content(row: PriceRow, now: dt.datetime) -> tuple[object, ...]:
    begins_at = max(row.effective_from, now)
    return row.terms(price_id=_NO_ID), list(row.endpoints), row.deprecated_on, begins_at
