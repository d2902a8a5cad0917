"""Rates, tiers and charges, the latter worked out by hand."""

from typing import Any

import pytest

from billing.money import BIGINT_MAX, InvalidMoney, format_usd
from billing.pricing import (
    BUCKETS,
    Charge,
    ChargeTooLarge,
    InvalidRates,
    LongContext,
    PriceTerms,
    Rate,
    Rates,
    Usage,
    charge,
    tiers_from_data,
    usage_from_openai,
)

HALF = 500_000
FULL = 1_000_000


def text_usage(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> Usage:
    return Usage(
        input_tokens=prompt - cached,
        cached_input_tokens=cached,
        output_tokens=completion,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        reasoning_tokens=reasoning,
    )


def rates(**usd_per_million: str) -> Rates:
    return Rates.from_data({"input_tokens": "2.5", "output_tokens": "10"} | usd_per_million)


TIERED = PriceTerms(
    price_id=7,
    model="gpt-tiered",
    tiers=tiers_from_data(
        {
            "default": {"input_tokens": "4", "output_tokens": "20"},
            "flex": {"input_tokens": "2", "output_tokens": "10"},
            "priority": {"input_tokens": "8", "output_tokens": "19"},
        }
    ),
    long_context=LongContext.from_data(
        {
            "above_tokens": 272_000,
            "tiers": {
                "default": {"input_tokens": "8", "output_tokens": "30"},
                "flex": {"input_tokens": "4", "output_tokens": "15"},
            },
        }
    ),
)


def quoted(served: Rates) -> tuple[int, int]:
    """The input and output rates in USD per 1M tokens."""
    return served.input_tokens.pico_usd // 10**6, served.output_tokens.pico_usd // 10**6


# Charges, by hand.


def test_the_price_of_a_thousand_and_a_thousand_at_half() -> None:
    gpt_4_turbo = Rates.from_data({"input_tokens": "10", "output_tokens": "30"})

    cost = charge(text_usage(1000, 1000), gpt_4_turbo, HALF)

    assert cost == Charge(official_cost_nano_usd=40_000_000, charge_nano_usd=20_000_000)
    assert format_usd(cost.charge_nano_usd) == "0.02"


def test_cached_tokens_are_part_of_the_prompt_and_paid_once() -> None:
    # 86 x 2.50 + 1,920 x 1.25 + 300 x 10 = 5,615 USD per 1M calls.
    cost = charge(text_usage(2006, 300, cached=1920), rates(cached_input_tokens="1.25"), 850_000)

    assert cost == Charge(official_cost_nano_usd=5_615_000, charge_nano_usd=4_772_750)


def test_reasoning_is_part_of_the_output_and_paid_once() -> None:
    thinking = charge(text_usage(10, 5000, reasoning=4900), rates(), FULL)

    assert thinking == charge(text_usage(10, 5000), rates(), FULL)
    assert thinking.charge_nano_usd == 50_025_000


def test_a_cache_write_has_its_own_rate() -> None:
    usage = usage_from_openai(
        {
            "prompt_tokens": 3000,
            "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 1500},
        }
    )

    cost = charge(usage, rates(cached_input_tokens="0.25", cache_write_tokens="3.125"), FULL)

    # 500 x 2.50 + 1,000 x 0.25 + 1,500 x 3.125 + 10 x 10, in millionths of a dollar.
    assert cost.official_cost_nano_usd == 6_287_500


def test_image_output_is_paid_at_the_image_rate() -> None:
    usage = Usage(
        input_tokens=10,
        output_tokens=20,
        output_image_tokens=1000,
        prompt_tokens=10,
        completion_tokens=1020,
    )

    assert charge(usage, rates(output_image_tokens="40"), FULL).charge_nano_usd == 40_225_000


def test_audio_in_and_out_are_paid_at_the_audio_rates() -> None:
    usage = Usage(
        input_tokens=100,
        input_audio_tokens=50,
        output_tokens=10,
        output_audio_tokens=200,
        prompt_tokens=150,
        completion_tokens=210,
    )

    cost = charge(usage, rates(input_audio_tokens="32", output_audio_tokens="64"), FULL)

    # 100 x 2.50 + 50 x 32 + 10 x 10 + 200 x 64.
    assert cost.official_cost_nano_usd == 14_750_000


def test_every_choice_is_in_the_completion_and_the_prompt_is_paid_once() -> None:
    three_choices = charge(text_usage(1000, 3 * 200), rates(), FULL)

    assert three_choices.charge_nano_usd == 1000 * 2_500 + 600 * 10_000


def test_a_search_pays_its_fee_per_call() -> None:
    searching = rates(usd_per_call="0.025")

    assert charge(text_usage(0, 0), searching, HALF) == Charge(25_000_000, 12_500_000)
    with_audio = Usage(input_audio_tokens=1, prompt_tokens=1)
    assert charge(with_audio, searching, FULL).charge_nano_usd == 25_002_500


def test_each_amount_is_rounded_up_once() -> None:
    # 3 tokens at 0.005 are 15 nano-USD; half of that is 7.5.
    assert charge(text_usage(3, 0), rates(input_tokens="0.005"), HALF) == Charge(15, 8)
    # 1 + 1 tokens at 0.0001 are 0.2: rounding each of them up would ask for 2.
    tiny = rates(input_tokens="0.0001", output_tokens="0.0001")
    assert charge(text_usage(1, 1), tiny, FULL) == Charge(1, 1)


def test_units_of_different_sizes_share_one_rounding() -> None:
    per_token, per_minute = Rate(2_500_000), Rate(17_000_000_000, 60_000)
    audio_by_time = Rates(
        **{bucket: per_token for bucket in BUCKETS if "audio" not in bucket},
        input_audio_tokens=per_minute,
        cached_input_audio_tokens=per_minute,
        output_audio_tokens=Rate(1, 7),
        call_pico_usd=0,
    )
    usage = Usage(
        input_tokens=1,
        input_audio_tokens=1001,
        output_audio_tokens=3,
        prompt_tokens=1002,
        completion_tokens=3,
    )

    # 2,500,000 + 1,001 x 17,000,000,000 / 60,000 + 3/7 pico-USD = 286,116,667.09...
    assert charge(usage, audio_by_time, FULL).official_cost_nano_usd == 286_117


def test_free_usage_is_free() -> None:
    free = Rates.from_data({"input_tokens": "0", "output_tokens": "0"})

    assert charge(text_usage(1000, 0), free, HALF) == Charge(0, 0)


@pytest.mark.parametrize("discount_ppm", [0, -1, 100_000_001])
def test_no_charge_without_a_sane_discount(discount_ppm: int) -> None:
    with pytest.raises(InvalidMoney):
        charge(text_usage(1, 1), rates(), discount_ppm)


def test_a_charge_that_the_ledger_cannot_hold_is_an_error() -> None:
    dear = Rates.from_data({"input_tokens": "1000000", "output_tokens": "0"})
    fits = BIGINT_MAX // 10**9

    assert charge(text_usage(fits, 0), dear, FULL).charge_nano_usd == fits * 10**9
    with pytest.raises(ChargeTooLarge):
        charge(text_usage(fits + 1, 0), dear, FULL)
    with pytest.raises(ChargeTooLarge):
        charge(text_usage(fits, 0), dear, 2 * FULL)
    with pytest.raises(ChargeTooLarge):
        charge(text_usage(fits + 1, 0), dear, 1)


# Rates and what stands in for missing ones.


@pytest.mark.parametrize(
    ("given", "bucket", "expected"),
    [
        ({}, "cached_input_tokens", "2.5"),
        ({}, "cache_write_tokens", "2.5"),
        ({"cached_input_tokens": "0.25"}, "cache_write_tokens", "2.5"),
        ({}, "input_audio_tokens", "2.5"),
        ({"input_audio_tokens": "32"}, "cached_input_audio_tokens", "32"),
        ({"cached_input_tokens": "0.25"}, "cached_input_audio_tokens", "0.25"),
        ({"cached_input_tokens": "0.25"}, "cached_input_image_tokens", "0.25"),
        ({"cached_input_audio_tokens": "3"}, "cached_input_audio_tokens", "3"),
        ({"cached_input_audio_tokens": "3"}, "input_audio_tokens", "2.5"),
        (
            {"cached_input_tokens": "0.25", "input_image_tokens": "8"},
            "cached_input_image_tokens",
            "8",
        ),
        ({"output_image_tokens": "40"}, "output_audio_tokens", "10"),
        ({}, "output_image_tokens", "10"),
        ({"output_audio_tokens": "64"}, "output_audio_tokens", "64"),
        ({"cached_input_tokens": "0"}, "cached_input_tokens", "0"),
    ],
)
def test_a_missing_rate_is_that_of_the_plainer_kind(
    given: dict[str, str], bucket: str, expected: str
) -> None:
    assert rates(**given).of(bucket) == rates(input_tokens=expected).input_tokens


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"input_tokens": "1"},
        {"output_tokens": "1"},
        {"input_tokens": "1", "output_tokens": "1", "reasoning_tokens": "1"},
        {"input_tokens": 1, "output_tokens": "1"},
        {"input_tokens": 1.5, "output_tokens": "1"},
        {"input_tokens": "1", "output_tokens": "-1"},
        {"input_tokens": "8e-7", "output_tokens": "1"},
        {"input_tokens": "0.0000008", "output_tokens": "1"},
        {"input_tokens": "1", "output_tokens": "1", "usd_per_call": "-0.01"},
        {"input_tokens": "1", "output_tokens": "1", "usd_per_call": "NaN"},
        {"input_tokens": "1", "output_tokens": "1", "usd_per_call": 0.01},
    ],
)
def test_rates_that_are_not_exact_and_complete_are_refused(data: Any) -> None:
    with pytest.raises(InvalidRates):
        Rates.from_data(data)


