import asyncio
import datetime as dt
import logging
import math
from typing import Any

import psycopg
import pytest
from pytest_django import Settings

from accounts.models import ConfigurationVersion
from billing.models import Discount, Price
from billing.prices.book_loading import price_book_load
from billing.prices.catalog import Catalog, Dated, Offer, PricedModel, Quote, catalog_load
from billing.prices.discounts import discount_set
from billing.prices.services import price_set
from billing.pricing import PriceTerms, Rate, Rates
from tests.factories import ACTOR, make_organization, now

CHAT = frozenset({"chat/completions"})
DAY = dt.timedelta(days=1)


def terms(price_id: int, model: str = "test-1") -> PriceTerms:
    rates = Rates.from_data({"input_tokens": str(price_id), "output_tokens": "1"})
    return PriceTerms(price_id=price_id, model=model, tiers={"default": rates})


def offer(starts_at: float, ends_at: float, price_id: int, model: str = "test-1") -> Dated[Offer]:
    return Dated(starts_at, ends_at, Offer(terms(price_id, model), CHAT))


def catalog_at(time: list[float], **parts: Any) -> Catalog:
    parts = {"offers": {}, "discounts": {}, "default_discount_ppm": 500_000, **parts}
    return Catalog(clock=lambda: time[0], **parts)


def test_the_price_in_force_changes_on_time_without_a_reload() -> None:
    time = [9.9]
    rows = [offer(30, math.inf, 3), offer(20, 25, 2), offer(10, 20, 1)]
    catalog = catalog_at(time, offers={"test-1": rows})
    quotes = []
    for time[0] in (9.9, 10, 19.9, 20, 24.9, 25, 29.9, 30, 1e9):
        quote = catalog.quote("test-1", 1)
        quotes.append(quote and quote.terms.price_id)
    assert quotes == [None, 1, 1, 2, 2, None, None, 3, 3]


def test_a_model_without_a_price_is_not_quoted() -> None:
    catalog = catalog_at([0.0], offers={"test-1": [offer(0, math.inf, 1)]})
    assert catalog.quote("test-2", 1) is None
    assert catalog.quote("", 1) is None


@pytest.mark.parametrize(
    ("organization_id", "model", "discount_ppm"),
    [
        (1, "test-1", 100_000),
        (1, "test-2", 200_000),
        (2, "test-1", 300_000),
        (2, "test-2", 400_000),
    ],
)
def test_the_most_specific_discount_wins(
    organization_id: int, model: str, discount_ppm: int
) -> None:
    discounts = {
        (1, "test-1"): [Dated(0, math.inf, 100_000)],
        (1, ""): [Dated(0, math.inf, 200_000)],
        (None, "test-1"): [Dated(0, math.inf, 300_000)],
        (None, ""): [Dated(0, math.inf, 400_000)],
    }
    offers = {name: [offer(0, math.inf, 1, name)] for name in ("test-1", "test-2")}
    catalog = catalog_at([1.0], offers=offers, discounts=discounts)
    quote = catalog.quote(model, organization_id)
    assert quote == Quote(terms(1, model), discount_ppm)


@pytest.mark.parametrize(
    ("organization_id", "model", "discount_ppm"),
    [
        (1, "test-1", 100_000),
        (1, "test-2", 200_000),
        (2, "test-1", 300_000),
        (2, "test-2", 400_000),
        (3, "test-1", 500_000),
        (3, "test-2", 600_000),
    ],
)
def test_a_plan_is_between_its_organizations_and_everybody(
    organization_id: int, model: str, discount_ppm: int
) -> None:
    discounts = {
        (1, "test-1"): [Dated(0, math.inf, 100_000)],
        (1, ""): [Dated(0, math.inf, 200_000)],
        ("pro", "test-1"): [Dated(0, math.inf, 300_000)],
        ("pro", ""): [Dated(0, math.inf, 400_000)],
        (None, "test-1"): [Dated(0, math.inf, 500_000)],
        (None, ""): [Dated(0, math.inf, 600_000)],
    }
    offers = {name: [offer(0, math.inf, 1, name)] for name in ("test-1", "test-2")}
    catalog = catalog_at([1.0], offers=offers, discounts=discounts, plans={1: "pro", 2: "pro"})
    assert catalog.quote(model, organization_id) == Quote(terms(1, model), discount_ppm)


def test_a_discount_that_is_over_gives_way_to_the_next_wider_one() -> None:
    time = [0.0]
    catalog = catalog_at(
        time,
        offers={"test-1": [offer(0, math.inf, 1)]},
        discounts={(1, "test-1"): [Dated(10, 20, 100_000)], (1, ""): [Dated(0, 30, 200_000)]},
    )
    found = []
    for time[0] in (9.9, 10, 20, 30):
        quote = catalog.quote("test-1", 1)
        found.append(quote and quote.discount_ppm)
    assert found == [200_000, 100_000, 200_000, 500_000]


def test_models_on_sale_are_those_priced_now() -> None:
    time = [5.0]
    offers = {
        "test-2": [offer(10, math.inf, 4, "test-2"), offer(0, 10, 2, "test-2")],
        "test-1": [offer(0, 6, 1)],
        "test-3": [offer(10, math.inf, 3, "test-3")],
    }
    catalog = catalog_at(time, offers=offers)
    assert catalog.models() == [PricedModel("test-1", CHAT, 0), PricedModel("test-2", CHAT, 0)]
    time[0] = 10.0
    assert catalog.models() == [PricedModel("test-2", CHAT, 10), PricedModel("test-3", CHAT, 10)]


def loaded(database_url: str) -> Catalog:
    async def load() -> Catalog:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            return await catalog_load(connection)

    return asyncio.run(load())


