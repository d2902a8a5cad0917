import datetime as dt
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from django.db import IntegrityError

from accounts.models import AuditEvent
from billing.models import Price
from billing.prices.services import UnableToSetPrice, UnknownModel, price_require, price_set
from tests.committing import Listener, run_together
from tests.factories import ACTOR, now

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
TIERS = {"default": {"input_tokens": "1", "output_tokens": "1"}}


def set_price(model: str = "test-1", *, now: dt.datetime = NOW, **rates: Any) -> Price:
    rates = {"input_usd": "2.50", "output_usd": "10", **rates}
    return price_set(model=model, actor=ACTOR, now=now, **rates)


def periods(model: str = "test-1") -> list[tuple[dt.datetime, dt.datetime | None]]:
    prices = Price.objects.filter(model=model).order_by("effective_from")
    return [(price.effective_from, price.effective_to) for price in prices]


@pytest.mark.django_db
def test_a_first_price_is_in_force_from_now_on() -> None:
    price = set_price(cached_usd="1.25")
    price.refresh_from_db()
    assert (price.effective_from, price.effective_to, price.source) == (NOW, None, "operator")
    assert price.tiers == {
        "default": {
            "input_tokens": "2.50",
            "output_tokens": "10",
            "cached_input_tokens": "1.25",
        }
    }
    assert price.endpoints == [
        "chat/completions",
        "completions",
        "embeddings",
        "moderations",
        "responses",
    ]
    assert price.output_cap_field == "max_completion_tokens"
    event = AuditEvent.objects.get()
    assert (event.action, event.subject) == ("price.set", "test-1")
    assert event.details["input_tokens"] == "2.50"


@pytest.mark.django_db
def test_a_new_price_closes_the_present_one_and_edits_nothing() -> None:
    first = set_price()
    set_price(now=NOW + DAY, input_usd="3")
    assert periods() == [(NOW, NOW + DAY), (NOW + DAY, None)]
    tiers_before = first.tiers
    first.refresh_from_db()
    assert first.tiers == tiers_before


@pytest.mark.django_db
def test_two_prices_of_one_instant_follow_each_other() -> None:
    for usd in ("1", "2", "3"):
        set_price(input_usd=usd)
    instants = [NOW + dt.timedelta(microseconds=step) for step in range(3)]
    assert periods() == [*pairwise(instants), (instants[-1], None)]
    last = Price.objects.get(effective_to=None)
    assert last.tiers["default"]["input_tokens"] == "3"


@pytest.mark.django_db
def test_what_is_planned_stays_planned() -> None:
    set_price()
    Price.objects.update(effective_to=NOW + 9 * DAY)
    Price.objects.create(model="test-1", effective_from=NOW + 9 * DAY, tiers=TIERS, source="plan")
    set_price(now=NOW + DAY)
    assert periods() == [
        (NOW, NOW + DAY),
        (NOW + DAY, NOW + 9 * DAY),
        (NOW + 9 * DAY, None),
    ]


@pytest.mark.django_db
def test_a_price_before_the_first_planned_one_ends_with_it() -> None:
    Price.objects.create(model="test-1", effective_from=NOW + DAY, tiers=TIERS, source="plan")
    set_price()
    assert periods() == [(NOW, NOW + DAY), (NOW + DAY, None)]


@pytest.mark.django_db
def test_the_model_keeps_its_limits_and_loses_its_other_rates() -> None:
    Price.objects.create(
        model="test-1",
        effective_from=NOW - DAY,
        tiers={"default": {}, "flex": {}},
        long_context={"above_tokens": 1, "tiers": {}},
        context_tokens=128_000,
        max_output_tokens=16_384,
        output_cap_field="max_tokens",
        endpoints=["completions"],
        deprecated_on=dt.date(2026, 12, 31),
        source="book",
    )
    price = set_price()
    assert (price.context_tokens, price.max_output_tokens) == (128_000, 16_384)
    assert (price.output_cap_field, price.endpoints) == ("max_tokens", ["completions"])
    assert price.deprecated_on == dt.date(2026, 12, 31)
    assert (price.tiers.keys(), price.long_context) == ({"default"}, None)


