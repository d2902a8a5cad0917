"""Money against an oracle in exact fractions that shares no arithmetic with what it checks."""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.money import InvalidMoney, format_usd, parse_fraction_ppm, parse_usd
from billing.pricing import (
    BUCKETS,
    INPUT_BUCKETS,
    MAX_TOKENS,
    NO_TOKEN_RATES,
    OUTPUT_BUCKETS,
    AbsurdUsage,
    PriceTerms,
    Rate,
    Rates,
    UnpricedUnits,
    Usage,
    UsageBounds,
    affordable_output_tokens,
    charge,
    cost_upper_bound,
    dearest_unit,
    plain_usage,
    unknown_usage_keys,
    usage_from_images,
    usage_from_openai,
    usage_from_responses,
    usage_from_transcription,
    usage_upper_bound,
    with_counts,
)

# Other suites may share the machine, and a slow example proves nothing.
unhurried = settings(deadline=None)

TOKENS = st.one_of(st.integers(0, 20), st.integers(0, 300_000))
DISCOUNTS = st.one_of(
    st.sampled_from([1, 333_333, 500_000, 1_000_000, 100_000_000]), st.integers(1, 1_000_000)
)
TOKEN_RATES = st.builds(Rate, st.one_of(st.integers(0, 20), st.integers(0, 600_000_000)))
SIZED_RATES = st.builds(Rate, st.integers(0, 10**11), st.sampled_from([1, 7, 1000, 60_000]))


def rates_of(rate: st.SearchStrategy[Rate]) -> st.SearchStrategy[Rates]:
    fees = st.sampled_from([0, 0, 1, 25 * 10**9])
    return st.builds(Rates, **dict.fromkeys(BUCKETS, rate), call_pico_usd=fees)


RATES = st.one_of(rates_of(TOKEN_RATES), rates_of(SIZED_RATES))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    only_text = {"input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens"}
    used = draw(st.sampled_from([only_text, set(BUCKETS)]))
    counts = {bucket: draw(TOKENS) for bucket in sorted(used)}
    completion_tokens = sum(counts.get(bucket, 0) for bucket in OUTPUT_BUCKETS)
    return Usage(
        **counts,
        prompt_tokens=sum(counts.get(bucket, 0) for bucket in INPUT_BUCKETS),
        completion_tokens=completion_tokens,
        cached_tokens=sum(counts.get(bucket, 0) for bucket in BUCKETS if "cached" in bucket),
        reasoning_tokens=draw(st.integers(0, completion_tokens)),
        counts={},
    )


@st.composite
def openai_usages(draw: st.DrawFn) -> dict[str, Any]:
    """Any usage that could be true, however its parts overlap."""
    prompt, completion = draw(TOKENS), draw(TOKENS)
    audio = draw(st.integers(0, prompt))
    image = draw(st.integers(0, prompt - audio))
    cached = draw(st.integers(0, prompt))
    cached_audio = draw(st.integers(0, min(audio, cached)))
    cached_image = draw(st.integers(0, min(image, cached - cached_audio)))
    output_audio = draw(st.integers(0, completion))
    cached_details = {"audio_tokens": cached_audio, "image_tokens": cached_image}
    prompt_details = {
        "audio_tokens": audio,
        "image_tokens": image,
        "cached_tokens": cached,
        "cache_write_tokens": draw(st.integers(0, prompt)),
        "cached_tokens_details": draw(st.sampled_from([None, cached_details])),
    }
    completion_details = {
        "audio_tokens": output_audio,
        "image_tokens": draw(st.integers(0, completion - output_audio)),
        "reasoning_tokens": draw(st.integers(0, completion)),
    }
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": draw(st.sampled_from([None, prompt + completion])),
        "prompt_tokens_details": draw(st.sampled_from([None, prompt_details])),
        "completion_tokens_details": draw(st.sampled_from([None, completion_details])),
    }


def cost_in_usd(usage: Usage, rates: Rates) -> Fraction:
    """The oracle: dollars, without a single rounding."""
    pico_usd = Fraction(rates.call_pico_usd)
    for bucket, units in usage.units().items():
        rate = rates.of(bucket)
        pico_usd += units * Fraction(rate.pico_usd, rate.unit_size)
    return pico_usd / 10**12


