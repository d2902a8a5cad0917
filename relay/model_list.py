"""GET /models and /models/{id}: what this key may call. Nobody upstream is asked."""

import datetime as dt
from typing import Any

import msgspec

from accounts.directory import Principal
from billing.prices.catalog import PricedModel
from relay import errors
from relay.exchange import Exchange
from relay.runtime import Runtime

OWNER = "openai"
# Codex looks for a list of its own with much that only its vendor knows, and complains without one.
_CODEX_PARAMETER = b"client_version="
JSON = ((b"content-type", b"application/json"),)


async def model_list(exchange: Exchange, principal: Principal, runtime: Runtime) -> None:
    data = [model_document(model) for model in _callable(principal, runtime)]
    document: dict[str, Any] = {"object": "list", "data": data}
    if _CODEX_PARAMETER in exchange.query:
        document["models"] = []
    await _answer(exchange, document)


async def model_get(exchange: Exchange, principal: Principal, runtime: Runtime, name: str) -> None:
    """Raises RelayError."""
    for model in _callable(principal, runtime):
        if model.model == name:
            await _answer(exchange, model_document(model))
            return
    raise errors.model_not_found(name)


def _callable(principal: Principal, runtime: Runtime) -> list[PricedModel]:
    if runtime.catalog is None:
        raise errors.store_unavailable()
    allowed = principal.allowed_models
    return [
        model
        for model in runtime.catalog.models()
        if (allowed is None or model.model in allowed) and runtime.channels.candidates(model.model)
    ]


def model_document(model: PricedModel) -> dict[str, Any]:
    """What a client is told of a model, and whether upstream has retired it."""
    # No null anywhere: some clients drop the whole list for one.
    document = {"id": model.model, "object": "model", "created": model.priced_at, "owned_by": OWNER}
    if model.deprecated_on is not None:
        document["deprecated_on"] = model.deprecated_on.isoformat()
        document["retired"] = model.deprecated_on <= dt.datetime.now(dt.UTC).date()
    return document


async def _answer(exchange: Exchange, document: dict[str, Any]) -> None:
    body = msgspec.json.encode(document)
    await exchange.answer(200, JSON, body if exchange.method != "HEAD" else b"")
