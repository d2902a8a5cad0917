"""What audio, voices and images can cost at most, against what is known of real ones."""

import pytest

from billing.prices import book as price_book
from billing.pricing import (
    INPUT_IMAGE_TOKENS,
    MAX_AUDIO_BYTES,
    MAX_UNITS,
    NO_TOKEN_RATES,
    Rate,
    Rates,
    UnpricedUnits,
    Usage,
    UsageBounds,
    audio_bound_milliseconds,
    charge,
    dearest_unit,
    image_bound_tokens,
    largest_pixels,
    matching_images,
    speech_bound_milliseconds,
    speech_bound_tokens,
    transcription_bound_tokens,
    unit_rates_from_data,
    usage_upper_bound,
)

BOOK = {row.model: row.terms(price_id=1) for row in price_book.load()}
FULL_PRICE = 1_000_000
DALL_E_3 = BOOK["dall-e-3"].unit_rates


@pytest.mark.parametrize(
    ("file_bytes", "milliseconds"), [(0, 0), (1, 2), (750, 1_000), (MAX_AUDIO_BYTES, 34_952_534)]
)
def test_audio_lasts_at_most_as_long_as_at_the_lowest_bit_rate(
    file_bytes: int, milliseconds: int
) -> None:
    assert audio_bound_milliseconds(file_bytes) == milliseconds


def test_the_operator_may_trust_in_denser_audio() -> None:
    assert audio_bound_milliseconds(750, lowest_bits_per_second=12_000) == 500
    assert audio_bound_milliseconds(10**15) == MAX_UNITS


def test_a_transcript_is_bounded_by_its_audio() -> None:
    # A minute of speech: about 600 tokens of audio, and 200 of text.
    audio, text = transcription_bound_tokens(60_000)
    assert (audio, text) == (1200, 1200)
    assert transcription_bound_tokens(1) == (20, 20)


def test_a_voice_is_bounded_by_what_it_has_to_say() -> None:
    # The longest input, spoken slowly at 4 characters and 20 tokens a second.
    assert speech_bound_tokens(4096) >= 4096 // 4 * 20
    assert speech_bound_milliseconds(4096) >= 4096 // 4 * 1000
    assert speech_bound_tokens(1) > 100  # Even a word has a beginning and an end.


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5"])
def test_no_image_of_the_price_list_costs_more_than_its_bound(model: str) -> None:
    terms = BOOK[model]
    for unit in terms.unit_rates:
        _, quality, size = unit.split("/")
        listed = charge(
            Usage(counts={unit: 1}), NO_TOKEN_RATES, FULL_PRICE, unit_rates=terms.unit_rates
        )
        output = UsageBounds(output_tokens=image_bound_tokens(quality, size))
        bound = usage_upper_bound(output, terms.tiers["default"], FULL_PRICE)
        assert listed.charge_nano_usd <= bound


@pytest.mark.parametrize(
    ("quality", "size", "tokens"),
    [
        # What images of these sizes were billed.
        ("low", "1024x1024", 272),
        ("low", "1024x1536", 408),
        ("medium", "1024x1024", 1_056),
        ("medium", "1536x1024", 1_568),
        ("high", "1024x1024", 7_024),
        ("high", "1536x1024", 6_208),
        ("high", "1024x1536", 6_240),
        ("high", "1792x1024", 5_063),
        ("high", "3584x2048", 12_329),
    ],
)
def test_the_bound_is_above_what_was_seen_and_not_far(quality: str, size: str, tokens: int) -> None:
    bound = image_bound_tokens(quality, size)
    assert tokens <= bound <= 2 * tokens + 3_000


def test_what_is_left_open_is_bounded_by_the_dearest() -> None:
    high = image_bound_tokens("high", "1024x1536")
    largest = largest_pixels(BOOK["gpt-image-1"].unit_rates)
    assert largest == 1024 * 1536
    for quality in (None, "auto"):
        for size in (None, "auto", "nonsense"):
            assert image_bound_tokens(quality, size, largest_pixels=largest) == high
    assert largest_pixels(BOOK["gpt-image-2"].unit_rates) == 3840 * 2160
    assert image_bound_tokens(None, None) > high
    assert image_bound_tokens("ultra", "1024x1536") > high
    assert high < INPUT_IMAGE_TOKENS


@pytest.mark.parametrize(
    ("quality", "size", "dearest"),
    [
        ("standard", "1024x1024", "image/standard/1024x1024"),
        ("hd", "auto", "image/hd/1024x1792"),
        ("auto", "1024x1024", "image/hd/1024x1024"),
        (None, None, "image/hd/1024x1792"),
        ("high", "1024x1024", None),
        ("hd", "512x512", None),
    ],
)
def test_an_image_is_held_at_the_dearest_that_it_can_turn_out_to_be(
    quality: str | None, size: str | None, dearest: str | None
) -> None:
    assert dearest_unit(matching_images(quality, size, DALL_E_3), DALL_E_3) == dearest


def test_other_units_are_no_images() -> None:
    units = unit_rates_from_data({"characters": "15", "image/hd/1024x1024": "0.08"})
    assert list(matching_images(None, None, units)) == ["image/hd/1024x1024"]


def test_a_tool_without_a_price_has_no_dearest() -> None:
    rates = {"web_search_calls": Rate(5), "file_search_calls": Rate(12, 2)}
    assert dearest_unit(["web_search_calls", "file_search_calls"], rates) == "file_search_calls"
    assert dearest_unit(["web_search_calls", "songs"], rates) is None
    assert dearest_unit([], rates) is None


def test_what_has_no_price_has_no_bound() -> None:
    text = Rates.from_data({"input_tokens": "1", "output_tokens": "1"})
    with pytest.raises(UnpricedUnits) as refused:
        usage_upper_bound(UsageBounds(counts={"songs": 1}), text, FULL_PRICE)
    assert refused.value.units == ("songs",)
    with pytest.raises(UnpricedUnits, match="tokens"):
        usage_upper_bound(UsageBounds(prompt_tokens=1), NO_TOKEN_RATES, FULL_PRICE)
    assert usage_upper_bound(UsageBounds(), NO_TOKEN_RATES, FULL_PRICE) == 0
