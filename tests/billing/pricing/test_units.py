"""Units beside tokens: counted exactly, quoted as people quote them, never silently free."""

import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from billing.pricing import (
    BUCKETS,
    DENOMINATIONS,
    MAX_THINGS,
    MAX_UNITS,
    NO_COUNTS,
    NO_TOKEN_RATES,
    AbsurdUsage,
    Charge,
    ChargeTooLarge,
    Counts,
    InvalidRates,
    PriceTerms,
    Rate,
    Rates,
    ServedRates,
    Usage,
    charge,
    code_interpreter_unit,
    denomination,
    image_unit,
    unit_rates_from_data,
    with_counts,
)

FULL_PRICE = 1_000_000
TEXT = Rates.from_data({"input_tokens": "2.5", "output_tokens": "10"})
UNITS = unit_rates_from_data(
    {
        "characters": "15",
        "input_audio_milliseconds": "0.006",
        "image/hd/1024x1792": "0.12",
        "web_search_calls": "0.01",
    }
)


def used(**counts: int) -> Usage:
    return Usage(counts={name.replace("__", "/"): count for name, count in counts.items()})


def terms(**more: Any) -> PriceTerms:
    return PriceTerms(price_id=1, model="m", tiers={}, unit_rates=UNITS, **more)


# --- Counting ------------------------------------------------------------------------------------


def test_a_call_of_text_has_the_counts_of_all_of_them() -> None:
    assert Usage(input_tokens=1, prompt_tokens=1).counts is NO_COUNTS
    assert Usage(counts={}).counts is NO_COUNTS
    assert Usage(counts={"characters": 0}).counts is NO_COUNTS


def test_counts_never_change_whatever_they_were_made_of() -> None:
    given = {"characters": 5}
    usage = Usage(counts=given)
    given["characters"] = 6
    assert usage.counts == {"characters": 5}
    assert not hasattr(usage.counts, "__setitem__")
    assert hash(usage) == hash(Usage(counts={"characters": 5}))
    assert usage != Usage(counts={"characters": 6})
    assert repr(usage.counts) == "Counts({'characters': 5})"
    assert pickle.loads(pickle.dumps(usage)) == usage  # Workers are told of usage like this.


def test_units_are_what_is_recorded() -> None:
    usage = Usage(
        input_tokens=3, prompt_tokens=3, counts={"web_search_calls": 2, "file_search_calls": 0}
    )
    assert usage.units() == {"input_tokens": 3, "web_search_calls": 2}


def test_further_counts_are_added() -> None:
    usage = Usage(input_tokens=3, prompt_tokens=3)
    more = with_counts(usage, {"web_search_calls": 2, "file_search_calls": 0})
    more = with_counts(more, {"web_search_calls": 1})
    assert more.units() == {"input_tokens": 3, "web_search_calls": 3}
    assert with_counts(usage, {}) == usage


@pytest.mark.parametrize(
    "counts",
    [
        {"characters": -1},
        {"characters": 1.0},
        {"characters": True},
        {"characters": "1"},
        {"characters": MAX_UNITS + 1},
        {"input_audio_milliseconds": MAX_UNITS + 1},
        {"web_search_calls": MAX_THINGS + 1},
        {"image/high/1024x1024": MAX_THINGS + 1},
        {"output_tokens": 1},
        {"video_tokens": 1},
        {"": 1},
        {"x" * 101: 1},
    ],
)
def test_what_is_no_count_is_no_usage(counts: Any) -> None:
    with pytest.raises(AbsurdUsage):
        Usage(counts=counts)
    with pytest.raises(AbsurdUsage):
        with_counts(Usage(counts={"characters": 2}), counts)


# --- Pricing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "nano_usd"),
    [
        # 15 USD for 1M characters: 15,000 nano-USD each.
        ({"characters": 1}, 15_000),
        ({"characters": 4096}, 61_440_000),
        # 0.006 USD a minute: 100 nano-USD a millisecond.
        ({"input_audio_milliseconds": 8_470}, 847_000),
        ({"image/hd/1024x1792": 3}, 360_000_000),
        ({"web_search_calls": 3}, 30_000_000),
        ({"characters": 2, "web_search_calls": 1}, 10_030_000),
    ],
)
def test_units_cost_what_they_are_quoted_at(counts: Mapping[str, int], nano_usd: int) -> None:
    cost = charge(Usage(counts=counts), NO_TOKEN_RATES, FULL_PRICE, unit_rates=UNITS)
    assert cost == Charge(nano_usd, nano_usd)


def test_tokens_and_units_are_rounded_once_together() -> None:
    # 17/60,000 pico-USD x 1 ms: less than a nano-USD, and so is a tenth of a nano-USD of tokens.
    rates = Rates.from_data({"input_tokens": "0.0001", "output_tokens": "0"})
    units = {"input_audio_milliseconds": Rate(17, 60_000)}
    usage = Usage(input_tokens=1, prompt_tokens=1, counts={"input_audio_milliseconds": 1})
    assert charge(usage, rates, FULL_PRICE, unit_rates=units).official_cost_nano_usd == 1


def test_an_odd_size_is_exact() -> None:
    # 0.017 USD a minute is 283.333... nano-USD a millisecond.
    units = unit_rates_from_data({"input_audio_milliseconds": "0.017"})
    usage = used(input_audio_milliseconds=1_000)
    cost = charge(usage, NO_TOKEN_RATES, 333_333, unit_rates=units)
    # 283,333.33 and 94,444.35: each rounded up, the second not from the first.
    assert cost == Charge(283_334, 94_445)


