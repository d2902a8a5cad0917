"""Holds: what is set aside bounds what can be charged, and the cap is its inverse."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.prices.catalog import Quote
from billing.pricing import (
    INPUT_BUCKETS,
    OUTPUT_BUCKETS,
    LongContext,
    PriceTerms,
    Rates,
    Usage,
    charge,
    cost_upper_bound,
)
from relay.bodies.chat_requests import ChatRequest, parse_chat, upstream_body
from relay.metering.reservation import (
    CHARACTERS_PER_TOKEN,
    MIN_OUTPUT_TOKENS,
    HoldPolicy,
    Reservation,
    reserve_chat,
)
from tests.properties.test_charge import DISCOUNTS, RATES

unhurried = settings(deadline=None)

LIMITS = st.none() | st.integers(1, 300_000) | st.integers(1, 300)
PRIORITY = "priority"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    part: dict[str, Any] = {"type": "text", "text": draw(st.text(max_size=40))}
    if draw(st.booleans()):
        part = {"type": "image_url", "image_url": {"url": "https://example.com/1.png"}}
    optional = {
        "n": draw(st.none() | st.integers(1, 128)),
        "max_tokens": draw(LIMITS),
        "max_completion_tokens": draw(LIMITS),
        "service_tier": draw(st.sampled_from([None, "auto", "default", PRIORITY])),
        "prediction": draw(st.sampled_from([None, {"type": "content", "content": "x" * 50}])),
    }
    members = {name: value for name, value in optional.items() if value is not None}
    messages = [{"role": "user", "content": [part]}]
    return json.dumps({"model": "m", "messages": messages, **members}).encode()


@st.composite
def quotes(draw: st.DrawFn) -> Quote:
    tiers = {"default": draw(RATES), PRIORITY: draw(RATES)}
    long_context = None
    if draw(st.booleans()):
        # A tier that is not sold for long prompts gets rates that stand in.
        long_tiers = {name: draw(RATES) for name in draw(st.sampled_from([tiers, ["default"]]))}
        long_context = LongContext(above_tokens=draw(st.integers(1, 300)), tiers=long_tiers)
    terms = PriceTerms(
        price_id=1,
        model="m",
        tiers=tiers,
        long_context=long_context,
        context_tokens=draw(st.none() | st.integers(1, 400_000)),
        max_output_tokens=draw(LIMITS),
    )
    return Quote(terms, draw(DISCOUNTS))


POLICIES = st.builds(
    HoldPolicy,
    standard_output_tokens=st.integers(1, 5_000),
    unknown_max_output_tokens=st.integers(256, 100_000),
)


@dataclass(frozen=True)
class Case:
    request: ChatRequest
    quote: Quote
    policy: HoldPolicy
    reservation: Reservation


@st.composite
def cases(draw: st.DrawFn) -> Case:
    request, quote, policy = parse_chat(draw(bodies())), draw(quotes()), draw(POLICIES)
    tight = draw(st.none() | st.integers(1, len(request.body)))
    reservation = reserve_chat(request, quote, organization_id=1, policy=policy, prompt_bound=tight)
    return Case(request, quote, policy, reservation)


def most_output(case: Case, cap: int | None) -> int:
    """How long each answer can be: upstream knows what we send, and its own limit."""
    sent = upstream_body(
        case.request,
        upstream_model="m",
        include_usage=False,
        output_cap=cap,
        cap_field=case.quote.terms.output_cap_field,
    )
    limits = (parse_chat(sent).output_limit, case.quote.terms.max_output_tokens)
    known = [limit for limit in limits if limit is not None]
    assert known, "nothing bounds the answer"
    return min(known)


def split(data: st.DataObject, total: int, buckets: tuple[str, ...]) -> dict[str, int]:
    """The total, spread over the buckets in any way."""
    cuts = sorted(data.draw(st.lists(st.integers(0, total), min_size=len(buckets) - 1, max_size=9)))
    cuts = cuts[: len(buckets) - 1]
    edges = [0, *cuts, total]
    return {name: edges[i + 1] - edges[i] for i, name in enumerate(buckets)}


def usage_up_to(data: st.DataObject, prompt: int, completion: int) -> Usage:
    prompt = data.draw(st.just(prompt) | st.integers(0, prompt))
    completion = data.draw(st.just(completion) | st.integers(0, completion))
    parts: dict[str, Any] = split(data, prompt, INPUT_BUCKETS)
    parts |= split(data, completion, OUTPUT_BUCKETS)
    cached = sum(count for name, count in parts.items() if name.startswith("cached"))
    return Usage(**parts, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


@unhurried
@given(cases(), st.data())
def test_no_call_within_its_caps_costs_more_than_its_strict_hold(
    case: Case, data: st.DataObject
) -> None:
    reservation, terms = case.reservation, case.quote.terms
    bounds = reservation.hold.strict
    assert bounds.minimum_nano_usd <= bounds.wanted_nano_usd
    ends = st.sampled_from([bounds.minimum_nano_usd, bounds.wanted_nano_usd])
    held = data.draw(ends | st.integers(bounds.minimum_nano_usd, bounds.wanted_nano_usd))
    cap = reservation.output_cap(amount_nano_usd=held, strict=True)
    output = most_output(case, cap) + reservation.predicted_bound
    usage = usage_up_to(data, reservation.prompt_bound, output * case.request.n)
    served = data.draw(st.sampled_from([None, "default", case.request.service_tier]))
    rates = terms.rates_for(served, usage.prompt_tokens).rates
    assert charge(usage, rates, case.quote.discount_ppm).charge_nano_usd <= held


@unhurried
@given(cases(), st.data())
def test_the_cap_is_the_longest_answer_that_the_hold_affords(
    case: Case, data: st.DataObject
) -> None:
    reservation = case.reservation
    bounds = reservation.hold.strict
    held = data.draw(st.integers(bounds.minimum_nano_usd, bounds.wanted_nano_usd))
    cap = reservation.output_cap(amount_nano_usd=held, strict=True)

    def cost(output: int) -> int:
        return cost_upper_bound(
            reservation.rates,
            prompt_tokens_bound=reservation.prompt_bound,
            output_tokens_bound=output + reservation.predicted_bound,
            choices=case.request.n,
            discount_ppm=case.quote.discount_ppm,
        )

    if held == bounds.wanted_nano_usd:
        assert cap in (None, reservation.output_bound)
        return
    assert cap is not None
    # A shorter answer is of no use, unless the client itself wants none longer.
    assert cap >= min(MIN_OUTPUT_TOKENS, reservation.output_bound)
    assert cost(cap) <= held
    assert cap == reservation.output_bound or cost(cap + 1) > held


@unhurried
@given(cases())
def test_standard_holds_have_no_cap_and_are_no_more_than_strict_ones(case: Case) -> None:
    hold = case.reservation.hold
    assert case.reservation.output_cap(amount_nano_usd=0, strict=False) is None
    assert hold.standard.minimum_nano_usd == hold.standard.wanted_nano_usd
    assert hold.standard.wanted_nano_usd <= hold.strict.wanted_nano_usd


@unhurried
@given(cases(), st.lists(st.integers(0, 10**7), min_size=2, max_size=20))
def test_a_standard_hold_that_has_grown_to_its_end_is_as_good_as_a_strict_one(
    case: Case, lengths: list[int]
) -> None:
    reservation = case.reservation
    costs = [reservation.output_cost(length) for length in sorted(lengths)]
    assert costs == sorted(costs)
    most = reservation.output_cost(sys.maxsize)
    assert costs[-1] <= most
    first = reservation.covered_characters
    if first == sys.maxsize:
        assert reservation.output_bound <= case.policy.standard_output_tokens
        assert reservation.output_cost(first) == most
        return
    # From the start it covers as much output as it was opened for.
    tokens = case.policy.standard_output_tokens * case.request.n
    assert first == reservation.step_characters == tokens * CHARACTERS_PER_TOKEN
    grown = reservation.hold.standard.wanted_nano_usd + most - reservation.output_cost(first)
    without_prompt = cost_upper_bound(
        reservation.rates,
        prompt_tokens_bound=0,
        output_tokens_bound=reservation.output_bound,
        choices=case.request.n,
        discount_ppm=case.quote.discount_ppm,
    )
    assert grown >= without_prompt - 1  # Each of two differences may lose a fraction.


# --- By hand -------------------------------------------------------------------------------------

RATES_OF_ONE = Rates.from_data({"input_tokens": "1", "output_tokens": "10"})
POLICY = HoldPolicy(standard_output_tokens=1_000, unknown_max_output_tokens=16_384)


def reserve(
    *, max_output_tokens: int | None = 4_096, context_tokens: int | None = 100_000, **members: Any
) -> Reservation:
    terms = PriceTerms(
        price_id=1,
        model="m",
        tiers={"default": RATES_OF_ONE},
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
    )
    hello = [{"role": "user", "content": "Hello"}]
    body = json.dumps({"model": "m", "messages": hello} | members).encode()
    return reserve_chat(parse_chat(body), Quote(terms, 1_000_000), organization_id=1, policy=POLICY)


def cap_of(reservation: Reservation) -> int | None:
    """With all the money that it would like."""
    return reservation.output_cap(
        amount_nano_usd=reservation.hold.strict.wanted_nano_usd, strict=True
    )


def test_a_model_whose_maximum_is_known_and_affordable_is_not_capped() -> None:
    reservation = reserve()
    assert reservation.output_bound == 4_096
    assert cap_of(reservation) is None


@pytest.mark.parametrize("asked", [{}, {"max_tokens": 16_385}, {"max_completion_tokens": 10**6}])
def test_a_model_whose_maximum_is_unknown_is_capped_whatever_was_asked(
    asked: dict[str, int],
) -> None:
    assert cap_of(reserve(max_output_tokens=None, **asked)) == 16_384


@pytest.mark.parametrize("asked", [1, 16_384])
def test_who_asks_for_less_than_the_unknown_maximum_is_not_capped(asked: int) -> None:
    reservation = reserve(max_output_tokens=None, max_completion_tokens=asked)
    assert cap_of(reservation) is None
    assert reservation.output_bound == asked


def test_the_larger_of_two_limits_counts() -> None:
    assert reserve(max_tokens=10, max_completion_tokens=900).output_bound == 900


def test_every_choice_is_paid_and_capped_by_itself() -> None:
    one, four = reserve(n=1), reserve(n=4)
    output = 4_096 * 10_000
    body_bytes = four.prompt_bound * 1_000
    assert four.hold.strict.wanted_nano_usd == body_bytes + 4 * output
    assert four.hold.strict.minimum_nano_usd == body_bytes + 4 * MIN_OUTPUT_TOKENS * 10_000
    assert four.hold.standard.wanted_nano_usd == body_bytes + 4 * 1_000 * 10_000
    assert one.step_characters * 4 == four.step_characters
    half = body_bytes + 4 * 2_000 * 10_000
    assert four.output_cap(amount_nano_usd=half, strict=True) == 2_000


def test_a_prediction_may_have_to_be_paid_as_output() -> None:
    predicted = {"type": "content", "content": "x" * 500}
    plain, predicting = reserve(), reserve(prediction=predicted)
    length = len(json.dumps(predicted))
    added = predicting.hold.strict.wanted_nano_usd - plain.hold.strict.wanted_nano_usd
    in_the_prompt = (predicting.prompt_bound - plain.prompt_bound) * 1_000
    assert added == in_the_prompt + length * 10_000
    least = predicting.hold.strict.minimum_nano_usd
    assert predicting.output_cap(amount_nano_usd=least, strict=True) == MIN_OUTPUT_TOKENS


def test_what_hides_its_size_may_fill_the_context() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/1.png"}}
    messages = [{"role": "user", "content": [image]}]
    assert reserve(messages=messages, context_tokens=50_000).prompt_bound == 50_000
