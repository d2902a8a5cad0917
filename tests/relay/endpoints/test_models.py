"""What the list of models says of one."""

import datetime as dt

import pytest

from billing.prices.catalog import PricedModel
from relay.model_list import model_document

TODAY = dt.datetime.now(dt.UTC).date()
DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(("on", "retired"), [(TODAY - DAY, True), (TODAY + DAY, False)])
def test_a_retired_model_is_marked(on: dt.date, retired: bool) -> None:
    document = model_document(PricedModel("old", frozenset({"completions"}), 7, on))
    assert document == {
        "id": "old",
        "object": "model",
        "created": 7,
        "owned_by": "openai",
        "deprecated_on": on.isoformat(),
        "retired": retired,
    }


def test_of_any_other_nothing_is_said_and_nothing_is_null() -> None:
    document = model_document(PricedModel("new", frozenset({"completions"}), 7))
    assert document.keys() == {"id", "object", "created", "owned_by"}
