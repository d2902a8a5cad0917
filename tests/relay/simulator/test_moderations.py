"""`POST /v1/moderations`."""

from typing import Any

import pytest
from openai import OpenAI
from openai.types import ModerationCreateResponse

from tests.relay.simulator.shapes import shape_check
from tests.relay.simulator.support import Upstream


def test_a_text_is_judged(client: OpenAI) -> None:
    answer = client.moderations.create(input=["I will kill you.", "Good morning."])
    shape_check(ModerationCreateResponse, answer.to_dict(exclude_unset=True))
    bad, good = answer.results

    assert answer.model == "omni-moderation-latest"
    assert (bad.flagged, bad.categories.violence, bad.categories.sexual) == (True, True, False)
    assert bad.category_scores.violence > 0.5
    assert good.flagged is False


def test_a_picture_counts_only_where_it_can(client: OpenAI) -> None:
    picture: Any = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    text: Any = {"type": "text", "text": "look"}
    (result,) = client.moderations.create(input=[text, picture]).results

    assert result.category_applied_input_types.violence == ["image", "text"]
    assert result.category_applied_input_types.hate == ["text"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input": []},
        {"input": [{"type": "text"}]},
        {"input": [{"type": "image_url", "text": "a"}]},
        {"input": ["a", {"type": "text", "text": "a"}]},
    ],
)
def test_a_bad_request_is_refused(upstream: Upstream, fields: dict[str, Any]) -> None:
    assert upstream.call(fields, path="/v1/moderations").status == 400


def test_it_costs_nothing_unless_a_test_says_so(upstream: Upstream) -> None:
    document = upstream.call({"input": "a"}, path="/v1/moderations").document()
    assert "usage" not in document

    body = {"input": "a", "simulate": {"usage": {"total_tokens": 1}}}
    assert upstream.call(body, path="/v1/moderations").document()["usage"] == {"total_tokens": 1}