@unhurried
@given(usages(), RATES, DISCOUNTS)
def test_a_charge_is_the_exact_cost_rounded_up_once(
    usage: Usage, rates: Rates, discount_ppm: int
) -> None:
    exact = cost_in_usd(usage, rates)

    cost = charge(usage, rates, discount_ppm)

    assert cost.official_cost_nano_usd == ceil(exact * 10**9)
    assert cost.charge_nano_usd == ceil(exact * Fraction(discount_ppm, 10**6) * 10**9)


UNIT_NAMES = ("characters", "input_audio_milliseconds", "image/high/1024x1024", "web_search_calls")
COUNTS = st.dictionaries(st.sampled_from(UNIT_NAMES), st.integers(0, 1_000_000))
UNIT_RATES = st.dictionaries(st.sampled_from(UNIT_NAMES), SIZED_RATES)


def counts_in_usd(counts: Mapping[str, int], unit_rates: Mapping[str, Rate]) -> Fraction:
    """The oracle for units."""
    pico_usd = Fraction(0)
    for name in counts.keys() & unit_rates.keys():
        pico_usd += counts[name] * Fraction(unit_rates[name].pico_usd, unit_rates[name].unit_size)
    return pico_usd / 10**12


@unhurried
@given(usages(), COUNTS, RATES, UNIT_RATES, DISCOUNTS)
def test_a_charge_of_tokens_and_units_is_exact_and_reports_what_has_no_price(
    usage: Usage,
    counts: dict[str, int],
    rates: Rates,
    unit_rates: dict[str, Rate],
    discount_ppm: int,
) -> None:
    mixed = with_counts(usage, counts)
    exact = cost_in_usd(usage, rates) + counts_in_usd(counts, unit_rates)

    cost = charge(mixed, rates, discount_ppm, unit_rates=unit_rates)

    assert cost.official_cost_nano_usd == ceil(exact * 10**9)
    assert cost.charge_nano_usd == ceil(exact * Fraction(discount_ppm, 10**6) * 10**9)
    used = {name for name, count in counts.items() if count}
    assert set(cost.unpriced_units) == used - unit_rates.keys()
    assert mixed.units() == usage.units() | {name: counts[name] for name in used}


@unhurried
@given(COUNTS, UNIT_RATES, DISCOUNTS, st.booleans())
def test_a_model_that_is_sold_by_units_charges_no_tokens_and_says_so(
    counts: dict[str, int], unit_rates: dict[str, Rate], discount_ppm: int, has_tokens: bool
) -> None:
    tokens = Usage(input_tokens=7, prompt_tokens=7) if has_tokens else Usage()
    usage = with_counts(tokens, counts)
    terms = PriceTerms(price_id=1, model="m", tiers={}, unit_rates=unit_rates | {"x": Rate(1)})
    served = terms.rates_for("default", usage.prompt_tokens)

    cost = charge(usage, served.rates, discount_ppm, unit_rates=terms.unit_rates)

    assert served.rates is NO_TOKEN_RATES
    assert cost.official_cost_nano_usd == ceil(counts_in_usd(counts, unit_rates) * 10**9)
    assert ("tokens" in cost.unpriced_units) == has_tokens
    assert cost.unpriced_units == terms.unpriced_units(usage)


@unhurried
@given(usages(), COUNTS, RATES, UNIT_RATES, DISCOUNTS, st.integers(1, 10))
def test_no_charge_of_tokens_and_units_exceeds_its_bound(
    usage: Usage,
    counts: dict[str, int],
    rates: Rates,
    unit_rates: dict[str, Rate],
    discount_ppm: int,
    choices: int,
) -> None:
    mixed = with_counts(usage, counts)
    bounds = UsageBounds(
        prompt_tokens=usage.prompt_tokens,
        output_tokens=ceil(Fraction(usage.completion_tokens, choices)),
        choices=choices,
        counts=mixed.counts,
    )
    cost = charge(mixed, rates, discount_ppm, unit_rates=unit_rates)

    if cost.unpriced_units:
        with pytest.raises(UnpricedUnits) as refused:
            usage_upper_bound(bounds, rates, discount_ppm, unit_rates=unit_rates)
        assert refused.value.units == cost.unpriced_units
    else:
        bound = usage_upper_bound(bounds, rates, discount_ppm, unit_rates=unit_rates)
        assert cost.charge_nano_usd <= bound


