"""What a call can cost at most, and how much output a budget affords."""

import pytest

from billing.pricing import (
    ChargeTooLarge,
    Rates,
    affordable_output_tokens,
    cost_upper_bound,
    output_bound_tokens,
    prompt_bound_tokens,
)

HALF = 500_000
FULL = 1_000_000


def rates(**usd_per_million: str) -> Rates:
    return Rates.from_data({"input_tokens": "2.5", "output_tokens": "10"} | usd_per_million)


@pytest.mark.parametrize(
    ("body_bytes", "opaque_parts", "context_tokens", "expected"),
    [
        (700, False, 8192, 700),
        (70_000, False, 8192, 8192),
        (700, True, 8192, 8192),
        (700, False, None, 700),
        (700, True, None, 2_000_000),
    ],
)
def test_a_prompt_is_bounded_by_its_bytes_and_the_context(
    body_bytes: int, opaque_parts: bool, context_tokens: int | None, expected: int
) -> None:
    bound = prompt_bound_tokens(
        body_bytes, opaque_parts=opaque_parts, context_tokens=context_tokens
    )

    assert bound == expected


@pytest.mark.parametrize(
    ("requested", "limit", "expected"),
    [(None, 4096, 4096), (100, 4096, 100), (9000, 4096, 4096), (9000, None, 9000)],
)
def test_an_output_is_bounded_by_the_cap_and_the_limit(
    requested: int | None, limit: int | None, expected: int
) -> None:
    assert output_bound_tokens(requested, max_output_tokens=limit) == expected


def test_the_bound_takes_the_dearest_kinds_and_every_choice() -> None:
    dear = rates(cached_input_tokens="0.25", cache_write_tokens="3.125", output_audio_tokens="64")

    bound = cost_upper_bound(
        dear, prompt_tokens_bound=1000, output_tokens_bound=100, choices=3, discount_ppm=HALF
    )

    # (1,000 x 3.125 + 3 x 100 x 64) / 2, in millionths of a dollar.
    assert bound == 11_162_500


def test_a_budget_affords_what_the_bound_says() -> None:
    budget_nano_usd = 2_500_000 + 2 * 10_000 * 256
    spend = {"rates": rates(), "prompt_tokens_bound": 1000, "choices": 2, "discount_ppm": FULL}

    def affordable(nano_usd: int) -> int | None:
        return affordable_output_tokens(nano_usd, **spend)  # type: ignore[arg-type]

    assert affordable(budget_nano_usd) == 256
    assert affordable(budget_nano_usd - 1) == 255
    assert affordable(2_500_000) == 0
    assert affordable(2_499_999) is None
    assert affordable(-1) is None


def test_free_output_is_affordable_without_end() -> None:
    embedding = Rates.from_data({"input_tokens": "0.02", "output_tokens": "0"})

    for budget_nano_usd, expected in [(20_000, 10_000_000), (19_999, None)]:
        assert expected == affordable_output_tokens(
            budget_nano_usd,
            rates=embedding,
            prompt_tokens_bound=1000,
            choices=1,
            discount_ppm=FULL,
        )


def test_a_bound_that_the_ledger_cannot_hold_is_an_error() -> None:
    with pytest.raises(ChargeTooLarge):
        cost_upper_bound(
            rates(),
            prompt_tokens_bound=10**17,
            output_tokens_bound=0,
            choices=1,
            discount_ppm=FULL,
        )
