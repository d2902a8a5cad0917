"""Bugs of other gateways in what tokens and units cost, each by its number in our catalogue.

They were made where prices and usage meet, so they are tried there, on the shipped price book;
golden/charges.json has a worked-out reply for most of them as well.
"""

import json
from typing import Any

import pytest

from billing.prices import book as price_book
from billing.prices.catalog import Catalog, Dated, Offer
from billing.pricing import (
    PriceTerms,
    Usage,
    UsageBounds,
    charge,
    prompt_bound_tokens,
    unknown_usage_counts,
    usage_from_images,
    usage_from_openai,
    usage_from_responses,
    usage_upper_bound,
    with_counts,
)

BOOK = {row.model: row for row in price_book.load()}
FULL_PRICE = 1_000_000


def terms(model: str) -> PriceTerms:
    return BOOK[model].terms(price_id=1)


def nano_usd(model: str, usage: Usage, *, tier: str | None = None) -> int:
    price = terms(model)
    served = price.rates_for(tier, usage.prompt_tokens)
    cost = charge(usage, served.rates, FULL_PRICE, unit_rates=price.unit_rates)
    return cost.official_cost_nano_usd


def reported(prompt: int, completion: int, **prompt_details: Any) -> Usage:
    return usage_from_openai(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": prompt_details,
        }
    )


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [("word", 1), (["word"] * 9, 9), ([1, 2, 3], 3), ([[1, 2], [3]], 3), ([[7]], 1)],
)
def test_b19_a_prompt_in_an_array_is_not_free(texts: Any, tokens: int) -> None:
    """Others matched only the array of strings, and held and billed nothing for the rest."""
    price = terms("text-embedding-3-small")
    body = json.dumps({"model": price.model, "input": texts}).encode()
    bound = prompt_bound_tokens(len(body), opaque_parts=False, context_tokens=price.context_tokens)
    assert bound >= tokens
    held = usage_upper_bound(UsageBounds(prompt_tokens=bound), price.tiers["default"], FULL_PRICE)
    assert held >= nano_usd(price.model, reported(tokens, 0)) > 0


def test_b21_cached_tokens_are_billed_once_and_at_their_rate() -> None:
    usage = reported(100_000, 0, cached_tokens=90_000)
    assert nano_usd("gpt-5", usage) == 10_000 * 1_250 + 90_000 * 125


@pytest.mark.parametrize("image", [0, 300, 1000])
@pytest.mark.parametrize("audio", [0, 500])
def test_b21_a_cached_image_is_not_billed_as_cached_and_as_an_image(audio: int, image: int) -> None:
    usage = reported(1500, 0, cached_tokens=700, image_tokens=image, audio_tokens=audio)
    assert sum(usage.units().values()) == 1500


@pytest.mark.parametrize("model", sorted(BOOK))
def test_b22_no_kind_of_token_is_cheaper_for_lack_of_a_price(model: str) -> None:
    """Others peel cache writes, audio or images off, find no price, and give them away."""
    for rates in terms(model).tiers.values():
        assert (rates.cache_write_tokens.pico_usd > 0) == (rates.input_tokens.pico_usd > 0)
        filed = BOOK[model].tiers["default"]
        for kind in ("audio", "image"):
            if f"input_{kind}_tokens" not in filed:
                assert rates.of(f"input_{kind}_tokens") == rates.input_tokens
            if f"output_{kind}_tokens" not in filed:
                assert rates.of(f"output_{kind}_tokens") == rates.output_tokens


def test_b22_an_unknown_count_is_billed_in_its_total_and_kept() -> None:
    raw = {"input_tokens": 10, "output_tokens": 0, "input_tokens_details": {"smell_tokens": 6}}
    usage = with_counts(usage_from_responses(raw), unknown_usage_counts(raw))
    assert usage.units() == {"input_tokens": 10, "unknown/input_tokens_details.smell_tokens": 6}
    assert nano_usd("gpt-4o", usage) == 25_000


@pytest.mark.parametrize("detail", ["reasoning_tokens", "rejected_prediction_tokens"])
def test_b23_parts_of_the_completion_are_not_added_to_it(detail: str) -> None:
    raw = {"prompt_tokens": 0, "completion_tokens": 500}
    whole = usage_from_openai(raw)
    with_part = usage_from_openai(raw | {"completion_tokens_details": {detail: 400}})
    assert nano_usd("o4-mini", with_part) == nano_usd("o4-mini", whole) == 500 * 4_400