@unhurried
@given(COUNTS, st.dictionaries(st.sampled_from(UNIT_NAMES), SIZED_RATES, min_size=4), DISCOUNTS)
def test_so_many_calls_of_any_tools_cost_at_most_as_many_of_the_dearest(
    counts: dict[str, int], unit_rates: dict[str, Rate], discount_ppm: int
) -> None:
    dearest = dearest_unit(UNIT_NAMES, unit_rates)
    assert dearest is not None
    calls = min(sum(counts.values()), 1_000_000)
    some = {name: count * calls // (sum(counts.values()) or 1) for name, count in counts.items()}

    cost = charge(Usage(counts=some), NO_TOKEN_RATES, discount_ppm, unit_rates=unit_rates)

    bounds = UsageBounds(counts={dearest: calls})
    bound = usage_upper_bound(bounds, NO_TOKEN_RATES, discount_ppm, unit_rates=unit_rates)
    assert cost.charge_nano_usd <= bound


def renamed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a chat reports, under the names that all other endpoints have."""
    return {
        name.replace("prompt", "input").replace("completion", "output"): value
        for name, value in raw.items()
    }


@unhurried
@given(openai_usages())
def test_every_reader_puts_every_token_in_one_bucket(raw: dict[str, Any]) -> None:
    named = renamed(raw)

    assert usage_from_responses(named) == usage_from_openai(raw)
    for read in (usage_from_images, usage_from_transcription):
        usage = read(named)
        units = usage.units()
        assert sum(units.get(bucket, 0) for bucket in INPUT_BUCKETS) == raw["prompt_tokens"]
        assert sum(units.get(bucket, 0) for bucket in OUTPUT_BUCKETS) == raw["completion_tokens"]
    # Whatever is not named is images: of text there is at most what is not.
    images = usage_from_images(named)
    assert images.output_tokens == 0
    details = raw["completion_tokens_details"] or {}
    assert images.output_audio_tokens == details.get("audio_tokens", 0)


@unhurried
@given(openai_usages())
def test_every_token_of_any_true_usage_is_in_one_bucket(raw: dict[str, Any]) -> None:
    usage = usage_from_openai(raw)
    units = usage.units()

    assert sum(units.get(bucket, 0) for bucket in INPUT_BUCKETS) == raw["prompt_tokens"]
    assert sum(units.get(bucket, 0) for bucket in OUTPUT_BUCKETS) == raw["completion_tokens"]
    assert all(count > 0 for count in units.values())
    details = raw["prompt_tokens_details"] or {}
    cached = sum(count for bucket, count in units.items() if "cached" in bucket)
    assert cached == usage.cached_tokens == details.get("cached_tokens", 0)
    for kind in ("audio", "image"):
        read_from_kind = units.get(f"input_{kind}_tokens", 0)
        read_from_kind += units.get(f"cached_input_{kind}_tokens", 0)
        assert read_from_kind <= details.get(f"{kind}_tokens", 0)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 20),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


@unhurried
@given(
    st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), JUNK),
    st.dictionaries(
        st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens", "cache_write_tokens"]),
        JUNK,
    ),
)
def test_garbage_is_refused_or_adds_up(totals: dict[str, Any], details: dict[str, Any]) -> None:
    try:
        usage = usage_from_openai(totals | {"prompt_tokens_details": details})
    except AbsurdUsage:
        return
    assert usage.prompt_tokens == totals["prompt_tokens"]
    assert 0 <= usage.total_tokens <= 2 * MAX_TOKENS


FEW = st.sampled_from([None, 0, 1, 2, 3, True, 1.0, MAX_TOKENS, MAX_TOKENS + 1])
PLAIN_PROMPT = st.fixed_dictionaries({"cached_tokens": FEW}, optional={"audio_tokens": FEW})
PLAIN_COMPLETION = st.fixed_dictionaries(
    {"reasoning_tokens": FEW}, optional={"rejected_prediction_tokens": FEW, "new_tokens": FEW}
)


@unhurried
@given(
    st.fixed_dictionaries(
        {"prompt_tokens": FEW, "completion_tokens": FEW},
        optional={
            "total_tokens": FEW,
            "prompt_tokens_details": st.one_of(st.none(), PLAIN_PROMPT),
            "completion_tokens_details": st.one_of(st.none(), PLAIN_COMPLETION),
        },
    )
)
@example(
    {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
)
def test_usage_of_plain_text_is_what_the_reader_of_all_usage_says(raw: dict[str, Any]) -> None:
    plain = plain_usage(raw)
    if plain is not None:
        assert plain == usage_from_openai(raw)
        assert not unknown_usage_keys(raw)


def test_usage_of_plain_text_is_read_in_one_step() -> None:
    details = {"cached_tokens": 1, "audio_tokens": 0}
    raw = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": details}
    assert plain_usage(raw) == usage_from_openai(raw)
    assert plain_usage(raw | {"completion_tokens": 2.0}) is None


@unhurried
@given(usages(), RATES, DISCOUNTS, st.integers(1, 128), TOKENS)
def test_no_charge_within_the_bounds_exceeds_the_upper_bound(
    usage: Usage, rates: Rates, discount_ppm: int, choices: int, slack: int
) -> None:
    bound = cost_upper_bound(
        rates,
        prompt_tokens_bound=usage.prompt_tokens + slack,
        output_tokens_bound=ceil(Fraction(usage.completion_tokens, choices)),
        choices=choices,
        discount_ppm=discount_ppm,
    )

    assert charge(usage, rates, discount_ppm).charge_nano_usd <= bound


@unhurried
@given(RATES, TOKENS, TOKENS, st.integers(1, 128), DISCOUNTS)
def test_the_upper_bound_is_the_price_of_the_dearest_tokens(
    rates: Rates, prompt: int, output: int, choices: int, discount_ppm: int
) -> None:
    def dearest(buckets: tuple[str, ...]) -> Fraction:
        return max(Fraction(rates.of(b).pico_usd, rates.of(b).unit_size) for b in buckets)

    exact = (
        prompt * dearest(INPUT_BUCKETS)
        + output * choices * dearest(OUTPUT_BUCKETS)
        + rates.call_pico_usd
    )

    assert cost_upper_bound(
        rates,
        prompt_tokens_bound=prompt,
        output_tokens_bound=output,
        choices=choices,
        discount_ppm=discount_ppm,
    ) == ceil(exact / 1000 * Fraction(discount_ppm, 10**6))


@unhurried
@given(st.integers(0, 10**13), RATES, TOKENS, st.integers(1, 128), DISCOUNTS)
@example(0, Rates(**dict.fromkeys(BUCKETS, Rate(0)), call_pico_usd=0), 1000, 1, 500_000)
def test_what_is_affordable_is_the_exact_inverse_of_the_bound(
    budget_nano_usd: int, rates: Rates, prompt: int, choices: int, discount_ppm: int
) -> None:
    def bound(output_tokens: int) -> int:
        return cost_upper_bound(
            rates,
            prompt_tokens_bound=prompt,
            output_tokens_bound=output_tokens,
            choices=choices,
            discount_ppm=discount_ppm,
        )

    affordable = affordable_output_tokens(
        budget_nano_usd,
        rates=rates,
        prompt_tokens_bound=prompt,
        choices=choices,
        discount_ppm=discount_ppm,
    )

    if affordable is None:
        assert bound(0) > budget_nano_usd
    else:
        assert bound(affordable) <= budget_nano_usd
        assert affordable == MAX_TOKENS or bound(affordable + 1) > budget_nano_usd


@unhurried
@given(usages(), RATES, DISCOUNTS)
def test_a_call_in_two_costs_one_more_fee_and_at_most_a_rounding(
    usage: Usage, rates: Rates, discount_ppm: int
) -> None:
    prompt_only = Usage(
        **{bucket: getattr(usage, bucket) for bucket in INPUT_BUCKETS},
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
    )
    output_only = Usage(
        **{bucket: getattr(usage, bucket) for bucket in OUTPUT_BUCKETS},
        completion_tokens=usage.completion_tokens,
    )
    whole = charge(usage, rates, discount_ppm).charge_nano_usd
    fee = charge(Usage(), rates, discount_ppm).charge_nano_usd

    parts = sum(
        charge(part, rates, discount_ppm).charge_nano_usd for part in (prompt_only, output_only)
    )

    assert fee - 1 <= parts - whole <= fee + 1


@unhurried
@given(st.text(alphabet="0123456789.-eE+_ ", max_size=12))
def test_any_text_is_read_exactly_or_refused(text: str) -> None:
    try:
        nano_usd = parse_usd(text)
    except InvalidMoney:
        return
    assert Fraction(nano_usd, 10**9) == Fraction(text) == Fraction(format_usd(nano_usd))


@unhurried
@given(st.integers(1, 1_000_000))
def test_every_discount_can_be_written_as_a_fraction(ppm: int) -> None:
    assert parse_fraction_ppm(f"{ppm // 10**6}.{ppm % 10**6:06d}") == ppm
