"""A model is called where its price lists it, and nowhere else."""

from typing import Any

import pytest

from relay.endpoints.table import ENDPOINTS, BodyKind
from tests.adversary.gateway import INPUT_USD, OUTPUT_USD, USD, Gateway
from tests.relay.endpoints.support import ask, price, told

JSON_PATHS = {
    "/".join(row.path): row.listed_as
    for row in ENDPOINTS
    if row.body is BodyKind.JSON and row.path[-1] != "{id}"
}
TEXTS = {"chat/completions", "completions", "embeddings", "moderations", "responses"}
# What each asks for beside the model.
ASKED: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "completions": {"prompt": "Hello"},
    "images/generations": {"prompt": "Hello"},
    "audio/speech": {"input": "Hello", "voice": "alloy"},
}


def fields_for(path: str) -> dict[str, Any]:
    return {"model": "some-model", **ASKED.get(path, {"input": "Hello"})}


@pytest.mark.parametrize("path", JSON_PATHS)
async def test_elsewhere_a_model_is_refused_before_anything_is_held(
    gateway: Gateway, path: str
) -> None:
    others = sorted(TEXTS - {JSON_PATHS[path]})
    await price(gateway, "some-model", input_usd=INPUT_USD, output_usd=OUTPUT_USD, endpoints=others)
    answer = await ask(gateway, await gateway.customer(USD), path, fields_for(path))
    assert answer.status == 404
    error = told(answer)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert error["message"] == f"The model `some-model` is not offered at /v1/{path}."
    assert gateway.arrived() == 0
    assert gateway.workers[0].open_holds == 0


@pytest.mark.parametrize("path", sorted(path for path in JSON_PATHS if JSON_PATHS[path] in TEXTS))
async def test_whoever_prices_the_tokens_of_a_new_model_sells_it_at_every_text_endpoint(
    gateway: Gateway, path: str
) -> None:
    await price(gateway, "some-model", input_usd=INPUT_USD, output_usd=OUTPUT_USD)
    await ask(gateway, await gateway.customer(USD), path, fields_for(path))
    assert gateway.arrived() == 1  # Upstream decides whether it really embeds, moderates ...