@pytest.mark.parametrize(
    "data",
    [
        [],
        {},
        {"above_tokens": 1},
        {"above_tokens": 1, "tiers": {}},
        {"above_tokens": 0, "tiers": {"default": {"input_tokens": "1", "output_tokens": "1"}}},
        {"above_tokens": "1", "tiers": {"default": {"input_tokens": "1", "output_tokens": "1"}}},
        {"above_tokens": 1, "tiers": []},
    ],
)
def test_long_context_without_threshold_or_default_is_refused(data: Any) -> None:
    with pytest.raises(InvalidRates):
        LongContext.from_data(data)


@pytest.mark.parametrize(("pico_usd", "unit_size"), [(-1, 1), (1, 0), (1, -60_000)])
def test_a_rate_is_positive_per_unit(pico_usd: int, unit_size: int) -> None:
    with pytest.raises(InvalidRates):
        Rate(pico_usd, unit_size)


def test_terms_need_a_default_tier() -> None:
    with pytest.raises(InvalidRates):
        PriceTerms(price_id=1, model="m", tiers={"flex": rates()})
    with pytest.raises(InvalidRates):
        PriceTerms(
            price_id=1,
            model="m",
            tiers={"default": rates()},
            long_context=LongContext(above_tokens=5, tiers={"flex": rates()}),
        )