def quoted(catalog: Catalog, model: str, organization_id: int) -> Quote:
    quote = catalog.quote(model, organization_id)
    assert quote is not None
    return quote


def test_what_is_set_is_what_is_quoted(committing_db: str) -> None:
    acme, other = make_organization("acme"), make_organization("other")
    price = price_set(
        model="test-1",
        input_usd="2.50",
        output_usd="10",
        cached_usd="1.25",
        actor=ACTOR,
        now=now() - DAY,
    )
    discount_set(fraction_ppm=300_000, organization=acme, actor=ACTOR, now=now() - DAY)
    catalog = loaded(committing_db)
    quote = quoted(catalog, "test-1", acme.pk)
    assert (quote.terms.price_id, quote.discount_ppm) == (price.pk, 300_000)
    rates = quote.terms.tiers["default"]
    assert rates.input_tokens.pico_usd == 2_500_000
    assert rates.cached_input_tokens.pico_usd == 1_250_000
    assert quoted(catalog, "test-1", other.pk).discount_ppm == 500_000


def test_units_are_quoted_with_and_without_tokens(committing_db: str) -> None:
    search, voice = {"web_search_calls": "0.01"}, {"characters": "15"}
    price_set(
        model="test-1",
        input_usd="1",
        output_usd="2",
        unit_usd=search,
        actor=ACTOR,
        now=now() - DAY,
    )
    price_set(model="voice-1", unit_usd=voice, actor=ACTOR, now=now() - DAY)
    catalog = loaded(committing_db)
    terms = quoted(catalog, "test-1", 1).terms
    assert terms.prices_tokens
    assert terms.unit_rates == {"web_search_calls": Rate(10_000_000_000)}
    terms = quoted(catalog, "voice-1", 1).terms
    assert not terms.prices_tokens
    assert terms.unit_rates == {"characters": Rate(15_000_000)}


def test_a_unit_that_makes_no_sense_is_left_out_with_its_model(
    committing_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    price = price_set(model="test-1", unit_usd={"characters": "15"}, actor=ACTOR, now=now() - DAY)
    Price.objects.filter(pk=price.pk).update(unit_rates={"songs": "15"})
    with caplog.at_level(logging.ERROR):
        assert loaded(committing_db).quote("test-1", 1) is None
    assert "songs" in caplog.messages[0]


def test_the_default_discount_is_a_setting(committing_db: str, settings: Settings) -> None:
    price_set(model="test-1", input_usd="1", output_usd="1", actor=ACTOR, now=now() - DAY)
    settings.DEFAULT_DISCOUNT = "0.8"
    assert quoted(loaded(committing_db), "test-1", 1).discount_ppm == 800_000
    settings.DEFAULT_DISCOUNT = "1.1"
    assert quoted(loaded(committing_db), "test-1", 1).discount_ppm == 1_100_000


def test_later_rows_are_loaded_and_long_ended_ones_are_not(committing_db: str) -> None:
    moment = now()
    starts = [moment - 9 * DAY, moment - DAY, moment + DAY]
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        Price.objects.create(
            model="test-1",
            effective_from=start,
            effective_to=end,
            tiers={"default": {"input_tokens": "1", "output_tokens": "1"}},
            source="test",
        )
        Discount.objects.create(fraction_ppm=500_000, effective_from=start, effective_to=end)
    catalog = loaded(committing_db)
    in_force = [row.starts_at for row in catalog._offers["test-1"]]
    assert in_force == [starts[2].timestamp(), starts[1].timestamp()]
    assert [row.starts_at for row in catalog._discounts[None, ""]] == in_force


def test_a_row_that_just_ended_still_serves_a_clock_that_is_behind(committing_db: str) -> None:
    first = price_set(model="test-1", input_usd="1", output_usd="1", actor=ACTOR, now=now() - DAY)
    second = price_set(model="test-1", input_usd="2", output_usd="2", actor=ACTOR, now=now())
    catalog = loaded(committing_db)
    assert quoted(catalog, "test-1", 1).terms.price_id == second.pk
    catalog._clock = lambda: second.effective_from.timestamp() - 0.5
    assert quoted(catalog, "test-1", 1).terms.price_id == first.pk


def test_a_price_that_makes_no_sense_is_left_out_loudly(
    committing_db: str, caplog: pytest.LogCaptureFixture
) -> None:
    price_set(model="test-1", input_usd="1", output_usd="1", actor=ACTOR, now=now() - DAY)
    Price.objects.create(
        model="test-2", effective_from=now() - DAY, tiers={"default": {}}, source="test"
    )
    with caplog.at_level(logging.ERROR):
        catalog = loaded(committing_db)
    assert catalog.quote("test-2", 1) is None
    assert catalog.quote("test-1", 1) is not None
    [message] = caplog.messages
    assert "test-2" in message


def test_a_catalog_knows_which_version_it_is(committing_db: str) -> None:
    before = loaded(committing_db).version
    price_set(model="test-1", input_usd="1", output_usd="1", actor=ACTOR, now=now())
    after = loaded(committing_db).version
    assert after > before
    assert after == ConfigurationVersion.objects.get(topic="prices").version


def test_the_whole_price_book_can_be_quoted(committing_db: str) -> None:
    price_book_load(actor=ACTOR, now=now())
    catalog = loaded(committing_db)
    models = catalog.models()
    assert len(models) > 50
    assert {"gpt-4o", "gpt-4o-mini"} <= {model.model for model in models}
    for model in models:
        assert quoted(catalog, model.model, 1).terms.model == model.model
        assert model.endpoints
    retires = {model.model: model.deprecated_on for model in models}
    assert (retires["gpt-4o"], retires["dall-e-2"]) == (None, dt.date(2026, 5, 12))
