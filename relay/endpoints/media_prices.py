"""What calls for images and sounds set aside: what several ways of billing them cost. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from billing.engine.holds import Bounds, HoldRequest
from billing.prices.catalog import Quote
from billing.pricing import MAX_TOKENS, Rates, UnpricedUnits, Usage, UsageBounds, usage_upper_bound
from relay.errors import model_not_found
from relay.metering.reservation import FlatReservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How a call may be billed: in the one way or in the other, in each for so much."""

    most: Iterable[UsageBounds]
    """For strict holds: no such call uses more."""
    usual: Iterable[UsageBounds]


def reserve_ways(
    ways: Ways, quote: Quote, *, organization_id: int, service_tier: str | None
) -> FlatReservation:
    """Set aside what the dearest way costs. Raises RelayError where none of them has a price."""
    rates = quote.terms.dearest_rates(service_tier)
    strict = _dearest(ways.most, quote, rates)
    standard = min(_dearest(ways.usual, quote, rates), strict)
    return FlatReservation(
        hold=HoldRequest(
            organization_id=organization_id,
            strict=Bounds(minimum_nano_usd=strict, wanted_nano_usd=strict),
            standard=Bounds(minimum_nano_usd=standard, wanted_nano_usd=standard),
        )
    )


def _dearest(ways: Iterable[UsageBounds], quote: Quote, rates: Rates) -> int:
    costs = []
    for bounds in ways:
        try:
            cost = usage_upper_bound(
                bounds, rates, quote.discount_ppm, unit_rates=quote.terms.unit_rates
            )
        except UnpricedUnits:
            continue
        costs.append(cost)
    if not costs:
        raise model_not_found(quote.terms.model)
    return max(costs)


def tokens_usage(
    *,
    text: int = 0,
    images: int = 0,
    sound: int = 0,
    written: int = 0,
    drawn: int = 0,
    said: int = 0,
) -> Usage:
    """An estimate in tokens: of text, images and sound in; and of the same out."""
    given = [min(count, MAX_TOKENS // 3) for count in (text, images, sound)]
    made = [min(count, MAX_TOKENS // 3) for count in (written, drawn, said)]
    return Usage(
        input_tokens=given[0],
        input_image_tokens=given[1],
        input_audio_tokens=given[2],
        prompt_tokens=sum(given),
        output_tokens=made[0],
        output_image_tokens=made[1],
        output_audio_tokens=made[2],
        completion_tokens=sum(made),
    )


def units_usage(counts: Mapping[str, int]) -> Usage:
    return Usage(counts=dict(counts))
