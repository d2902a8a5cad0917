"""What images set aside covers what they cost, however they are billed. Without a gateway."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.prices.catalog import Quote
from billing.pricing import (
    INPUT_IMAGE_TOKENS,
    PARTIAL_IMAGE_TOKENS,
    PriceTerms,
    image_bound_tokens,
    tiers_from_data,
    unit_rates_from_data,
)
from relay.endpoints.image_prices import measure_images, reserve_images
from relay.endpoints.image_request import Pictures, form_value
from relay.errors import RelayError
from relay.metering.settlement import price

TIERS = {
    "default": {
        "input_tokens": "5",
        "input_image_tokens": "8",
        "output_tokens": "10",
        "output_image_tokens": "32",
    }
}
UNITS = {"image/low/1024x1024": "0.01", "image/high/1024x1536": "0.2"}
QUALITIES = st.sampled_from([None, "auto", "low", "medium", "high"])
SIZES = st.sampled_from([None, "auto", "1024x1024", "1024x1536"])


def quote_of(*, tokens: bool, images: bool, discount_ppm: int = 500_000) -> Quote:
    terms = PriceTerms(
        price_id=1,
        model="m",
        tiers=tiers_from_data(TIERS if tokens else {}),
        unit_rates=unit_rates_from_data(UNITS if images else {}),
    )
    return Quote(terms, discount_ppm)


@dataclass(frozen=True, kw_only=True)
class Reading:
    usage: object = None
    images: int = 0
    partial_images: int = 0
    quality: str | None = None
    size: str | None = None
    served_tier: str | None = None
    upstream_id: str | None = None

    def output_text(self) -> str:
        return ""


def pictures(**members: Any) -> Pictures:
    usual = {"count": 1, "size": None, "quality": None, "partial_images": 0, "prompt": "A cat"}
    return Pictures(**(usual | members))


ASKED = st.builds(
    pictures,
    count=st.integers(1, 10),
    size=SIZES,
    quality=QUALITIES,
    partial_images=st.integers(0, 3),
    inputs=st.integers(0, 16),
    prompt=st.text(max_size=50),
)


def charged(asked: Pictures, reading: Reading, quote: Quote) -> int:
    measured = measure_images(asked, reading, quote.terms, produced=True)
    return price(measured, quote, served_tier=None, cost_ppm=0).cost_nano_usd


@given(ASKED, st.data())
def test_a_strict_hold_covers_whatever_upstream_reports(
    asked: Pictures, data: st.DataObject
) -> None:
    quote = quote_of(tokens=True, images=data.draw(st.booleans()))
    hold = reserve_images(asked, quote, organization_id=1, service_tier=None).hold
    text = data.draw(st.integers(1, max(1, asked.prompt_bytes))) * asked.count
    seen = asked.inputs * data.draw(st.integers(0, INPUT_IMAGE_TOKENS)) * asked.count
    # Of the sizes that the model is sold in, none is larger.
    most = image_bound_tokens(asked.quality, asked.size, largest_pixels=1024 * 1536)
    each = data.draw(st.integers(1, most)) + asked.partial_images * PARTIAL_IMAGE_TOKENS
    made = each * asked.count
    usage = {
        "input_tokens": text + seen,
        "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
        "output_tokens": made,
    }
    charge = charged(asked, Reading(usage=usage, images=asked.count), quote)
    assert 0 < charge <= hold.strict.minimum_nano_usd == hold.strict.wanted_nano_usd
    assert hold.standard.minimum_nano_usd <= hold.strict.minimum_nano_usd


@given(ASKED, QUALITIES, SIZES, st.booleans())
def test_a_strict_hold_covers_what_is_estimated(
    asked: Pictures, quality: str | None, size: str | None, images: bool
) -> None:
    """Upstream makes what was asked for, and says so, or nothing."""
    told = Reading(
        images=asked.count,
        partial_images=asked.count * asked.partial_images,
        quality=quality if asked.quality in (None, "auto") else asked.quality,
        size=size if asked.size in (None, "auto") else asked.size,
    )
    quote = quote_of(tokens=True, images=images)
    hold = reserve_images(asked, quote, organization_id=1, service_tier=None).hold
    assert 0 < charged(asked, told, quote) <= hold.strict.minimum_nano_usd


def test_nobody_sells_what_has_no_price() -> None:
    quote = quote_of(tokens=False, images=True)
    for size, quality in (("1x1", None), (None, "hd"), ("1024x1024", "high"), ("", "medium")):
        with pytest.raises(RelayError) as refused:
            reserve_images(
                pictures(size=size, quality=quality), quote, organization_id=1, service_tier=None
            )
        assert (refused.value.status, refused.value.code) == (400, "unsupported_value")


def test_nothing_seen_costs_nothing() -> None:
    for quote in (quote_of(tokens=True, images=True), quote_of(tokens=False, images=True)):
        measured = measure_images(pictures(), Reading(), quote.terms, produced=False)
        assert (measured.usage, measured.source) == (None, "none")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n", "2", 2),
        ("n", "", None),
        ("stream", "true", True),
        ("stream", "True", True),
        ("stream", "1", True),
        ("stream", "false", False),
        ("stream", "", False),
        ("size", "", None),
        ("size", "auto", "auto"),
    ],
)
def test_values_of_a_form(name: str, text: str, value: object) -> None:
    assert form_value(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"), [("n", "two"), ("n", "-1"), ("n", "1.0"), ("n", "²"), ("stream", "yes")]
)
def test_values_that_are_none(name: str, text: str) -> None:
    with pytest.raises(RelayError) as refused:
        form_value(name, text)
    assert (refused.value.status, refused.value.param) == (400, name)
