"""Checks that an answer has OpenAI's shape, by the official SDK's models, read strictly."""

from collections.abc import Iterable
from typing import Any, TypeVar

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.model import Model
from openai.types.responses import Response
from pydantic import BaseModel

Shape = TypeVar("Shape", bound=BaseModel)

DOCUMENT_FIELDS = {
    "id",
    "object",
    "created",
    "model",
    "service_tier",
    "system_fingerprint",
    "choices",
    "usage",
}
CHUNK_FIELDS = DOCUMENT_FIELDS - {"usage"}


def document_check(document: dict[str, Any]) -> ChatCompletion:
    assert set(document) == DOCUMENT_FIELDS
    for choice in document["choices"]:
        assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
        assert {"role", "content", "refusal", "annotations"} <= set(choice["message"])
    return shape_check(ChatCompletion, document)


def chunk_check(chunk: dict[str, Any], *, shows_usage: bool) -> ChatCompletionChunk:
    assert set(chunk) == CHUNK_FIELDS | ({"usage"} if shows_usage else set())
    for choice in chunk["choices"]:
        assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}
    return shape_check(ChatCompletionChunk, chunk)


def model_check(model: dict[str, Any]) -> Model:
    return shape_check(Model, model)


def response_check(document: dict[str, Any]) -> Response:
    """The examples of the specification have `store`, though its schema and the SDK do not."""
    return shape_check(Response, {key: document[key] for key in document if key != "store"})


def shape_check(kind: type[Shape], document: dict[str, Any]) -> Shape:
    """The document as the SDK reads it strictly; it has no field that the SDK does not know."""
    model = kind.model_validate(document, strict=True)
    assert list(_unknown_fields(model)) == []
    return model


def _unknown_fields(model: BaseModel) -> Iterable[str]:
    """The fields, at any depth, that the SDK has no name for."""
    yield from model.model_extra or {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, BaseModel):
                yield from _unknown_fields(part)
