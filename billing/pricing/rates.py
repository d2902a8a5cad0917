"""What a unit costs: the rates of one tier, and all that one price row says about a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm
from typing import Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from billing.money import PICO_PER_NANO, PPM, InvalidMoney, parse_usd, rate_pico_usd
from billing.pricing.counts import UNKNOWN_PREFIX
from billing.pricing.usage import BUCKETS, INPUT_BUCKETS, MAX_TOKENS, OUTPUT_BUCKETS, Usage

PICO_PPM_PER_NANO = PICO_PER_NANO * PPM
DEFAULT_TIER = "default"
CALL_FEE = "usd_per_call"

# What upstream calls the same thing. "auto" is what its project is set to, which is the default
# tier unless the operator changed it there; a reply names the tier that was served in any case.
_TIER_ALIASES = {"auto": DEFAULT_TIER, "standard": DEFAULT_TIER, "fast": "priority"}

OutputCapField = Literal["max_completion_tokens", "max_tokens"]


class InvalidRates(ValueError):
    """The price data is not what we can compute with."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of `unit_size` units: tokens have size 1, audio is sold by 60,000 ms."""

    pico_usd: int
    unit_size: int = 1

    def __post_init__(self) -> None:
        if self.pico_usd < 0 or self.unit_size < 1:
            raise InvalidRates("A rate is not negative and its unit not empty.")

    def is_dearer_than(self, other: "Rate") -> bool:
        return self.pico_usd * other.unit_size > other.pico_usd * self.unit_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of one tier, one per billed bucket of Usage, none of them missing."""

    input_tokens: Rate
    cached_input_tokens: Rate
    cache_write_tokens: Rate
    input_audio_tokens: Rate
    cached_input_audio_tokens: Rate
    input_image_tokens: Rate
    cached_input_image_tokens: Rate
    output_tokens: Rate
    output_audio_tokens: Rate
    output_image_tokens: Rate
    # Search models search on every call and are paid for it, whatever the tokens.
    call_pico_usd: int = 0

    common_size: int = field(init=False, repr=False, compare=False)
    dearest_input: Rate = field(init=False, repr=False, compare=False)
    dearest_output: Rate = field(init=False, repr=False, compare=False)
    bound_factors: tuple[int, int, int, int] = field(init=False, repr=False, compare=False)
    """What the dearest token of a prompt, one of the output, and a call as such add to the bound of
    a call's cost, before it is multiplied by the discount in ppm and divided by the last of them.
    """

    def __post_init__(self) -> None:
        if self.call_pico_usd < 0:
            raise InvalidRates("A fee per call is not negative.")
        # Derived once, because every charge and every hold asks for them.
        object.__setattr__(self, "common_size", lcm(*(self.of(b).unit_size for b in BUCKETS)))
        object.__setattr__(self, "dearest_input", _dearest(*map(self.of, INPUT_BUCKETS)))
        object.__setattr__(self, "dearest_output", _dearest(*map(self.of, OUTPUT_BUCKETS)))
        dear_in, dear_out = self.dearest_input, self.dearest_output
        size = dear_in.unit_size * dear_out.unit_size
        factors = (
            dear_in.pico_usd * dear_out.unit_size,
            dear_out.pico_usd * dear_in.unit_size,
            self.call_pico_usd * size,
            PICO_PPM_PER_NANO * size,
        )
        object.__setattr__(self, "bound_factors", factors)

    def of(self, bucket: str) -> Rate:
        rate: Rate = getattr(self, bucket)
        return rate

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Build from USD per 1M tokens by bucket, as decimal strings.

        A rate that is missing falls back to what the tokens would cost as a plainer kind, never to
        nothing: cached to uncached, a cache write to input, audio and image to text. A model
        without an audio rate of its own takes the cached text rate for cached audio, too.
        """
        if not isinstance(data, Mapping):
            raise InvalidRates("Rates are an object.")
        unknown = data.keys() - {*BUCKETS, CALL_FEE}
        if unknown:
            raise InvalidRates(f"Unknown rates: {', '.join(sorted(unknown))}.")
        given = {name: _rate(name, data[name]) for name in BUCKETS if name in data}
        if "input_tokens" not in given or "output_tokens" not in given:
            raise InvalidRates("Rates need input_tokens and output_tokens.")
        rates = {"cached_input_tokens": given["input_tokens"]} | given
        rates.setdefault("cache_write_tokens", rates["input_tokens"])
        for kind in ("audio", "image"):
            fresh, cached = f"input_{kind}_tokens", f"cached_input_{kind}_tokens"
            rates.setdefault(cached, rates.get(fresh, rates["cached_input_tokens"]))
            rates.setdefault(fresh, rates["input_tokens"])
            rates.setdefault(f"output_{kind}_tokens", rates["output_tokens"])
        return cls(**rates, call_pico_usd=_call_fee(data.get(CALL_FEE, "0")))

    def dearer(self, other: Self) -> Self:
        """For each bucket the higher of the two rates."""
        dearest = {bucket: _dearest(self.of(bucket), other.of(bucket)) for bucket in BUCKETS}
        fee = max(self.call_pico_usd, other.call_pico_usd)
        return type(self)(**dearest, call_pico_usd=fee)


