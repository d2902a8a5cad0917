"""How much money a call sets aside, and how long its answer may be for that. Pure."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from billing.engine.holds import Bounds, HoldRequest
from billing.prices.catalog import Quote
from billing.pricing import (
    NO_COUNTS,
    NO_TOKEN_RATES,
    Rates,
    Usage,
    affordable_output_tokens,
    charge,
    cost_upper_bounds,
    output_bound_tokens,
    prompt_bound_tokens,
)
from relay.bodies.chat_requests import ChatRequest
from relay.errors import model_not_found
from relay.metering.tokenizer import TOKENS_PER_OPAQUE_PART

# An answer that is cut shorter than this is of no use to anybody: then 429 is the better one.
MIN_OUTPUT_TOKENS = 256
# Few texts have more tokens than this; a growing hold is rather a little ahead than behind.
CHARACTERS_PER_TOKEN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPolicy:
    """The operator's settings."""

    standard_output_tokens: int
    unknown_max_output_tokens: int


class Needs(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a call decides how many tokens it can cost."""

    prompt_bytes: int
    """No prompt has more tokens than this, as far as the request shows it."""
    is_opaque: bool = False
    """There is more in the prompt than the request shows: it may fill the model's context."""
    usual_prompt: int
    """How many tokens such a prompt usually has, for standard holds."""
    prompts: int = 1
    """Each of them may fill the context."""
    has_output: bool = True
    output_limit: int | None = None
    choices: int = 1
    predicted_bytes: int = 0
    service_tier: str | None = None
    can_cap: bool = True
    """The endpoint takes a limit of the output, so less than the whole bound is of use."""
    fees: Mapping[str, int] = NO_COUNTS
    """How many of which other units the call may use at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatReservation:
    """An amount that does not depend on how long the answer gets."""

    hold: HoldRequest

    covered_characters = sys.maxsize
    step_characters = 0
    usual_tokens = 0  # What it uses is known when it has ended.

    def output_cap(self, *, amount_nano_usd: int, strict: bool) -> int | None:  # noqa: ARG002  Other reservations need them.
        return None

    def output_cost(self, characters: int) -> int:  # noqa: ARG002  Other reservations need it.
        return 0


def reserve_flat(organization_id: int, amount_nano_usd: int = 0) -> FlatReservation:
    """The same for every policy: a price that is known before the call, or none."""
    bounds = Bounds(minimum_nano_usd=amount_nano_usd, wanted_nano_usd=amount_nano_usd)
    hold = HoldRequest(organization_id=organization_id, strict=bounds, standard=bounds)
    return FlatReservation(hold=hold)


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
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
    fees_nano_usd: int  # For what is paid beside the tokens.
    must_cap: bool  # The model's own limit is unknown, so only our cap bounds the answer.
    standard_output_tokens: int
    usual_prompt: int

    @property
    def usual_tokens(self) -> int:
        """As a standard hold has it."""
        output = min(self.output_bound, self.standard_output_tokens)
        return min(self.prompt_bound, self.usual_prompt) + output * self.choices

    def output_cap(self, *, amount_nano_usd: int, strict: bool) -> int | None:
        """The cap on the output that the held money affords; None: the call needs none."""
        if not strict:
            return None
        if amount_nano_usd >= self.hold.strict.wanted_nano_usd:
            return self.output_bound if self.must_cap else None
        affordable = affordable_output_tokens(
            amount_nano_usd - self.fees_nano_usd,
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
        with_output, without = cost_upper_bounds(
            self.rates, [(0, tokens), (0, 0)], discount_ppm=self.discount_ppm
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
    """`prompt_bound` is a bound on the prompt's tokens for those who know one below its bytes."""
    prompt_bytes = len(request.body) if prompt_bound is None else prompt_bound
    needs = Needs(
        prompt_bytes=prompt_bytes,
        is_opaque=request.opaque_parts > 0 or request.wants_audio,
        usual_prompt=prompt_bytes + request.opaque_parts * TOKENS_PER_OPAQUE_PART,
        output_limit=request.output_limit,
        choices=request.n,
        predicted_bytes=request.predicted_bytes,
        service_tier=request.service_tier,
    )
    return reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)


def reserve_tokens(
    needs: Needs, quote: Quote, *, organization_id: int, policy: HoldPolicy
) -> Reservation:
    """On strict holds a true upper bound; on standard ones what such a call usually costs.

    Raises RelayError for a model that is not sold by tokens: there it does not exist.
    """
    terms = quote.terms
    if not terms.prices_tokens:
        raise model_not_found(terms.model)
    fees = _fees_nano_usd(needs.fees, quote) if needs.fees is not NO_COUNTS else 0
    context = terms.context_tokens
    if context is not None:
        context *= needs.prompts
    prompt_bound = prompt_bound_tokens(
        needs.prompt_bytes, opaque_parts=needs.is_opaque, context_tokens=context
    )
    rates = terms.dearest_rates(needs.service_tier, prompt_tokens_bound=prompt_bound)
    limit, output_bound = 0, 0
    if needs.has_output:
        limit = terms.max_output_tokens or policy.unknown_max_output_tokens
        output_bound = output_bound_tokens(needs.output_limit, max_output_tokens=limit)

    least = usual_output = output_bound
    if needs.can_cap and least > MIN_OUTPUT_TOKENS:
        least = MIN_OUTPUT_TOKENS
    usual_output = min(usual_output, policy.standard_output_tokens)
    usual_prompt = min(prompt_bound, needs.usual_prompt)
    choices, predicted = needs.choices, needs.predicted_bytes
    usual, minimum, wanted = cost_upper_bounds(
        rates,
        (
            (usual_prompt, (usual_output + predicted) * choices),
            (prompt_bound, (least + predicted) * choices),
            (prompt_bound, (output_bound + predicted) * choices),
        ),
        discount_ppm=quote.discount_ppm,
    )
    standard = Bounds(minimum_nano_usd=usual + fees, wanted_nano_usd=usual + fees)
    return Reservation(
        hold=HoldRequest(
            organization_id=organization_id,
            strict=Bounds(minimum_nano_usd=minimum + fees, wanted_nano_usd=wanted + fees),
            standard=standard,
        ),
        rates=rates,
        prompt_bound=prompt_bound,
        output_bound=output_bound,
        predicted_bound=needs.predicted_bytes,
        choices=needs.choices,
        discount_ppm=quote.discount_ppm,
        fees_nano_usd=fees,
        must_cap=needs.has_output
        and needs.can_cap
        and terms.max_output_tokens is None
        and (needs.output_limit is None or needs.output_limit > limit),
        standard_output_tokens=policy.standard_output_tokens,
        usual_prompt=needs.usual_prompt,
    )


def _fees_nano_usd(fees: Mapping[str, int], quote: Quote) -> int:
    if not fees:
        return 0
    rates, usage = quote.terms.unit_rates, Usage(counts=fees)
    return charge(usage, NO_TOKEN_RATES, quote.discount_ppm, unit_rates=rates).charge_nano_usd
