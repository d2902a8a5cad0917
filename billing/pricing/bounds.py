"""What a call can cost at most, before it is made: the arithmetic of holds."""

from billing.money import BIGINT_MAX
from billing.pricing.charges import PICO_PPM_PER_NANO, ChargeTooLarge
from billing.pricing.rates import Rates
from billing.pricing.usage import MAX_TOKENS

# Beyond every model that is sold, for the few whose limits nobody publishes.
UNKNOWN_CONTEXT_TOKENS = 2_000_000
UNKNOWN_OUTPUT_TOKENS = 272_000


def prompt_bound_tokens(body_bytes: int, *, opaque_parts: bool, context_tokens: int | None) -> int:
    """The most tokens that a request's prompt can have.

    No token is shorter than a byte of UTF-8, and what upstream adds around a message is less than
    the JSON around it. Images, audio and file ids hide their size: they can fill the context.
    """
    context = UNKNOWN_CONTEXT_TOKENS if context_tokens is None else context_tokens
    return context if opaque_parts else min(body_bytes, context)


def output_bound_tokens(requested_tokens: int | None, *, max_output_tokens: int | None) -> int:
    """The most tokens that one choice can have: the client's cap within the model's limit."""
    limit = UNKNOWN_OUTPUT_TOKENS if max_output_tokens is None else max_output_tokens
    return limit if requested_tokens is None else min(requested_tokens, limit)


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
    dear_in, dear_out = rates.dearest_input, rates.dearest_output
    size = dear_in.unit_size * dear_out.unit_size
    cost = (
        prompt_tokens_bound * dear_in.pico_usd * dear_out.unit_size
        + output_tokens_bound * choices * dear_out.pico_usd * dear_in.unit_size
        + rates.call_pico_usd * size
    )
    bound = -(-cost * discount_ppm // (PICO_PPM_PER_NANO * size))
    if bound > BIGINT_MAX:
        raise ChargeTooLarge(f"{bound} nano-USD")
    return bound


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