class ServedRates(Struct, frozen=True):
    """The rates that a reply is billed at; `is_priced` is False where they had to stand in."""

    rates: Rates
    tier: str
    is_priced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContext:
    """The rates of calls whose whole prompt, cached tokens included, is longer than a threshold."""

    above_tokens: int
    tiers: Mapping[str, Rates]

    @classmethod
    def from_data(cls, data: object) -> Self | None:
        if data is None:
            return None
        if not isinstance(data, Mapping) or data.keys() != {"above_tokens", "tiers"}:
            raise InvalidRates("long_context needs above_tokens and tiers, and nothing else.")
        if type(data["above_tokens"]) is not int or data["above_tokens"] < 1:
            raise InvalidRates("above_tokens is a positive number of tokens.")
        tiers = tiers_from_data(data["tiers"])
        if not tiers:
            raise InvalidRates("long_context has no tiers.")
        return cls(above_tokens=data["above_tokens"], tiers=tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTerms:
    """One price row as a call sees it, frozen when the call is admitted.

    A model without tiers is not sold by tokens. `unit_rates` are the same in all tiers.
    """

    price_id: int
    model: str
    tiers: Mapping[str, Rates]
    unit_rates: Mapping[str, Rate] = field(default_factory=dict)
    long_context: LongContext | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    output_cap_field: OutputCapField = "max_completion_tokens"

    _served: Mapping[str, ServedRates] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        served = {
            tier: ServedRates(rates, tier, is_priced=True) for tier, rates in self.tiers.items()
        }
        object.__setattr__(self, "_served", served)  # Every charge asks for one of them.
        if not self.tiers and self.unit_rates and self.long_context is None:
            return
        long_tiers = self.tiers if self.long_context is None else self.long_context.tiers
        if DEFAULT_TIER not in self.tiers or DEFAULT_TIER not in long_tiers:
            raise InvalidRates(f"{self.model} has no default tier.")

    def prices_tier(self, service_tier: str | None) -> bool:
        """Whether the tier has rates of its own; a request for another should be refused."""
        return _tier_name(service_tier) in self.tiers

    @property
    def prices_tokens(self) -> bool:
        """Whether tokens have a price at all; no tier has one otherwise."""
        return bool(self.tiers)

    def prices_unit(self, name: str) -> bool:
        """Whether the unit has a price; a request that may use another should be refused."""
        return name in self.unit_rates

    def unpriced_units(self, usage: Usage) -> tuple[str, ...]:
        """What of the usage has no price; a meter that knows it otherwise can take that."""
        tokens = ("tokens",) if usage.total_tokens and not self.tiers else ()
        return (*tokens, *unpriced_counts(usage.counts, self.unit_rates))

    def rates_for(self, service_tier: str | None, prompt_tokens: int) -> ServedRates:
        """The rates for the tier that the reply says it was served in.

        A tier without a price is billed as the default one and reported: it cost upstream's owner
        something, but nobody told us what. A long prompt in a tier that is not sold for long
        prompts gets the higher of that tier's and the long default's rates, and is reported too.
        """
        if not self.tiers:
            # Units cost the same in all tiers; tokens without a price are the charge's to report.
            return ServedRates(NO_TOKEN_RATES, DEFAULT_TIER, is_priced=True)
        tier = _tier_name(service_tier)
        is_priced = tier in self.tiers
        if not is_priced:
            tier = DEFAULT_TIER
        if self.long_context is None or prompt_tokens <= self.long_context.above_tokens:
            served = self._served[tier]
            return served if is_priced else replace(served, is_priced=False)
        long_rates = self.long_context.tiers.get(tier)
        if long_rates is not None:
            return ServedRates(long_rates, tier, is_priced)
        stand_in = self.tiers[tier].dearer(self.long_context.tiers[DEFAULT_TIER])
        return ServedRates(stand_in, tier, is_priced=False)

    def dearest_rates(
        self, requested_tier: str | None, *, prompt_tokens_bound: int | None = None
    ) -> Rates:
        """The most that each bucket can cost, for a hold.

        Upstream may serve a request for another tier as default. Without a bound on the prompt it
        is taken to be long.
        """
        dearest = self.tiers.get(DEFAULT_TIER, NO_TOKEN_RATES)
        if self.long_context is None and _tier_name(requested_tier) == DEFAULT_TIER:
            return dearest
        if prompt_tokens_bound is None:
            prompt_tokens_bound = MAX_TOKENS
        for prompt_tokens in (0, prompt_tokens_bound):
            for tier in (DEFAULT_TIER, requested_tier):
                rates = self.rates_for(tier, prompt_tokens).rates
                if rates is not dearest:
                    dearest = dearest.dearer(rates)
        return dearest

    def breaks_limits(self, usage: Usage, prompts: int = 1, choices: int = 1) -> bool:
        """Whether so much cannot come from this model, where the price book knows its limits.

        They hold for each of the call's prompts, and for each of its choices.
        """
        context, most = self.context_tokens, self.max_output_tokens
        return (context is not None and usage.prompt_tokens > context * prompts) or (
            most is not None and usage.completion_tokens > most * choices
        )


def tiers_from_data(data: object) -> dict[str, Rates]:
    """Build the rates of every tier, one of them the default; of none, if tokens are not sold."""
    if not isinstance(data, Mapping):
        raise InvalidRates("Tiers are an object.")
    tiers = {name: Rates.from_data(rates) for name, rates in data.items()}
    if tiers and DEFAULT_TIER not in tiers:
        raise InvalidRates("The default tier is missing.")
    return tiers


def unpriced_counts(counts: Mapping[str, int], unit_rates: Mapping[str, Rate]) -> tuple[str, ...]:
    """The units without a rate, except for those that are kept because nobody knows them."""
    return tuple(
        name for name in counts if name not in unit_rates and not name.startswith(UNKNOWN_PREFIX)
    )


def _tier_name(service_tier: str | None) -> str:
    if not service_tier:
        return DEFAULT_TIER
    return _TIER_ALIASES.get(service_tier, service_tier)


def _dearest(*rates: Rate) -> Rate:
    dearest = rates[0]
    for rate in rates[1:]:
        if rate.is_dearer_than(dearest):
            dearest = rate
    return dearest


def _rate(name: str, value: object) -> Rate:
    """Read a rate: numbers come as strings, since a JSON number would be a float by now."""
    if not isinstance(value, str):
        raise InvalidRates(f"{name} is no decimal string.")
    try:
        return Rate(rate_pico_usd(value))
    except InvalidMoney as error:
        raise InvalidRates(f"{name}: {error}") from error


def _call_fee(usd_per_call: object) -> int:
    if not isinstance(usd_per_call, str):
        raise InvalidRates(f"{CALL_FEE} is no decimal string.")
    try:
        fee_nano_usd = parse_usd(usd_per_call)
    except InvalidMoney as error:
        raise InvalidRates(f"{CALL_FEE}: {error}") from error
    return fee_nano_usd * PICO_PER_NANO


# Of a model that is not sold by tokens: whatever tokens it reports have no price.
NO_TOKEN_RATES = Rates(**{bucket: Rate(0) for bucket in BUCKETS}, call_pico_usd=0)