# Tiers: the reply decides.


@pytest.mark.parametrize(
    ("served", "tier", "expected", "is_priced"),
    [
        (None, "default", (4, 20), True),
        ("", "default", (4, 20), True),
        ("auto", "default", (4, 20), True),
        ("default", "default", (4, 20), True),
        ("standard", "default", (4, 20), True),
        ("flex", "flex", (2, 10), True),
        ("priority", "priority", (8, 19), True),
        ("fast", "priority", (8, 19), True),
        ("scale", "default", (4, 20), False),
        ("ultrafast", "default", (4, 20), False),
        ("Flex", "default", (4, 20), False),
    ],
)
def test_the_served_tier_sets_the_rates(
    served: str | None, tier: str, expected: tuple[int, int], is_priced: bool
) -> None:
    answer = TIERED.rates_for(served, 1000)

    assert (answer.tier, quoted(answer.rates), answer.is_priced) == (tier, expected, is_priced)
    assert TIERED.prices_tier(served) is is_priced


@pytest.mark.parametrize(
    ("prompt_tokens", "expected"), [(271_999, (4, 20)), (272_000, (4, 20)), (272_001, (8, 30))]
)
def test_a_prompt_is_long_above_the_threshold(
    prompt_tokens: int, expected: tuple[int, int]
) -> None:
    assert quoted(TIERED.rates_for("default", prompt_tokens).rates) == expected


