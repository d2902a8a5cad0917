"""The one place where usage becomes money, and the only rounding on the way."""

from collections.abc import Mapping
from math import lcm
from types import MappingProxyType

from msgspec import Struct

from billing.money import BIGINT_MAX, MAX_DISCOUNT_PPM, PICO_PER_NANO, InvalidMoney
from billing.pricing.counts import NO_COUNTS
from billing.pricing.rates import NO_TOKEN_RATES, PICO_PPM_PER_NANO, Rate, Rates, unpriced_counts
from billing.pricing.usage import BUCKETS, Usage

NO_UNIT_RATES: Mapping[str, Rate] = MappingProxyType({})


class ChargeTooLarge(ValueError):
    """The cost does not fit the ledger's integers; nothing that upstream sells costs so much."""


class Charge(Struct, frozen=True, gc=False):
    official_cost_nano_usd: int
    charge_nano_usd: int
    unpriced_units: tuple[str, ...] = ()  # What was used, has no price, and is not in the amounts.


def charge(
    usage: Usage,
    rates: Rates,
    discount_ppm: int,
    *,
    unit_rates: Mapping[str, Rate] = NO_UNIT_RATES,
) -> Charge:
    """Price the usage, each amount rounded up once to a whole nano-USD."""
    if not 0 < discount_ppm <= MAX_DISCOUNT_PPM:
        raise InvalidMoney("A discount is a fraction to pay, above 0 and at most 100.")
    cost, size = _cost_pico_usd(usage, rates)
    unpriced: tuple[str, ...] = ()
    if usage.counts is not NO_COUNTS:
        cost, size = with_counts_cost(usage.counts, unit_rates, cost, size)
        unpriced = unpriced_counts(usage.counts, unit_rates)
    if rates is NO_TOKEN_RATES and usage.total_tokens:
        unpriced = ("tokens", *unpriced)
    # -(-a // b) is a / b rounded up.
    official = -(-cost // (PICO_PER_NANO * size))
    charged = -(-cost * discount_ppm // (PICO_PPM_PER_NANO * size))
    if official > BIGINT_MAX or charged > BIGINT_MAX:
        raise ChargeTooLarge(f"{official} nano-USD")
    return Charge(official, charged, unpriced)


def _cost_pico_usd(usage: Usage, rates: Rates) -> tuple[int, int]:
    """The exact cost as a numerator and a denominator."""
    size = rates.common_size
    text = usage.input_tokens + usage.cached_input_tokens + usage.cache_write_tokens
    if size == 1 and text == usage.prompt_tokens and usage.output_tokens == usage.completion_tokens:
        # Nearly every call: no other bucket holds anything, so do not look at them.
        return (
            usage.input_tokens * rates.input_tokens.pico_usd
            + usage.cached_input_tokens * rates.cached_input_tokens.pico_usd
            + usage.cache_write_tokens * rates.cache_write_tokens.pico_usd
            + usage.output_tokens * rates.output_tokens.pico_usd
            + rates.call_pico_usd
        ), 1
    cost = rates.call_pico_usd * size
    for bucket in BUCKETS:
        rate = rates.of(bucket)
        cost += getattr(usage, bucket) * rate.pico_usd * (size // rate.unit_size)
    return cost, size


def with_counts_cost(
    counts: Mapping[str, int], unit_rates: Mapping[str, Rate], cost: int, size: int
) -> tuple[int, int]:
    """The exact cost of tokens and units together."""
    for name, count in counts.items():
        rate = unit_rates.get(name)
        if rate is not None:
            common = lcm(size, rate.unit_size)
            cost = cost * (common // size) + count * rate.pico_usd * (common // rate.unit_size)
            size = common
    return cost, size
