"""What a recorded call would have cost on other terms. Pure.

A call is re-rated only if its own terms give the very charge that was recorded: else we do not know
how it came about, and a person has to look at it.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from billing.pricing import BUCKETS, AbsurdUsage, Charge, ChargeTooLarge, PriceTerms, Usage, charge


class RecordedCall(NamedTuple):
    """The columns of a usage record that its charge depends on."""

    request_id: UUID
    organization_id: int
    model: str
    price_id: int
    discount_ppm: int
    service_tier: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    units: Mapping[str, int]
    official_cost_nano_usd: int
    charge_nano_usd: int


class Standing(NamedTuple):
    """What a call stands at: its charge with all later re-ratings, and how much was refunded."""

    charge_nano_usd: int
    refunded_nano_usd: int = 0


def rated_charge(
    call: RecordedCall, *, before: PriceTerms, after: PriceTerms, discount_ppm: int
) -> int | None:
    """The charge on the terms `after`; None where it cannot be told."""
    try:
        usage = _usage(call)
        was = _charge(usage, before, call, call.discount_ppm)
        is_now = _charge(usage, after, call, discount_ppm)
    except (AbsurdUsage, ChargeTooLarge):
        return None
    if was.official_cost_nano_usd != call.official_cost_nano_usd:
        return None
    if set(is_now.unpriced_units) - set(was.unpriced_units):
        return None
    if was.charge_nano_usd == call.charge_nano_usd:
        return is_now.charge_nano_usd
    if was.charge_nano_usd > call.charge_nano_usd:
        # On strict holds it was charged its hold and no more; that stays its bound.
        return min(is_now.charge_nano_usd, call.charge_nano_usd)
    return None


def difference(rated_nano_usd: int, standing: Standing) -> int:
    """By how much the charge changes. What was refunded is never given back a second time.

    Nor does a call become dearer of which something was refunded: its price was a matter between
    people.
    """
    if standing.refunded_nano_usd and rated_nano_usd > standing.charge_nano_usd:
        return 0
    return max(rated_nano_usd, standing.refunded_nano_usd) - standing.charge_nano_usd


def _charge(usage: Usage, terms: PriceTerms, call: RecordedCall, discount_ppm: int) -> Charge:
    served = terms.rates_for(call.service_tier, usage.prompt_tokens)
    return charge(usage, served.rates, discount_ppm, unit_rates=terms.unit_rates)


def _usage(call: RecordedCall) -> Usage:
    buckets = {name: count for name, count in call.units.items() if name in BUCKETS}
    counts = {name: count for name, count in call.units.items() if name not in BUCKETS}
    return Usage(
        **buckets,
        prompt_tokens=call.prompt_tokens,
        cached_tokens=call.cached_tokens,
        completion_tokens=call.completion_tokens,
        reasoning_tokens=call.reasoning_tokens,
        counts=counts,
    )