def test_what_has_no_price_is_reported_and_the_rest_is_charged() -> None:
    usage = Usage(
        input_tokens=4,
        prompt_tokens=4,
        counts={"file_search_calls": 1, "web_search_calls": 1, "unknown/x_calls": 2},
    )
    cost = charge(usage, TEXT, FULL_PRICE, unit_rates=UNITS)
    # 4 x 2,500 nano-USD and one search. What nobody knows is reported as unknown usage instead.
    assert cost == Charge(10_010_000, 10_010_000, ("file_search_calls",))


def test_tokens_of_a_model_that_is_not_sold_by_them_are_reported() -> None:
    usage = Usage(input_tokens=4, prompt_tokens=4, counts={"characters": 1})
    cost = charge(usage, NO_TOKEN_RATES, FULL_PRICE, unit_rates=UNITS)
    assert cost == Charge(15_000, 15_000, ("tokens",))
    assert charge(used(songs=1), NO_TOKEN_RATES, FULL_PRICE) == Charge(0, 0, ("songs",))


def test_a_unit_that_is_free_on_purpose_is_priced() -> None:
    units = unit_rates_from_data({"web_search_calls": "0"})
    assert charge(used(web_search_calls=9), TEXT, FULL_PRICE, unit_rates=units) == Charge(0, 0)


def test_a_cost_beyond_a_bigint_is_refused() -> None:
    units = {"songs": Rate(10**18)}
    with pytest.raises(ChargeTooLarge):
        charge(used(songs=MAX_THINGS), NO_TOKEN_RATES, FULL_PRICE, unit_rates=units)


def test_terms_tell_before_a_call_what_has_a_price() -> None:
    assert terms().prices_unit("characters")
    assert not terms().prices_unit("file_search_calls")
    assert not terms().prices_tokens
    assert not terms().prices_tier("default")
    usage = Usage(input_tokens=1, prompt_tokens=1, counts={"characters": 1, "songs": 1})
    assert terms().unpriced_units(usage) == ("tokens", "songs")
    assert terms().unpriced_units(used(characters=1)) == ()
    assert terms().rates_for("flex", 5) == ServedRates(NO_TOKEN_RATES, "default", is_priced=True)
    assert terms().dearest_rates("priority") is NO_TOKEN_RATES


def test_terms_are_of_something() -> None:
    with pytest.raises(InvalidRates):
        PriceTerms(price_id=1, model="m", tiers={})
    assert PriceTerms(price_id=1, model="m", tiers={"default": TEXT}).unit_rates == {}


# --- Names and quotes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quality", "size", "unit"),
    [
        ("high", "1024x1024", "image/high/1024x1024"),
        ("hd", "1024-x-1792", "image/hd/1024x1792"),
        (None, "256x256", "image/standard/256x256"),
        ("auto", "auto", "image/standard/1024x1024"),
        (None, None, "image/standard/1024x1024"),
    ],
)
def test_an_image_has_a_unit_of_its_own(quality: str | None, size: str | None, unit: str) -> None:
    assert image_unit(quality, size) == unit
    quoted = denomination(unit)
    assert quoted is not None
    assert quoted.per == "image"


@pytest.mark.parametrize("size", ["", "x", "1024", "0x5", "1024x", "1024X1024", "1x1", "9" * 40])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        image_unit("high", size)


@pytest.mark.parametrize(
    ("memory", "unit"),
    [
        (None, "code_interpreter_sessions"),
        ("1g", "code_interpreter_sessions"),
        ("4g", "code_interpreter_4g_sessions"),
        ("64g", "code_interpreter_64g_sessions"),
    ],
)
def test_a_container_costs_by_its_memory(memory: str | None, unit: str) -> None:
    assert code_interpreter_unit(memory) == unit
    assert unit in DENOMINATIONS
    assert code_interpreter_unit("3g") not in DENOMINATIONS


def test_every_unit_is_quoted_within_what_can_be_counted() -> None:
    for name, quoted in DENOMINATIONS.items():
        most = quoted.rate(quoted.most_usd)
        assert quoted.rate(quoted.usual_usd).pico_usd < most.pico_usd
        limit = MAX_UNITS if name.endswith(("characters", "milliseconds")) else MAX_THINGS
        charge(Usage(counts={name: limit}), NO_TOKEN_RATES, FULL_PRICE, unit_rates={name: most})


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"songs": "1"},
        {5: "1"},
        {"characters": 1},
        {"characters": "-1"},
        {"characters": "0.0000001"},
        {"web_search_calls": "-0.01"},
        {"web_search_calls": "0.0000000001"},
        {"input_audio_milliseconds": "a"},
        {"image/high/auto": "1"},
        {"image/High/1024x1024": "1"},
        *({bucket: "1"} for bucket in BUCKETS),
    ],
)
def test_what_is_no_unit_rate_is_refused(data: Any) -> None:
    with pytest.raises(InvalidRates):
        unit_rates_from_data(data)


def test_counts_are_a_mapping() -> None:
    counts = Counts({"characters": 1, "web_search_calls": 0})
    assert (len(counts), list(counts), counts["characters"]) == (1, ["characters"], 1)
    with pytest.raises(KeyError):
        counts["web_search_calls"]
