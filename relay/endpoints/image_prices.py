"""What pictures cost: by quality and size, or by tokens. Pure.

A model may be sold both ways. Then a reply is billed by the tokens that it reports, and by its
pictures only if it reports none.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol

from billing.prices.catalog import Quote
from billing.pricing import (
    INPUT_IMAGE_TOKENS,
    PARTIAL_IMAGE_TOKENS,
    PriceTerms,
    Usage,
    UsageBounds,
    dearest_unit,
    image_bound_tokens,
    image_unit,
    largest_pixels,
    matching_images,
    usage_from_images,
)
from relay.bodies.fields import InvalidRequest
from relay.endpoints.image_request import Pictures
from relay.endpoints.media_prices import Ways, reserve_ways, tokens_usage, units_usage
from relay.metering.reservation import FlatReservation
from relay.metering.settlement import Measure, Reading, reported_usage
from relay.metering.tokenizer import TOKENS_PER_OPAQUE_PART, estimate_tokens

# Around a prompt upstream puts a few words of its own.
_PROMPT_EXTRA: Final = 64
# Pictures of a usual size; `image_bound_tokens` adds what a model writes to itself about one.
_USUAL_PIXELS: Final = 1024 * 1536


class ImageReading(Reading, Protocol):
    """An answer with pictures in it."""

    @property
    def images(self) -> int: ...
    @property
    def partial_images(self) -> int: ...
    @property
    def quality(self) -> str | None: ...
    @property
    def size(self) -> str | None: ...


def reserve_images(
    pictures: Pictures, quote: Quote, *, organization_id: int, service_tier: str | None
) -> FlatReservation:
    """Raises RelayError for pictures that the model is not sold for."""
    terms = quote.terms
    unit = _unit(pictures.quality, pictures.size, terms)
    if unit is None and not terms.prices_tokens:
        raise _not_sold(pictures, terms)
    by_image = [UsageBounds(counts={unit: pictures.count})] if unit is not None else []
    most, usual = (
        UsageBounds(
            # Each of several pictures pays for the whole prompt.
            prompt_tokens=prompt * pictures.count,
            output_tokens=drawn + pictures.partial_images * PARTIAL_IMAGE_TOKENS,
            choices=pictures.count,
        )
        for prompt, drawn in (
            (
                pictures.prompt_bytes + _PROMPT_EXTRA + pictures.inputs * INPUT_IMAGE_TOKENS,
                _tokens(pictures, most_pixels=largest_pixels(terms.unit_rates)),
            ),
            (
                pictures.prompt_bytes + pictures.inputs * TOKENS_PER_OPAQUE_PART,
                _tokens(pictures, most_pixels=_USUAL_PIXELS),
            ),
        )
    )
    return reserve_ways(
        Ways(most=[most, *by_image], usual=[usual, *by_image]),
        quote,
        organization_id=organization_id,
        service_tier=service_tier,
    )


def measure_images(
    pictures: Pictures, reading: ImageReading, terms: PriceTerms, *, produced: bool
) -> Measure:
    usage, flags = reported_usage(
        reading.usage,
        terms,
        read=partial(_read, images=reading.images, has_input_images=pictures.inputs > 0),
        shape=(pictures.count, pictures.count),
    )
    if usage is not None and not terms.unpriced_units(usage):
        return Measure(usage, "upstream", flags)
    if reading.images:
        unit = _unit(
            reading.quality or pictures.quality, reading.size or pictures.size, terms
        ) or _unit(pictures.quality, pictures.size, terms)
        if unit is not None:
            # Of a model that is sold by the picture they are all that there is to know.
            source = "estimated" if terms.prices_tokens else "upstream"
            return Measure(units_usage({unit: reading.images}), source, flags)
    if not (reading.images or produced):
        return Measure(flags=flags)
    return Measure(_estimate(pictures, reading, terms), "estimated", flags)


def _read(raw: Mapping[str, Any], *, images: int, has_input_images: bool) -> Usage:
    return usage_from_images(raw, images=images, has_input_images=has_input_images)


def _estimate(pictures: Pictures, reading: ImageReading, terms: PriceTerms) -> Usage:
    """By what came; of a picture that broke off, as much as its partial images showed of it."""
    if not terms.prices_tokens:
        return Usage()  # Nothing came that could be sold by the picture.
    seen = pictures
    if reading.quality or reading.size:
        seen = _as_told(pictures, reading)
    each = _tokens(seen, most_pixels=_USUAL_PIXELS)
    drawn = reading.images * each + reading.partial_images * PARTIAL_IMAGE_TOKENS
    if not reading.images:
        drawn += each * reading.partial_images // (pictures.partial_images + 1)
    return tokens_usage(
        text=estimate_tokens(terms.model, pictures.prompt),
        images=pictures.inputs * TOKENS_PER_OPAQUE_PART,
        drawn=drawn,
    )


def _as_told(pictures: Pictures, reading: ImageReading) -> Pictures:
    return Pictures(
        count=pictures.count,
        size=reading.size or pictures.size,
        quality=reading.quality or pictures.quality,
        partial_images=pictures.partial_images,
        prompt=pictures.prompt,
        inputs=pictures.inputs,
    )


def _tokens(pictures: Pictures, *, most_pixels: int) -> int:
    return image_bound_tokens(pictures.quality, pictures.size, largest_pixels=most_pixels)


def _unit(quality: str | None, size: str | None, terms: PriceTerms) -> str | None:
    """The priced unit that such a picture is; None if it has no price."""
    try:
        plain = image_unit(quality, size)
    except ValueError:
        plain = ""
    if terms.prices_unit(plain):
        return plain
    return dearest_unit(matching_images(quality, size, terms.unit_rates), terms.unit_rates)


def _not_sold(pictures: Pictures, terms: PriceTerms) -> InvalidRequest:
    of_size = any(True for _ in matching_images(None, pictures.size, terms.unit_rates))
    param = "quality" if of_size else "size"
    value = pictures.quality if of_size else pictures.size
    return InvalidRequest(
        f"Invalid value for '{param}': the model has no price for images of '{value}'.",
        param=param,
        code="unsupported_value",
    )
