"""The shipped price book, and how strictly a price book is read."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from billing.prices import book as price_book
from billing.prices.book import InvalidPriceBook, PriceRow
from billing.pricing import Rate, Rates

BOOK = {row.model: row for row in price_book.load()}

# Copied by hand from the official prices: USD per 1M tokens.
# input, cached input, output.
OFFICIAL = {
    "gpt-3.5-turbo": ("0.5", "0.5", "1.5"),
    "gpt-3.5-turbo-16k": ("3", "3", "4"),
    "gpt-3.5-turbo-instruct": ("1.5", "1.5", "2"),
    "gpt-4": ("30", "30", "60"),
    "gpt-4-turbo": ("10", "10", "30"),
    "gpt-4.1-nano": ("0.1", "0.025", "0.4"),
    "gpt-4o": ("2.5", "1.25", "10"),
    "gpt-4o-2024-05-13": ("5", "5", "15"),
    "gpt-4o-mini": ("0.15", "0.075", "0.6"),
    "gpt-5": ("1.25", "0.125", "10"),
    "gpt-5-nano": ("0.05", "0.005", "0.4"),
    "gpt-5-pro": ("15", "15", "120"),
    "gpt-5.2": ("1.75", "0.175", "14"),
    "gpt-5.4": ("2.5", "0.25", "15"),
    "gpt-5.5-cyber": ("12.5", "1.25", "75"),
    "gpt-5.6": ("4", "0.4", "20"),
    "gpt-6-luna": ("0.1", "0.01", "0.5"),
    "gpt-6.1-sol": ("2", "0.1", "10"),
    "ft:gpt-4o-2024-11-20": ("3.75", "1.875", "15"),
    "ft:o4-mini-2025-04-16": ("4", "1", "16"),
    "o1-pro": ("150", "150", "600"),
    "o3-mini": ("1.1", "0.55", "4.4"),
    "o4-mini": ("1.1", "0.275", "4.4"),
    "omni-moderation-latest": ("0", "0", "0"),
    "text-embedding-3-large": ("0.13", "0.13", "0"),
    "text-embedding-3-small": ("0.02", "0.02", "0"),
    # Retired, but still asked for.
    "gpt-3.5-turbo-0301": ("1.5", "1.5", "2"),
    "gpt-3.5-turbo-0613": ("1.5", "1.5", "2"),
    "gpt-3.5-turbo-16k-0613": ("3", "3", "4"),
    "gpt-4-0314": ("30", "30", "60"),
    "gpt-4-1106-preview": ("10", "10", "30"),
    "gpt-4-vision-preview": ("10", "10", "30"),
    "text-davinci-003": ("20", "20", "20"),
    "text-moderation-latest": ("0", "0", "0"),
}

# Model, tier, whether the prompt is long, then input, cached input, cache write, output.
OFFICIAL_TIERS = [
    ("gpt-4.1", "priority", False, ("3.5", "0.875", "3.5", "14")),
    ("gpt-4o", "batch", False, ("1.25", "1.25", "1.25", "5")),
    ("gpt-5", "flex", False, ("0.625", "0.0625", "0.625", "5")),
    ("gpt-5.4", "flex", False, ("1.25", "0.13", "1.25", "7.5")),
    ("gpt-5.4", "default", True, ("5", "0.5", "5", "22.5")),
    ("gpt-5.6", "default", False, ("4", "0.4", "5", "20")),
    ("gpt-5.6", "priority", True, ("16", "1.6", "20", "60")),
    ("gpt-6-astra", "ultrafast", False, ("60", "6", "75", "300")),
    ("gpt-6-astra", "ultrafast", True, ("120", "12", "150", "450")),
    ("gpt-6-luna", "batch", True, ("0.1", "0.01", "0.125", "0.375")),
    ("o4-mini", "flex", False, ("0.55", "0.138", "0.55", "2.2")),
]

ROW: dict[str, Any] = {
    "model": "gpt-x",
    "endpoints": ["chat/completions"],
    "context_tokens": 1000,
    "max_output_tokens": None,
    "output_cap_field": "max_tokens",
    "tiers": {
        "default": {"input_tokens": "2", "cached_input_tokens": "1", "output_tokens": "8"},
        "flex": {"input_tokens": "1", "output_tokens": "4"},
        "priority": {"input_tokens": "4", "output_tokens": "16"},
    },
    "long_context": {
        "above_tokens": 272000,
        "tiers": {"default": {"input_tokens": "4", "output_tokens": "12"}},
    },
    "deprecated_on": "2027-01-01",
    "effective_from": "2020-01-01",
    "date": "2026-11-20",
    "source": "https://example.com/prices",
    "note": "Made up.",
}


def usd(rates: Rates, bucket: str) -> Decimal:
    return Decimal(rates.of(bucket).pico_usd) / 10**6


def rates_of(model: str, tier: str = "default", *, prompt_tokens: int = 0) -> Rates:
    answer = BOOK[model].terms(price_id=1).rates_for(tier, prompt_tokens)
    assert answer.is_priced
    return answer.rates


def parsed(**changes: Any) -> PriceRow:
    [row] = price_book.parse(json.dumps([ROW | changes]))
    return row


@pytest.mark.parametrize(("model", "prices"), OFFICIAL.items())
def test_the_price_is_the_official_one(model: str, prices: tuple[str, str, str]) -> None:
    rates = rates_of(model)
    buckets = ("input_tokens", "cached_input_tokens", "output_tokens")

    assert tuple(usd(rates, bucket) for bucket in buckets) == tuple(map(Decimal, prices))


@pytest.mark.parametrize(("model", "tier", "is_long", "prices"), OFFICIAL_TIERS)
def test_the_price_of_a_tier_is_the_official_one(
    model: str, tier: str, is_long: bool, prices: tuple[str, ...]
) -> None:
    rates = rates_of(model, tier, prompt_tokens=272_001 if is_long else 272_000)
    buckets = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens")

    assert tuple(usd(rates, bucket) for bucket in buckets) == tuple(map(Decimal, prices))


@pytest.mark.parametrize(
    ("model", "text_in", "audio_in", "text_out", "audio_out"),
    [
        ("gpt-4o-audio-preview-2025-06-03", "2.5", "40", "10", "80"),
        ("gpt-4o-mini-audio-preview-2024-12-17", "0.15", "10", "0.6", "20"),
        ("gpt-audio", "2.5", "32", "10", "64"),
        ("gpt-audio-mini", "0.6", "10", "2.4", "20"),
    ],
)
def test_audio_has_its_own_price(
    model: str, text_in: str, audio_in: str, text_out: str, audio_out: str
) -> None:
    rates = rates_of(model)

    assert usd(rates, "input_tokens") == Decimal(text_in)
    assert usd(rates, "input_audio_tokens") == Decimal(audio_in)
    assert usd(rates, "cached_input_audio_tokens") == Decimal(audio_in)
    assert usd(rates, "output_tokens") == Decimal(text_out)
    assert usd(rates, "output_audio_tokens") == Decimal(audio_out)


@pytest.mark.parametrize(
    ("model", "nano_usd"), [("gpt-4o-search-preview", 25_000_000), ("gpt-5-search-api", 10_000_000)]
)
def test_a_search_model_has_its_fee(model: str, nano_usd: int) -> None:
    assert rates_of(model).call_pico_usd == nano_usd * 1000


def test_no_other_model_has_a_fee_per_call() -> None:
    with_fee = {model for model in BOOK if rates_of(model).call_pico_usd}

    assert with_fee == {model for model in BOOK if "-search-" in model}


def test_models_that_are_not_offered_have_no_price() -> None:
    assert not [model for model in BOOK if model.startswith("gpt-4-32k")]
    assert not [model for model in BOOK if "realtime" in model or "sora" in model]
    # Quoted with an input rate only: a tier without an output rate is none.
    assert not BOOK["gpt-5-nano"].terms(price_id=1).prices_tier("priority")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-3.5-turbo", "max_tokens"),
        ("gpt-4", "max_tokens"),
        ("gpt-4o", "max_tokens"),
        ("gpt-4.1", "max_tokens"),
        ("gpt-3.5-turbo-instruct", "max_tokens"),
        ("ft:o4-mini-2025-04-16", "max_completion_tokens"),
        ("o1", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-5-chat-latest", "max_completion_tokens"),
        ("chat-latest", "max_completion_tokens"),
        ("gpt-6.1-sol", "max_completion_tokens"),
    ],
)
def test_the_output_cap_goes_where_the_model_takes_it(model: str, field: str) -> None:
    assert BOOK[model].output_cap_field == field


def test_every_chat_model_takes_chat_and_has_its_limits() -> None:
    row = BOOK["gpt-4o"]

    assert row.endpoints == ("chat/completions", "responses")
    assert (row.context_tokens, row.max_output_tokens) == (128_000, 16_384)
    assert row.deprecated_on is None
    assert BOOK["gpt-4o-2024-08-06"].deprecated_on == dt.date(2027, 1, 14)
    assert BOOK["gpt-5-pro"].endpoints == ("responses",)
    assert BOOK["text-embedding-ada-002"].endpoints == ("embeddings",)


def test_every_row_says_where_and_when_it_was_read_and_holds_for_any_call() -> None:
    for row in BOOK.values():
        assert row.source.startswith("https://")
        assert row.date >= dt.date(2026, 11, 20)
        assert row.effective_from == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def test_the_file_is_written_one_row_a_line() -> None:
    text = price_book.FILE.read_text(encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) for row in json.loads(text)]

    assert text == "[\n" + ",\n".join(lines) + "\n]\n"


def test_a_good_row_is_read_as_filed() -> None:
    row = parsed()

    assert row.tiers == ROW["tiers"]
    assert row.long_context == ROW["long_context"]
    assert (row.context_tokens, row.max_output_tokens) == (1000, None)
    assert row.deprecated_on == dt.date(2027, 1, 1)
    terms = row.terms(price_id=3)
    assert (terms.price_id, terms.model, terms.output_cap_field) == (3, "gpt-x", "max_tokens")


def test_a_row_of_units_alone_is_read_as_filed() -> None:
    units = {"characters": "15", "image/hd/1024x1792": "0.12"}

    row = parsed(tiers={}, long_context=None, unit_rates=units)

    assert row.unit_rates == units
    terms = row.terms(price_id=3)
    assert not terms.prices_tokens
    assert terms.unit_rates == {
        "characters": Rate(15_000_000),
        "image/hd/1024x1792": Rate(120_000_000_000),
    }


def test_audio_is_quoted_by_the_minute_and_counted_in_milliseconds() -> None:
    row = parsed(unit_rates={"input_audio_milliseconds": "0.017"})

    assert row.terms(price_id=3).unit_rates == {
        "input_audio_milliseconds": Rate(17_000_000_000, unit_size=60_000)
    }


def tier(**usd_per_million: str) -> dict[str, Any]:
    return {"default": {"input_tokens": "2", "output_tokens": "8"} | usd_per_million}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "gpt 4"},
        {"model": "gpt-4 "},
        {"model": ""},
        {"model": 5},
        {"ratio": 15},
        {"endpoints": []},
        {"endpoints": "chat/completions"},
        {"endpoints": [{}]},
        {"endpoints": ["videos"]},
        {"endpoints": ["responses", "chat/completions"]},
        {"endpoints": ["embeddings"]},
        {"output_cap_field": None},
        {"output_cap_field": "max_output_tokens"},
        {"context_tokens": "1000"},
        {"context_tokens": -1},
        {"max_output_tokens": True},
        {"source": "a friend"},
        {"source": None},
        {"note": 5},
        {"date": "yesterday"},
        {"date": None},
        {"effective_from": 2020},
        {"deprecated_on": "2027-13-01"},
        {"tiers": None},
        {"tiers": {}},
        {"tiers": {"default": []}},
        {"tiers": {"flex": {"input_tokens": "1", "output_tokens": "1"}}},
        {"tiers": {}, "long_context": None},
        {"tiers": {}, "unit_rates": {"characters": "15"}},  # Long prompts of no tokens.
        {"unit_rates": None},
        {"unit_rates": []},
        {"unit_rates": {"characters": 15}},
        {"unit_rates": {"characters": "-15"}},
        {"unit_rates": {"characters": "10000.01"}},
        {"unit_rates": {"characters": "0.0000015"}},
        {"unit_rates": {"input_audio_milliseconds": "10.01"}},
        {"unit_rates": {"web_search_calls": "1.01"}},
        {"unit_rates": {"code_interpreter_sessions": "10.01"}},
        {"unit_rates": {"image/high/1024x1024": "10.01"}},
        {"unit_rates": {"image/high/1024-x-1024": "0.1"}},
        {"unit_rates": {"image/auto": "0.1"}},
        {"unit_rates": {"input_tokens": "1"}},
        {"unit_rates": {"songs": "1"}},
        {"tiers": tier(), "long_context": 5},
        {"tiers": tier(thinking_tokens="1")},
        {"tiers": tier(input_tokens="0.0000025")},
        {"tiers": tier(input_tokens="10000.01")},
        {"tiers": tier(output_tokens="-1")},
        {"tiers": tier(usd_per_call="1.01")},
        {"tiers": tier(cached_input_tokens="2.1")},
        {"tiers": tier(input_audio_tokens="5", cached_input_audio_tokens="6")},
        {"tiers": tier() | {"flex": {"input_tokens": "3", "output_tokens": "1"}}},
        {"tiers": tier() | {"priority": {"input_tokens": "3", "output_tokens": "1"}}},
        {"tiers": tier() | {"decisions": {"input_tokens": "2", "output_tokens": "8"}}},
        {"long_context": {"above_tokens": 9, "tiers": tier(input_tokens="1")}},
        {"long_context": {"above_tokens": 9, "tiers": tier(input_tokens="10000.01")}},
        {
            "tiers": tier(),
            "long_context": {
                "above_tokens": 9,
                "tiers": tier() | {"flex": {"input_tokens": "1", "output_tokens": "1"}},
            },
        },
    ],
)
def test_a_row_that_breaks_a_rule_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidPriceBook):
        parsed(**changes)


@pytest.mark.parametrize("field", sorted(ROW.keys() - {"note", "deprecated_on", "long_context"}))
def test_a_row_without_a_needed_field_is_refused(field: str) -> None:
    row = {name: value for name, value in ROW.items() if name != field}

    with pytest.raises(InvalidPriceBook):
        price_book.parse(json.dumps([row]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[5]",
        json.dumps([ROW, ROW]),
        json.dumps([ROW | {"model": "gpt-y"}, ROW]),
        json.dumps([ROW]).replace('"2"', "2.0"),
        json.dumps([ROW]).replace('"model": "gpt-x"', '"model": "gpt-x", "model": "gpt-x"'),
    ],
)
def test_a_book_that_is_no_sorted_list_of_exact_rows_is_refused(text: str) -> None:
    with pytest.raises(InvalidPriceBook):
        price_book.parse(text)


def test_the_refusal_names_the_model() -> None:
    with pytest.raises(InvalidPriceBook, match=r"^gpt-x: .*flex.*input_tokens"):
        parsed(tiers=tier() | {"flex": {"input_tokens": "3", "output_tokens": "1"}})


def test_a_later_price_of_the_same_model_is_a_second_row() -> None:
    rows = price_book.parse(json.dumps([ROW, ROW | {"effective_from": "2026-12-01"}]))

    assert [row.effective_from.year for row in rows] == [2020, 2026]
