import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from accounts.models import AuditEvent
from billing.models import Price
from billing.prices.book import PriceRow
from billing.prices.book_loading import PriceBookChanges, price_book_load
from billing.prices.services import price_set
from tests.committing import Listener
from tests.factories import ACTOR

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

ROW = PriceRow(
    model="test-1",
    endpoints=("chat/completions",),
    tiers={"default": {"input_tokens": "2.50", "output_tokens": "10.00"}},
    unit_rates={},
    long_context=None,
    context_tokens=128_000,
    max_output_tokens=16_384,
    output_cap_field="max_completion_tokens",
    effective_from=LONG_AGO,
    deprecated_on=None,
    source="https://example.com/prices",
    date=dt.date(2026, 5, 1),
    note="",
)
DEARER = {"default": {"input_tokens": "3", "output_tokens": "12"}}


def load(*rows: PriceRow, now: dt.datetime = NOW) -> PriceBookChanges:
    return price_book_load(actor=ACTOR, now=now, rows=rows)


def outcome(*rows: PriceRow, now: dt.datetime = NOW) -> str:
    """What loading the rows of one model came to."""
    changes = load(*rows, now=now)
    [name] = [name for name in ("added", "changed", "unchanged", "kept") if getattr(changes, name)]
    return name


def stored(model: str = "test-1") -> list[tuple[dt.datetime, dt.datetime | None, str]]:
    prices = Price.objects.filter(model=model).order_by("effective_from")
    return [
        (price.effective_from, price.effective_to, price.tiers["default"]["input_tokens"])
        for price in prices
    ]


@pytest.mark.django_db
def test_new_models_are_added_as_filed() -> None:
    row = replace(ROW, long_context={"above_tokens": 200_000, "tiers": DEARER})
    assert load(row) == PriceBookChanges(("test-1",), (), (), ())
    price = Price.objects.get()
    assert (price.effective_from, price.effective_to) == (LONG_AGO, None)
    assert (price.tiers, price.long_context) == (ROW.tiers, row.long_context)
    assert price.unit_rates == row.unit_rates
    assert (price.context_tokens, price.max_output_tokens) == (128_000, 16_384)
    assert price.endpoints == ["chat/completions"]
    assert price.source == "https://example.com/prices (2026-05-01)"
    event = AuditEvent.objects.get()
    assert (event.action, event.details) == (
        "price_book.load",
        {"added": ["test-1"], "changed": []},
    )