@pytest.mark.parametrize("model", [model for model in sorted(BOOK) if "image" in model])
def test_b24_an_image_costs_what_images_do_with_or_without_a_breakdown(model: str) -> None:
    rate = terms(model).tiers["default"].output_image_tokens.pico_usd // 1000
    raw = {"input_tokens": 0, "output_tokens": 4160}
    details = {"image_tokens": 4160, "text_tokens": 0}
    for reply in (raw, raw | {"output_tokens_details": details}):
        assert nano_usd(model, usage_from_images(reply, images=1)) == 4160 * rate > 0


def test_b25_audio_has_the_price_of_audio() -> None:
    usage = reported(1000, 0, audio_tokens=1000)
    assert nano_usd("gpt-audio", usage) == 1000 * 32_000
    assert nano_usd("gpt-audio-mini", usage) == 1000 * 10_000


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_b26_tools_are_billed_by_what_was_executed(calls: int) -> None:
    usage = with_counts(reported(1000, 0), {"web_search_calls": calls})
    assert nano_usd("gpt-5", usage) == 1_250_000 + calls * 10_000_000


def test_b26_a_tool_without_a_price_is_known_before_it_is_used() -> None:
    assert terms("gpt-5").prices_unit("web_search_calls")
    assert not terms("gpt-4").prices_unit("web_search_calls")
    assert not terms("gpt-5").prices_unit("image_generation_calls")
    assert not terms("gpt-5").prices_unit("code_interpreter_64g_sessions")


@pytest.mark.parametrize("requested", ["auto", "default", "flex", "priority"])
@pytest.mark.parametrize("served", [None, "default", "flex", "priority"])
def test_b27_the_tier_that_was_served_is_billed_and_the_dearest_is_held(
    requested: str, served: str | None
) -> None:
    price, usage = terms("o3"), reported(1000, 100)
    expected = {"flex": 1_400, "priority": 4_900}.get(served or "default", 2_800)
    assert nano_usd("o3", usage, tier=served) == expected * 1000
    bounds = UsageBounds(prompt_tokens=1000, output_tokens=100)
    held = usage_upper_bound(bounds, price.dearest_rates(requested), FULL_PRICE)
    if served in {None, "default", requested}:
        assert held >= nano_usd("o3", usage, tier=served)


def test_b27_a_snapshot_has_the_tiers_of_its_model() -> None:
    """Others have them for the alias only, and bill its dated twin at the default rates."""
    for alias, snapshot in (("gpt-4.1", "gpt-4.1-2025-04-14"), ("gpt-5", "gpt-5-2025-08-07")):
        assert BOOK[alias].tiers == BOOK[snapshot].tiers
        assert BOOK[alias].unit_rates == BOOK[snapshot].unit_rates


@pytest.mark.parametrize("cached", [0, 1, 200_000, 272_000])
def test_b28_the_threshold_counts_the_whole_prompt_and_not_what_is_fresh(cached: int) -> None:
    short = reported(272_000, 0, cached_tokens=cached)
    longer = reported(272_001, 0, cached_tokens=cached)
    fresh = 272_000 - cached
    assert nano_usd("gpt-5.4", short) == fresh * 2_500 + cached * 250
    assert nano_usd("gpt-5.4", longer) == (fresh + 1) * 5_000 + cached * 500


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt-4o ",
        " gpt-4o",
        "GPT-4o",
        "gpt-4\N{CYRILLIC SMALL LETTER O}",
        "gpt-4o-2024-08-07",
        "gpt-4o\n",
        "openai/gpt-4o",
        "ft:gpt-4o",
        "ft:gpt-4o-2024-08-06:acme::abc123",
        "gpt-4-32k",
        "unknown",
        "high/1024-x-1024/gpt-image-1",
        "openai/container",
    ],
)
def test_b29_a_name_that_is_no_priced_model_has_no_price(name: str) -> None:
    offers = {
        model: [Dated(0.0, float("inf"), Offer(row.terms(price_id=1), frozenset(row.endpoints)))]
        for model, row in BOOK.items()
    }
    catalog = Catalog(offers=offers, discounts={}, default_discount_ppm=500_000)
    assert catalog.quote(name, 1) is None
    assert catalog.quote("gpt-4o", 1) is not None


@pytest.mark.parametrize("choices", [1, 2, 8])
def test_b34_several_choices_multiply_the_output_and_not_the_prompt(choices: int) -> None:
    rates = terms("gpt-4o").tiers["default"]
    bounds = UsageBounds(prompt_tokens=1000, output_tokens=50, choices=choices)
    held = usage_upper_bound(bounds, rates, FULL_PRICE)
    assert held == 1000 * 2_500 + choices * 50 * 10_000
    assert nano_usd("gpt-4o", reported(1000, choices * 50)) == held
