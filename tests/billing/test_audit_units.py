"""The audit of records: their units, and their attempts."""

from typing import Any

import pytest

from billing.audit import audit
from tests.factories import make_organization, make_usage_record

BUCKETS = "the tokens of a record's buckets add up to its totals"
ATTEMPTS = "the attempts of a call cost together what it cost upstream"


def breaches(invariant: str = BUCKETS) -> list[str]:
    return [one.subject for one in audit(retain_seconds=600) if one.invariant == invariant]


@pytest.mark.usefixtures("committing_db")
def test_units_beside_tokens_are_none_of_the_totals() -> None:
    organization = make_organization("acme")
    nothing: dict[str, Any] = {"prompt_tokens": 0, "completion_tokens": 0}
    make_usage_record(organization, **nothing, units={"characters": 4096})
    make_usage_record(organization, **nothing, units={"input_audio_milliseconds": 8_471})
    searched = {"input_tokens": 1000, "output_tokens": 1000, "web_search_calls": 3}
    make_usage_record(organization, units=searched | {"unknown/prompt_tokens_details.x_tokens": 9})
    assert breaches() == []
    wrong = make_usage_record(organization, units=searched | {"input_tokens": 999})
    assert breaches() == [str(wrong.request_id)]


@pytest.mark.usefixtures("committing_db")
def test_the_attempts_of_a_call_cost_what_it_cost_upstream() -> None:
    organization = make_organization("acme")

    def record(*costs: int) -> str:
        attempts = [{"channel": "a", "upstream_cost_nano_usd": cost} for cost in costs]
        made = make_usage_record(organization, upstream_cost_nano_usd=7, attempts=attempts)
        return str(made.request_id)

    make_usage_record(organization, upstream_cost_nano_usd=7)
    record(0, 7)
    record(3, 4)
    assert breaches(ATTEMPTS) == []
    wrong = {record(), record(7, 7), record(6)}
    assert set(breaches(ATTEMPTS)) == wrong
