"""What a call costs: by what upstream reported or, failing that, by what was delivered. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from billing.money import PPM
from billing.prices.catalog import Quote
from billing.pricing import (
    MAX_TOKENS,
    AbsurdUsage,
    ChargeTooLarge,
    PriceTerms,
    Usage,
    charge,
    plain_usage,
    unknown_usage_counts,
    unknown_usage_keys,
    usage_from_openai,
    with_counts,
)


class Reading(Protocol):
    """What an answer said of itself, and what of it came: a stream's meter, or a whole answer."""

    @property
    def usage(self) -> object:
        """As upstream reported it, unchecked; None if it did not."""
        ...

    @property
    def served_tier(self) -> str | None: ...
    @property
    def upstream_id(self) -> str | None: ...
    def output_text(self) -> str:
        """All that the model wrote, for an estimate; asked only where the usage is of no use."""
        ...


class Measure(Struct, frozen=True, gc=False):
    """What a call used, and how that is known."""

    usage: Usage | None = None
    """None: nothing that could be charged."""
    source: str = "none"
    flags: tuple[str, ...] = ()


class Price(Struct, frozen=True, kw_only=True):
    """A call's usage and money. Nothing used costs nothing."""

    usage: Usage = Usage()
    usage_source: str = "none"
    service_tier: str = ""
    official_cost_nano_usd: int = 0
    cost_nano_usd: int = 0
    upstream_cost_nano_usd: int = 0
    flags: tuple[str, ...] = ()


NOTHING = Price()
_ABSURD = ("absurd_usage",)


def price(measure: Measure, quote: Quote, *, served_tier: str | None, cost_ppm: int) -> Price:
    """Price the call by the tier that was served. `cost_ppm` is what the operator pays of it."""
    usage, source, flags = measure.usage, measure.source, measure.flags
    if usage is None:
        return Price(flags=flags)
    served = quote.terms.rates_for(served_tier, usage.prompt_tokens)
    if not served.is_priced:
        flags = (*flags, "unpriced_tier")
    try:
        charged = charge(usage, served.rates, quote.discount_ppm, unit_rates=quote.terms.unit_rates)
    except ChargeTooLarge:
        # No price and no usage that we accept come near it; a broken price row must not be free.
        return Price(usage=usage, usage_source=source, flags=(*flags, "charge_too_large"))
    if charged.unpriced_units:
        flags = (*flags, "unpriced_units")
    official = charged.official_cost_nano_usd
    return Price(
        usage=usage,
        usage_source=source,
        service_tier=served.tier,
        official_cost_nano_usd=official,
        cost_nano_usd=charged.charge_nano_usd,
        upstream_cost_nano_usd=-(-official * cost_ppm // PPM),
        flags=flags,
    )


def measure_tokens(
    reading: Reading,
    terms: PriceTerms,
    *,
    read: Callable[[Mapping[str, Any]], Usage],
    estimate: Callable[[str], Usage],
    shape: tuple[int, int] = (1, 1),
    produced: bool,
) -> Measure:
    """Upstream's own figures, unless they cannot be true; else an estimate of what was delivered.

    `shape` is how many prompts and choices the call has: the model's limits hold for each.
    """
    usage, flags = reported_usage(reading.usage, terms, read=read, shape=shape)
    if usage is not None:
        return Measure(usage, "upstream", flags)
    output = reading.output_text()
    if not output and not produced:
        return Measure(flags=flags)
    return Measure(estimate(output), "estimated", flags)


def reported_usage(
    raw: object,
    terms: PriceTerms,
    *,
    read: Callable[[Mapping[str, Any]], Usage],
    shape: tuple[int, int] = (1, 1),
) -> tuple[Usage | None, tuple[str, ...]]:
    """What upstream reported, if it can be true, and flags of what was odd about it."""
    if raw is None:
        return None, ()
    if read is usage_from_openai:
        plain = plain_usage(raw)
        if plain is not None:
            return (None, _ABSURD) if terms.breaks_limits(plain, *shape) else (plain, ())
    if type(raw) is not dict and not isinstance(raw, Mapping):
        return None, _ABSURD
    try:
        usage = read(raw)
    except AbsurdUsage:
        return None, _ABSURD
    if terms.breaks_limits(usage, *shape):
        return None, _ABSURD
    if unknown_usage_keys(raw):
        return with_counts(usage, unknown_usage_counts(raw)), ("unknown_usage_keys",)
    return usage, ()


def text_usage(prompt_tokens: int, completion_tokens: int = 0) -> Usage:
    """An estimate: plain text both ways."""
    prompt, completion = min(prompt_tokens, MAX_TOKENS), min(completion_tokens, MAX_TOKENS)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )
