"""Our price book against the official list, price by price, with every deviation named.

golden/official_prices.json is the list as it was published: USD per token, second, character,
image or call, under the list's own names. Prices of endpoints that we do not relay are left out.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from billing.prices import book as price_book
from billing.prices.book import PriceRow

LIST: Mapping[str, Mapping[str, str]] = json.loads(
    Path(__file__).with_name("official_prices.json").read_text(encoding="utf-8")
)
BOOK = {row.model: row for row in price_book.load()}

BUCKETS = {
    "input_cost_per_token": "input_tokens",
    "cache_read_input_token_cost": "cached_input_tokens",
    "cache_creation_input_token_cost": "cache_write_tokens",
    "input_cost_per_audio_token": "input_audio_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "cache_read_input_image_token_cost": "cached_input_image_tokens",
    "output_cost_per_token": "output_tokens",
    "output_cost_per_audio_token": "output_audio_tokens",
    "output_cost_per_image_token": "output_image_tokens",
}
TIERS = {"": "default"} | {
    f"_{name}": tier
    for name, tier in {
        "batches": "batch",
        "flex": "flex",
        "priority": "priority",
        "ultrafast": "ultrafast",
    }.items()
}
LONG = "_above_272k_tokens"
# Whatever else the list quotes: the unit, and how many of the list's units we quote at once.
UNITS = {
    "input_cost_per_character": ("characters", 1_000_000),
    "input_cost_per_second": ("input_audio_milliseconds", 60),
    "output_cost_per_second": ("output_audio_milliseconds", 60),
    "search_cost_per_query": ("web_search_calls", 1),
}

# --- Where we deviate, and why; a row that does says so in its note ------------------------------

REALTIME = {"gpt-live-transcribe", "gpt-realtime-whisper"}
# The list's price of what a code interpreter runs in is a row of its own.
CONTAINER = "openai/container"
# Of the tiers that are quoted by halves: without a rate of its output, no tier can be charged.
LEFT_OUT_TIERS = {"batch": "Batches are left out", "priority": "Priority is left out"}
# Endpoint-specific rates of gpt-6-luna that the relay does not serve.
DECISIONS = "_decisions"
CACHED_QUOTED_AS_WRITTEN = "ft:gpt-4o-2024-11-20"

MODELS = [model for model in LIST if "/" not in model and model not in REALTIME]

Tiers = dict[tuple[str, bool], dict[str, Decimal]]


def listed_rates(model: str) -> tuple[Tiers, dict[str, Decimal]]:
    """Token rates by tier and length of the prompt, and unit rates, in our names and sizes."""
    tiers: Tiers = {}
    units = {}
    for name, usd in LIST[model].items():
        base = next((base for base in BUCKETS if name.startswith(base)), None)
        if name in UNITS:
            unit, size = UNITS[name]
            units[unit] = Decimal(usd) * size
        elif base is not None and not name.endswith(DECISIONS):
            rest = name.removeprefix(base)
            tier = TIERS[rest.removeprefix(LONG)], rest.startswith(LONG)
            tiers.setdefault(tier, {})[BUCKETS[base]] = Decimal(usd) * 10**6
    return tiers, units


def filed_rates(row: PriceRow) -> tuple[Tiers, dict[str, Decimal]]:
    long_tiers = row.long_context["tiers"] if row.long_context else {}
    tiers = {
        (tier, is_long): {bucket: Decimal(usd) for bucket, usd in rates.items()}
        for is_long, rates_by_tier in ((False, row.tiers), (True, long_tiers))
        for tier, rates in rates_by_tier.items()
    }
    return tiers, {unit: Decimal(usd) for unit, usd in row.unit_rates.items()}


@pytest.mark.parametrize("model", MODELS)
def test_every_token_rate_is_the_listed_one(model: str) -> None:
    row = BOOK[model]
    listed, units = listed_rates(model)
    filed, _ = filed_rates(row)
    is_image = row.endpoints == ("images/edits", "images/generations")
    for tier in listed.keys() - filed.keys():
        assert LEFT_OUT_TIERS[tier[0]] in row.note
        del listed[tier]
    if is_image and "output_tokens" not in listed["default", False]:
        assert "Text output has no price of its own" in row.note
        listed["default", False]["output_tokens"] = listed["default", False]["output_image_tokens"]
    if model == CACHED_QUOTED_AS_WRITTEN:
        assert "quoted as a cache write" in row.note
        default = listed["default", False]
        default["cached_input_tokens"] = default.pop("cache_write_tokens")
    for rates in filed.values():
        if "usd_per_call" in rates:
            assert rates.pop("usd_per_call") == units["web_search_calls"]

    assert filed == listed


@pytest.mark.parametrize("model", MODELS)
def test_every_unit_rate_is_the_listed_one(model: str) -> None:
    row = BOOK[model]
    _, listed = listed_rates(model)
    _, filed = filed_rates(row)
    images = {unit: usd for unit, usd in filed.items() if unit.startswith("image/")}
    filed = {unit: usd for unit, usd in filed.items() if unit not in images}
    if model == "whisper-1":
        assert "it is one price" in row.note
        assert listed.pop("output_audio_milliseconds") == listed["input_audio_milliseconds"]
    if "usd_per_call" in row.tiers.get("default", {}):
        assert "Every call searches" in row.note
        del listed["web_search_calls"]
    if filed.pop("code_interpreter_sessions", None) is not None:
        # The pricing page quotes it for all models; file search is quoted nowhere else.
        assert BOOK[model].unit_rates["code_interpreter_sessions"] == "0.03"
        assert filed.pop("file_search_calls") == Decimal("0.0025")
    if "web_search_calls" in filed and "web_search_calls" not in listed:
        assert "The web search fee is" in row.note
        del filed["web_search_calls"]

    assert filed == listed
    assert images == listed_images(model, row)


def listed_images(model: str, row: PriceRow) -> dict[str, Decimal]:
    images = {}
    for name, costs in LIST.items():
        *options, of_model = name.split("/")
        if of_model == model and options and options != [model]:
            quality, size = ("standard", *options)[-2:]
            unit = f"image/{quality}/{size.replace('-x-', 'x')}"
            images[unit] = Decimal(costs["input_cost_per_image"])
    # These models know no standard quality: it is the list's other word for their lowest one.
    for unit in [unit for unit in images if "/standard/" in unit]:
        assert images.pop(unit) == images[unit.replace("standard", "low")]
    if model == "gpt-image-1-mini":
        assert "High quality is priced on the page of the model only" in row.note
        sizes = {"1024x1024": "0.036", "1024x1536": "0.052", "1536x1024": "0.052"}
        images |= {f"image/high/{size}": Decimal(usd) for size, usd in sizes.items()}
    return images


def test_sizes_and_containers_are_no_models() -> None:
    assert not [model for model in BOOK if "/" in model]
    assert Decimal(LIST[CONTAINER]["code_interpreter_cost_per_session"]) == Decimal("0.03")


def test_what_the_list_lacks_is_retired_and_says_so() -> None:
    beyond_the_list = {model for model in BOOK if model not in LIST}

    assert beyond_the_list == {
        "dall-e-2",
        "dall-e-3",
        "gpt-3.5-turbo-0301",
        "gpt-3.5-turbo-0613",
        "gpt-3.5-turbo-16k-0613",
        "gpt-4-0314",
        "gpt-4-vision-preview",
        "text-davinci-003",
        "text-moderation-latest",
    }
    for model in beyond_the_list:
        assert BOOK[model].note == "Retired upstream; its last list price."


def test_what_we_do_not_relay_has_no_price() -> None:
    assert not REALTIME & BOOK.keys()
    assert not [model for model in BOOK if "realtime" in model or "sora" in model]