@pytest.mark.django_db
def test_a_new_model_brings_its_past_and_its_future() -> None:
    later = replace(ROW, effective_from=NOW + DAY, tiers=DEARER)
    past = replace(ROW, effective_from=NOW - DAY)
    assert outcome(ROW, past, later) == "added"
    assert stored() == [
        (LONG_AGO, NOW - DAY, "2.50"),
        (NOW - DAY, NOW + DAY, "2.50"),
        (NOW + DAY, None, "3"),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"source": "https://example.com/elsewhere", "date": dt.date(2026, 5, 2), "note": "seen"},
        {"tiers": {"default": {"input_tokens": "2.5", "output_tokens": "10"}}},
        {"unit_rates": {}},
        {"effective_from": LONG_AGO + DAY},
    ],
    ids=["nothing", "source", "spelling", "units", "beginning"],
)
def test_what_charges_the_same_is_left_alone(change: dict[str, Any]) -> None:
    load(ROW)
    before = Price.objects.values()[0]
    assert outcome(replace(ROW, **change), now=NOW + DAY) == "unchanged"
    assert list(Price.objects.values()) == [before]
    assert AuditEvent.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        {"tiers": DEARER},
        {"tiers": {**ROW.tiers, "flex": ROW.tiers["default"]}},
        {"long_context": {"above_tokens": 200_000, "tiers": DEARER}},
        {"unit_rates": {"web_search_calls": "0.01"}},
        {"tiers": {}, "unit_rates": {"characters": "15"}},
        {"context_tokens": 64_000},
        {"max_output_tokens": None},
        {"output_cap_field": "max_tokens"},
        {"endpoints": ("chat/completions", "responses")},
        {"deprecated_on": dt.date(2027, 1, 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_closes_the_present_row_and_opens_another_now(change: dict[str, Any]) -> None:
    load(ROW)
    before = Price.objects.get()
    assert outcome(replace(ROW, **change), now=NOW + DAY) == "changed"
    first, second = Price.objects.order_by("effective_from")
    assert (first.pk, first.effective_from, first.effective_to) == (
        before.pk,
        LONG_AGO,
        NOW + DAY,
    )
    assert (first.tiers, first.context_tokens) == (before.tiers, before.context_tokens)
    assert (second.effective_from, second.effective_to) == (NOW + DAY, None)
    assert outcome(replace(ROW, **change), now=NOW + 2 * DAY) == "unchanged"


@pytest.mark.django_db
def test_a_change_at_the_instant_of_the_present_row_follows_it() -> None:
    load(replace(ROW, effective_from=NOW))
    assert outcome(replace(ROW, tiers=DEARER)) == "changed"
    next_instant = NOW + dt.timedelta(microseconds=1)
    assert stored() == [(NOW, next_instant, "2.50"), (next_instant, None, "3")]


@pytest.mark.django_db
def test_an_announced_price_is_planned_and_the_present_one_stays() -> None:
    load(ROW)
    announced = replace(ROW, effective_from=NOW + 9 * DAY, tiers=DEARER)
    assert outcome(ROW, announced) == "changed"
    expected = [(LONG_AGO, NOW + 9 * DAY, "2.50"), (NOW + 9 * DAY, None, "3")]
    assert stored() == expected
    for days in (0, 1, 10):
        assert outcome(ROW, announced, now=NOW + days * DAY) == "unchanged"
    assert stored() == expected


@pytest.mark.django_db
def test_a_book_that_only_has_the_announced_price_leaves_no_gap() -> None:
    load(ROW)
    announced = replace(ROW, effective_from=NOW + 9 * DAY, tiers=DEARER)
    assert outcome(announced) == "changed"
    assert stored() == [(LONG_AGO, NOW + 9 * DAY, "2.50"), (NOW + 9 * DAY, None, "3")]


@pytest.mark.django_db
def test_a_plan_may_move_or_vanish() -> None:
    announced = replace(ROW, effective_from=NOW + 9 * DAY, tiers=DEARER)
    load(ROW, announced)
    assert outcome(ROW, replace(announced, effective_from=NOW + 5 * DAY)) == "changed"
    assert stored() == [(LONG_AGO, NOW + 5 * DAY, "2.50"), (NOW + 5 * DAY, None, "3")]
    assert outcome(ROW) == "changed"
    assert stored() == [(LONG_AGO, None, "2.50")]


@pytest.mark.django_db
def test_a_change_that_came_late_does_not_reach_into_the_past() -> None:
    load(ROW)
    missed = replace(ROW, effective_from=NOW - 9 * DAY, tiers=DEARER)
    assert outcome(ROW, missed) == "changed"
    assert stored() == [(LONG_AGO, NOW, "2.50"), (NOW, None, "3")]


@pytest.mark.django_db
def test_the_operators_price_is_never_overwritten() -> None:
    load(ROW)
    price_set(model="test-1", input_usd="7", output_usd="8", actor=ACTOR, now=NOW)
    before = stored()
    assert outcome(replace(ROW, tiers=DEARER), now=NOW + DAY) == "kept"
    assert stored() == before


@pytest.mark.django_db
def test_a_model_that_the_operator_took_off_sale_stays_off() -> None:
    load(ROW)
    Price.objects.update(effective_to=NOW)
    assert outcome(ROW, now=NOW + DAY) == "kept"
    assert stored() == [(LONG_AGO, NOW, "2.50")]


@pytest.mark.django_db
def test_a_model_that_left_the_book_keeps_its_price() -> None:
    other = replace(ROW, model="test-2")
    load(ROW, other)
    assert load(other, now=NOW + DAY) == PriceBookChanges((), (), ("test-2",), ())
    assert stored() == [(LONG_AGO, None, "2.50")]


@pytest.mark.django_db
def test_a_row_that_nothing_can_be_charged_by_is_replaced() -> None:
    load(ROW)
    Price.objects.update(tiers={"default": {}})
    assert outcome(ROW, now=NOW + DAY) == "changed"
    assert Price.objects.get(effective_to=None).tiers == ROW.tiers


@pytest.mark.django_db
def test_the_book_that_ships_loads_and_loads_again() -> None:
    first = price_book_load(actor=ACTOR, now=NOW)
    assert len(first.added) > 50
    assert (first.changed, first.unchanged, first.kept) == ((), (), ())
    again = price_book_load(actor=ACTOR, now=NOW + DAY)
    assert again == PriceBookChanges((), (), first.added, ())


def test_workers_are_told_once(committing_db: str, listener: Listener) -> None:
    price_book_load(actor=ACTOR, now=NOW)
    listener.heard()
    load(*[replace(ROW, model=f"test-{number}") for number in range(9)])
    assert len(listener.heard()) == 1