def test_cached_tokens_count_for_the_threshold() -> None:
    usage = text_usage(272_001, 0, cached=272_000)

    assert quoted(TIERED.rates_for("flex", usage.prompt_tokens).rates) == (4, 15)


def test_a_tier_not_sold_for_long_prompts_gets_the_higher_rates_and_is_reported() -> None:
    answer = TIERED.rates_for("priority", 300_000)

    assert (quoted(answer.rates), answer.is_priced) == ((8, 30), False)


@pytest.mark.parametrize(
    ("requested", "prompt_tokens_bound", "expected"),
    [
        (None, 272_000, (4, 20)),
        ("default", 1000, (4, 20)),
        # Upstream may serve both of these as default.
        ("flex", 1000, (4, 20)),
        ("priority", 1000, (8, 20)),
        ("fast", 1000, (8, 20)),
        ("scale", 1000, (4, 20)),
        ("default", 272_001, (8, 30)),
        ("priority", 272_001, (8, 30)),
        ("flex", 272_001, (8, 30)),
        (None, None, (8, 30)),
    ],
)
def test_a_hold_takes_the_dearest_tier_that_may_be_served(
    requested: str | None, prompt_tokens_bound: int | None, expected: tuple[int, int]
) -> None:
    dearest = TIERED.dearest_rates(requested, prompt_tokens_bound=prompt_tokens_bound)

    assert quoted(dearest) == expected


def test_a_hold_for_a_prompt_that_may_be_short_takes_the_short_rates_where_they_are_dearer() -> (
    None
):
    cheaper_when_long = PriceTerms(
        price_id=1,
        model="gpt",
        tiers={"default": rates(), "priority": rates(output_tokens="40")},
        long_context=LongContext(
            above_tokens=1000,
            tiers={"default": rates(input_tokens="5"), "priority": rates(input_tokens="6")},
        ),
    )

    dearest = cheaper_when_long.dearest_rates("priority", prompt_tokens_bound=1001)

    assert quoted(dearest) == (6, 40)


def test_the_dearer_of_two_compares_per_unit_and_keeps_the_fee() -> None:
    sized = Rates(**dict.fromkeys(BUCKETS, Rate(10, 3)), call_pico_usd=5)
    plain = Rates(**dict.fromkeys(BUCKETS, Rate(4)), call_pico_usd=0)

    assert sized.dearer(plain) == Rates(**dict.fromkeys(BUCKETS, Rate(4)), call_pico_usd=5)


@pytest.mark.parametrize(
    ("prompt", "completion", "choices", "breaks"),
    [
        (8192, 4096, 1, False),
        (8193, 1, 1, True),
        (1, 4097, 1, True),
        (1, 4097, 2, False),
        (1, 8193, 2, True),
    ],
)
def test_usage_beyond_the_limits_of_the_model_is_named(
    prompt: int, completion: int, choices: int, breaks: bool
) -> None:
    terms = PriceTerms(
        price_id=1,
        model="gpt",
        tiers={"default": rates()},
        context_tokens=8192,
        max_output_tokens=4096,
    )
    usage = text_usage(prompt, completion)

    assert terms.breaks_limits(usage, choices=choices) is breaks
    assert not TIERED.breaks_limits(usage, choices=choices)
