"""What a call can cost at most, before it is made: the arithmetic of holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from billing.money import BIGINT_MAX
from billing.pricing.charges import (
    NO_UNIT_RATES,
    ChargeTooLarge,
    with_counts_cost,
)
from billing.pricing.counts import NO_COUNTS
from billing.pricing.rates import NO_TOKEN_RATES, PICO_PPM_PER_NANO, Rate, Rates, unpriced_counts
from billing.pricing.usage import MAX_TOKENS

# Beyond every model that is sold, for the few whose limits nobody publishes.
UNKNOWN_CONTEXT_TOKENS = 2_000_000
UNKNOWN_OUTPUT_TOKENS = 272_000


class UnpricedUnits(ValueError):
    """What has no price has no bound either: such a request is refused, not sent."""

    def __init__(self, units: tuple[str, ...]) -> None:
        super().__init__(f"No price for {', '.join(units)}.")
        self.units = units


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageBounds:
    """The most that a call can use. The prompt is used once, the output once per choice."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    choices: int = 1
    counts: Mapping[str, int] = NO_COUNTS


def prompt_bound_tokens(body_bytes: int, *, opaque_parts: bool, context_tokens: int | None) -> int:
    """The most tokens that a request's prompt can have.

    No token is shorter than a byte of UTF-8, and what upstream adds around a message is less than
    the JSON around it. Images, audio and file ids hide their size: they can fill the context.
    """
    context = UNKNOWN_CONTEXT_TOKENS if context_tokens is None else context_tokens
    return context if opaque_parts or body_bytes > context else body_bytes


def output_bound_tokens(requested_tokens: int | None, *, max_output_tokens: int | None) -> int:
    """The most tokens that one choice can have: the client's cap within the model's limit."""
    limit = UNKNOWN_OUTPUT_TOKENS if max_output_tokens is None else max_output_tokens
    return limit if requested_tokens is None or requested_tokens > limit else requested_tokens


def cost_upper_bound(
    rates: Rates,
    *,
    prompt_tokens_bound: int,
    output_tokens_bound: int,
    choices: int,
    discount_ppm: int,
) -> int:
    """The most nano-USD that a call within these bounds is charged.

    Every token is taken to be of the dearest kind. The prompt is paid once, the output per choice.
    """
    tokens = (prompt_tokens_bound, output_tokens_bound * choices)
    return cost_upper_bounds(rates, [tokens], discount_ppm=discount_ppm)[0]


def cost_upper_bounds(
    rates: Rates, tokens: Iterable[tuple[int, int]], *, discount_ppm: int
) -> list[int]:
    """The same for several pairs of prompt and output, all choices of it together."""
    per_prompt, per_output, fixed, scale = rates.bound_factors
    bounds = [
        -(-(prompt * per_prompt + output * per_output + fixed) * discount_ppm // scale)
        for prompt, output in tokens
    ]
    for bound in bounds:
        if bound > BIGINT_MAX:
            raise ChargeTooLarge(f"{bound} nano-USD")
    return bounds


def usage_upper_bound(
    bounds: UsageBounds,
    rates: Rates,
    discount_ppm: int,
    *,
    unit_rates: Mapping[str, Rate] = NO_UNIT_RATES,
) -> int:
    """The most nano-USD that a call within these bounds is charged, units included.

    Raises UnpricedUnits where one of them has no price.
    """
    output_tokens = bounds.output_tokens * bounds.choices
    unpriced = unpriced_counts(bounds.counts, unit_rates)
    if rates is NO_TOKEN_RATES and bounds.prompt_tokens + output_tokens:
        unpriced = ("tokens", *unpriced)
    if unpriced:
        raise UnpricedUnits(unpriced)
    per_prompt, per_output, cost, scale = rates.bound_factors
    cost += bounds.prompt_tokens * per_prompt + output_tokens * per_output
    size = scale // PICO_PPM_PER_NANO
    cost, size = with_counts_cost(bounds.counts, unit_rates, cost, size)
    return _rounded_up(cost, size, discount_ppm)


def dearest_unit(names: Iterable[str], unit_rates: Mapping[str, Rate]) -> str | None:
    """The unit that costs most; None if one of them has no price, or there is none.

    So many calls of several tools cost at most that many of the dearest.
    """
    found: str | None = None
    for name in names:
        if name not in unit_rates:
            return None
        if found is None or unit_rates[name].is_dearer_than(unit_rates[found]):
            found = name
    return found


def affordable_output_tokens(
    budget_nano_usd: int,
    *,
    rates: Rates,
    prompt_tokens_bound: int,
    choices: int,
    discount_ppm: int,
) -> int | None:
    """The largest output cap, at most MAX_TOKENS, whose cost_upper_bound fits the budget.

    None if not even the prompt does: a cap of 0 would say that it is paid.
    """
    dear_in, dear_out = rates.dearest_input, rates.dearest_output
    size = dear_in.unit_size * dear_out.unit_size
    # In pico-USD x ppm x size nothing has to be rounded before the last division.
    before_output = (
        prompt_tokens_bound * dear_in.pico_usd * dear_out.unit_size + rates.call_pico_usd * size
    ) * discount_ppm
    left = budget_nano_usd * PICO_PPM_PER_NANO * size - before_output
    if left < 0:
        return None
    per_token = choices * dear_out.pico_usd * dear_in.unit_size * discount_ppm
    return min(left // per_token, MAX_TOKENS) if per_token else MAX_TOKENS


def _rounded_up(cost: int, size: int, discount_ppm: int) -> int:
    bound = -(-cost * discount_ppm // (PICO_PPM_PER_NANO * size))
    if bound > BIGINT_MAX:
        raise ChargeTooLarge(f"{bound} nano-USD")
    return bound