@pytest.mark.django_db
def test_endpoints_are_those_that_are_given_and_stay() -> None:
    assert set_price(endpoints=["responses", "embeddings"]).endpoints == ["embeddings", "responses"]
    assert set_price(now=NOW + DAY).endpoints == ["embeddings", "responses"]
    moved = set_price(now=NOW + 2 * DAY, endpoints=["chat/completions"])
    assert moved.endpoints == ["chat/completions"]
    with pytest.raises(UnableToSetPrice, match="no endpoint 'chats' that has prices"):
        set_price(now=NOW + 3 * DAY, endpoints=["chats"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("units", "endpoints"),
    [
        ({"characters": "15"}, ["audio/speech"]),
        ({"output_audio_milliseconds": "0.015"}, ["audio/speech"]),
        ({"input_audio_milliseconds": "0"}, ["audio/transcriptions", "audio/translations"]),
        (
            {"image/hd/1024x1024": "0.08"},
            ["images/edits", "images/generations", "images/variations"],
        ),
    ],
)
def test_a_model_that_is_sold_by_units_alone_is_called_where_they_are(
    units: dict[str, str], endpoints: list[str]
) -> None:
    price = price_set(model="unit-1", unit_usd=units, actor=ACTOR, now=NOW)
    price.refresh_from_db()
    assert (price.tiers, price.unit_rates, price.endpoints) == ({}, units, endpoints)
    assert AuditEvent.objects.get().details == {
        "price": price.pk,
        "effective_from": NOW.isoformat(),
        **units,
    }


@pytest.mark.django_db
def test_units_that_are_not_set_again_end() -> None:
    set_price(unit_usd={"web_search_calls": "0.01", "file_search_calls": "0.0025"})
    price = set_price(now=NOW + DAY, unit_usd={"file_search_calls": "0.003"})
    assert price.unit_rates == {"file_search_calls": "0.003"}
    assert set_price(now=NOW + 2 * DAY).unit_rates == {}


@pytest.mark.django_db
def test_no_price_is_stored_that_is_of_nothing() -> None:
    with pytest.raises(IntegrityError, match="price_is_of_something"):
        Price.objects.create(model="test-1", effective_from=NOW, tiers={}, source="plan")


@pytest.mark.django_db
def test_a_free_model_is_free() -> None:
    assert set_price(input_usd="0", output_usd="0").tiers["default"]["input_tokens"] == "0"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": "a model"},
        {"model": "x" * 201},
        {"model": "x\n"},
        {"input_usd": "-1"},
        {"input_usd": "free"},
        {"input_usd": ""},
        {"output_usd": "1e3"},
        {"output_usd": "0.0000001"},
        {"output_usd": "NaN"},
        {"output_usd": "100000001"},
        {"cached_usd": "3"},
        {"output_usd": None},
        {"input_usd": None, "output_usd": None},
        {"input_usd": None, "output_usd": None, "cached_usd": "1"},
        {"unit_usd": {"songs": "1"}},
        {"unit_usd": {"characters": ""}},
        {"unit_usd": {"image/high/1024x1024": "5000.01"}},
        {"unit_usd": {"input_audio_milliseconds": "300000.01"}},
        {"input_usd": None, "output_usd": None, "unit_usd": {"file_search_calls": "1"}},
    ],
)
def test_what_is_no_price_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnableToSetPrice):
        set_price(**{"model": "test-1", **change})
    assert not Price.objects.filter(source="operator").exists()
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db
def test_a_model_without_any_price_is_unknown() -> None:
    set_price()
    price_require("test-1")
    with pytest.raises(UnknownModel, match="test-2"):
        price_require("test-2")


def test_parallel_prices_leave_no_gap_and_no_overlap(committing_db: str) -> None:
    moments = [NOW + step * DAY for step in (3, 1, 2, 0)]
    run_together(*[partial(set_price, now=moment) for moment in moments])
    stored = periods()
    assert stored[-1][1] is None
    assert all(end == start for (_, end), (start, _) in pairwise(stored))


def test_workers_are_told(committing_db: str, listener: Listener) -> None:
    set_price()
    [told] = listener.heard()
    topic, version, organization = told.split()
    assert (topic, int(version) > 0, organization) == ("prices", True, "0")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("usd", "is_refused"),
    [("0.000008", True), ("800", True), ("0", True), ("799", False), ("0.081", False)],
)
def test_b31_a_price_typed_for_another_unit_is_refused(usd: str, is_refused: bool) -> None:
    def put(output_usd: str, *, sure: bool = False) -> Price:
        return price_set(
            model="m", input_usd="2", output_usd=output_usd, sure=sure, actor=ACTOR, now=now()
        )

    put("8")
    if is_refused:
        with pytest.raises(UnableToSetPrice, match=r"default output_tokens: \$8 → .* per 1M"):
            put(usd)
        assert put(usd, sure=True).tiers["default"]["output_tokens"] == usd
    else:
        put(usd)
