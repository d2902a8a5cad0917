"""What a call costs: by what upstream reported or, failing that, by what was delivered. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from billing.catalog import Quote
from billing.money import PPM
from billing.pricing import (
    MAX_TOKENS,
    AbsurdUsage,
    ChargeTooLarge,
    Usage,
    charge,
    unknown_usage_keys,
    usage_from_openai,
)
from relay.requests import ChatRequest
from relay.tokenizer import estimate_prompt_tokens, estimate_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an answer said of itself, and what of it came."""

    usage: object  # As upstream reported it, unchecked; None if it did not.
    served_tier: str | None
    output_text: Callable[[], str]  # Asked only where the usage is missing or of no use.
    output_seen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A call's usage and money. Nothing used costs nothing."""

    usage: Usage = field(default_factory=Usage)
    usage_source: str = "none"
    service_tier: str = ""
    official_cost_nano_usd: int = 0
    cost_nano_usd: int = 0
    upstream_cost_nano_usd: int = 0
    flags: tuple[str, ...] = ()


def price_chat(reading: Reading, request: ChatRequest, quote: Quote, *, cost_ppm: int) -> Price:
    """Price the call by the tier that was served. `cost_ppm` is what the operator pays of it."""
    usage, flags = _reported(reading, request, quote)
    source = "upstream"
    if usage is None:
        output = reading.output_text()
        if not output and not reading.output_seen:
            return Price(flags=flags)
        usage, source = _estimated(output, request), "estimated"
    served = quote.terms.rates_for(reading.served_tier, usage.prompt_tokens)
    if not served.is_priced:
        flags = (*flags, "unpriced_tier")
    try:
        charged = charge(usage, served.rates, quote.discount_ppm)
    except ChargeTooLarge:
        # No price and no usage that we accept come near it; a broken price row must not be free.
        return Price(usage=usage, usage_source=source, flags=(*flags, "charge_too_large"))
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


def _reported(
    reading: Reading, request: ChatRequest, quote: Quote
) -> tuple[Usage | None, tuple[str, ...]]:
    """Upstream's own figures, unless they cannot be true."""
    raw = reading.usage
    if raw is None:
        return None, ()
    if not isinstance(raw, Mapping):
        return None, ("absurd_usage",)
    try:
        usage = usage_from_openai(raw)
    except AbsurdUsage:
        return None, ("absurd_usage",)
    if quote.terms.limit_breach(usage, choices=request.n) is not None:
        return None, ("absurd_usage",)
    return usage, ("unknown_usage_keys",) if unknown_usage_keys(raw) else ()


def _estimated(output: str, request: ChatRequest) -> Usage:
    prompt = min(estimate_prompt_tokens(request.model, request.body), MAX_TOKENS)
    completion = min(estimate_tokens(request.model, output), MAX_TOKENS)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )
