"""Golden vectors: what a reply of each kind costs, worked out by hand from the official prices.

golden_charges.json has one reply a line: what upstream reported, further counts, the arithmetic in
USD (units x price / units that the price is for), and what is charged at three discounts. The file
was written with the price list at hand and not by the code that it checks; a charge is the sum of
the arithmetic times the discount, rounded up to a nano-USD.
"""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from billing.money import parse_fraction_ppm
from billing.prices import book as price_book
from billing.pricing import (
    Usage,
    charge,
    unknown_usage_counts,
    usage_from_embeddings,
    usage_from_images,
    usage_from_openai,
    usage_from_responses,
    usage_from_speech,
    usage_from_transcription,
    with_counts,
)

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("golden_charges.json").read_text(encoding="utf-8")
)
BOOK = {row.model: row for row in price_book.load()}
READERS: Mapping[str, Callable[[object], Usage]] = {
    "chat/completions": usage_from_openai,
    "completions": usage_from_openai,
    "embeddings": usage_from_embeddings,
    "responses": usage_from_responses,
    "images/generations": usage_from_images,
    "images/edits": usage_from_images,
    "audio/speech": usage_from_speech,
    "audio/transcriptions": usage_from_transcription,
    "audio/translations": usage_from_transcription,
}
EVERY_VECTOR = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


def usd(vector: dict[str, Any]) -> Fraction:
    """The sum of `units x price / size`, one line each."""
    total = Fraction(0)
    for line in vector["arithmetic"]:
        product, size = line.split(" / ")
        units, price = product.split(" x ")
        total += Fraction(units) * Fraction(price) / Fraction(size)
    return total


def used(vector: dict[str, Any]) -> Usage:
    raw = vector["usage"]
    usage = Usage() if raw is None else READERS[vector["endpoint"]](exact(raw))
    unknown = unknown_usage_counts(raw)
    counts = vector.get("counts", {})
    assert unknown.items() <= counts.items()
    return with_counts(usage, counts)


def exact(raw: dict[str, Any]) -> dict[str, Any]:
    """A duration with a fraction is text in the file, and a Decimal where replies are decoded."""
    if isinstance(raw.get("seconds"), str):
        return raw | {"seconds": Decimal(raw["seconds"])}
    return raw


@EVERY_VECTOR
def test_a_reply_costs_what_was_worked_out(vector: dict[str, Any]) -> None:
    row = BOOK[vector["model"]]
    assert vector["endpoint"] in row.endpoints
    terms, usage = row.terms(price_id=1), used(vector)
    served = terms.rates_for(vector["served_tier"], usage.prompt_tokens)
    assert served.is_priced
    for discount, nano_usd in vector["charge_nano_usd"].items():
        cost = charge(
            usage, served.rates, parse_fraction_ppm(discount), unit_rates=terms.unit_rates
        )
        assert cost.charge_nano_usd == nano_usd
        assert cost.official_cost_nano_usd == vector["charge_nano_usd"]["1"]
        assert list(cost.unpriced_units) == vector.get("unpriced_units", [])
        assert terms.unpriced_units(usage) == cost.unpriced_units


@EVERY_VECTOR
def test_the_arithmetic_of_the_file_is_right(vector: dict[str, Any]) -> None:
    for discount, nano_usd in vector["charge_nano_usd"].items():
        assert nano_usd == ceil(usd(vector) * Fraction(discount) * 10**9)


def test_every_priced_endpoint_and_bug_has_a_vector() -> None:
    endpoints = {endpoint for row in BOOK.values() for endpoint in row.endpoints}
    assert {vector["endpoint"] for vector in VECTORS} == endpoints
    about = " ".join(vector.get("about", "") for vector in VECTORS)
    for bug in (*range(21, 30), 19, 34):
        assert f"B{bug}" in about
    assert {vector["served_tier"] for vector in VECTORS} >= {"default", "flex", "priority"}
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS)
