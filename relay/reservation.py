"""How much money a chat call sets aside, and how long its answer may be for that. Pure."""

import sys
from dataclasses import dataclass

from billing.catalog import Quote
from billing.engine.holds import Bounds, HoldRequest
from billing.pricing import (
    Rates,
    affordable_output_tokens,
    cost_upper_bound,
    output_bound_tokens,
    prompt_bound_tokens,
)
from relay.requests import ChatRequest
from relay.tokenizer import TOKENS_PER_OPAQUE_PART

# An answer that is cut shorter than this is of no use to anybody: then 429 is the better one.
MIN_OUTPUT_TOKENS = 256
# Few texts have more tokens than this; a growing hold is rather a little ahead than behind.
CHARACTERS_PER_TOKEN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPolicy:
    """The operator's settings."""

    standard_output_tokens: int
    unknown_max_output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a call may cost at most, and the terms that say so.

    Each of the `choices` is an answer of its own: its bound and its cap are per choice.
    """

    hold: HoldRequest
    rates: Rates
    prompt_bound: int
    output_bound: int
    predicted_bound: int  # Of a prediction, what does not come true is output, too.
    choices: int
    discount_ppm: int
    must_cap: bool  # The model's own limit is unknown, so only our cap bounds the answer.
    standard_output_tokens: int

    def output_cap(self, *, amount_nano_usd: int, strict: bool) -> int | None:
        """The cap on the output that the held money affords; None: the call needs none."""
        if not strict:
            return None
        if amount_nano_usd >= self.hold.strict.wanted_nano_usd:
            return self.output_bound if self.must_cap else None
        affordable = affordable_output_tokens(
            amount_nano_usd,
            rates=self.rates,
            prompt_tokens_bound=self.prompt_bound,
            choices=self.choices,
            discount_ppm=self.discount_ppm,
        )
        assert affordable is not None, "the hold's minimum covers the prompt"
        return min(affordable - self.predicted_bound, self.output_bound)

    # --- Standard holds grow with the output -----------------------------------------------------

    @property
    def step_characters(self) -> int:
        """By how much output at a time."""
        return self.standard_output_tokens * self.choices * CHARACTERS_PER_TOKEN

    @property
    def covered_characters(self) -> int:
        """How much output, in all choices together, a standard hold covers from the start."""
        covers_all = self.output_bound <= self.standard_output_tokens
        return sys.maxsize if covers_all else self.step_characters

    def output_cost(self, characters: int) -> int:
        """What so much output costs, never more than the most that the call can have."""
        tokens = min(-(-characters // CHARACTERS_PER_TOKEN), self.output_bound * self.choices)
        with_output, without = (
            cost_upper_bound(
                self.rates,
                prompt_tokens_bound=0,
                output_tokens_bound=output,
                choices=1,
                discount_ppm=self.discount_ppm,
            )
            for output in (tokens, 0)
        )
        return with_output - without


def reserve_chat(
    request: ChatRequest,
    quote: Quote,
    *,
    organization_id: int,
    policy: HoldPolicy,
    prompt_bound: int | None = None,
) -> Reservation:
    """On strict holds a true upper bound; on standard ones what such a call usually costs.

    `prompt_bound` is a bound on the prompt's tokens for those who know one below its bytes.
    """
    terms = quote.terms
    prompt_bytes = len(request.body) if prompt_bound is None else prompt_bound
    prompt_bound = prompt_bound_tokens(
        prompt_bytes,
        opaque_parts=request.opaque_parts > 0 or request.wants_audio,
        context_tokens=terms.context_tokens,
    )
    rates = terms.dearest_rates(request.service_tier, prompt_tokens_bound=prompt_bound)
    limit = terms.max_output_tokens or policy.unknown_max_output_tokens
    output_bound = output_bound_tokens(request.output_limit, max_output_tokens=limit)
    predicted_bound = request.predicted_bytes

    def bound(prompt_tokens: int, output_tokens: int) -> int:
        return cost_upper_bound(
            rates,
            prompt_tokens_bound=prompt_tokens,
            output_tokens_bound=output_tokens + predicted_bound,
            choices=request.n,
            discount_ppm=quote.discount_ppm,
        )

    usual_prompt = prompt_bytes + request.opaque_parts * TOKENS_PER_OPAQUE_PART
    usual = bound(min(prompt_bound, usual_prompt), min(output_bound, policy.standard_output_tokens))
    return Reservation(
        hold=HoldRequest(
            organization_id=organization_id,
            strict=Bounds(
                minimum_nano_usd=bound(prompt_bound, min(output_bound, MIN_OUTPUT_TOKENS)),
                wanted_nano_usd=bound(prompt_bound, output_bound),
            ),
            standard=Bounds(minimum_nano_usd=usual, wanted_nano_usd=usual),
        ),
        rates=rates,
        prompt_bound=prompt_bound,
        output_bound=output_bound,
        predicted_bound=predicted_bound,
        choices=request.n,
        discount_ppm=quote.discount_ppm,
        must_cap=terms.max_output_tokens is None
        and (request.output_limit is None or request.output_limit > limit),
        standard_output_tokens=policy.standard_output_tokens,
    )
