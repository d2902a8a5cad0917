"""`POST /v1/embeddings`."""

import base64
import struct
from math import isclose
from typing import Any

import pytest
from openai import OpenAI
from openai.types import CreateEmbeddingResponse

from relay.simulator.embeddings import MAX_INPUT_TOKENS, MAX_INPUTS
from tests.relay.simulator.shapes import shape_check
from tests.relay.simulator.support import RawResponse, Upstream

SMALL, LARGE, OLD = "text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"


def call(upstream: Upstream, **fields: Any) -> RawResponse:
    return upstream.call({"model": SMALL, "input": "hi"} | fields, path="/v1/embeddings")


def vectors(upstream: Upstream, **fields: Any) -> list[list[float]]:
    document = call(upstream, **fields).document()
    shape_check(CreateEmbeddingResponse, document)
    assert [one["index"] for one in document["data"]] == list(range(len(document["data"])))
    return [one["embedding"] for one in document["data"]]


@pytest.mark.parametrize(
    ("model", "dimensions", "expected"),
    [(OLD, None, 1536), (SMALL, None, 1536), (LARGE, None, 3072), (LARGE, 256, 256), (SMALL, 3, 3)],
)
def test_a_vector_has_its_dimensions_and_length_one(
    upstream: Upstream, model: str, dimensions: int | None, expected: int
) -> None:
    more = {} if dimensions is None else {"dimensions": dimensions}
    (vector,) = vectors(upstream, model=model, **more)

    assert len(vector) == expected
    assert isclose(sum(number * number for number in vector), 1, rel_tol=1e-5)


def test_the_same_text_has_the_same_vector(upstream: Upstream) -> None:
    first, second, again = vectors(upstream, input=["one", "two", "one"])

    assert first == again
    assert first != second
    assert [first] == vectors(upstream, input="one")


def test_the_sdk_decodes_what_it_asks_for_in_base64(client: OpenAI, upstream: Upstream) -> None:
    (vector,) = vectors(upstream, input="hi")
    encoded = call(upstream, encoding_format="base64").document()["data"][0]["embedding"]

    assert isinstance(encoded, str)
    assert list(struct.unpack(f"<{len(vector)}f", base64.b64decode(encoded))) == vector
    assert client.embeddings.create(model=SMALL, input="hi").data[0].embedding == vector


@pytest.mark.parametrize(
    ("given", "tokens"),
    [("one two", 2), (["one two", "three"], 3), ([1, 2, 3], 3), ([[1, 2], [3, 4, 5]], 5)],
)
def test_every_form_of_input_is_counted(upstream: Upstream, given: Any, tokens: int) -> None:
    usage = call(upstream, input=given).document()["usage"]

    assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ""},
        {"input": []},
        {"input": ["a", ""]},
        {"input": ["a"] * (MAX_INPUTS + 1)},
        {"input": [1] * (MAX_INPUT_TOKENS + 1)},
        {"dimensions": 0},
        {"dimensions": 1537},
        {"model": OLD, "dimensions": 10},
        {"encoding_format": "hex"},
        {"simulate": {"fault": "no_done"}},
        {"simulate": {"framing": "cr"}},
    ],
)
def test_a_bad_request_is_refused(upstream: Upstream, fields: Any) -> None:
    assert call(upstream, **fields).status == 400


def test_a_model_that_does_not_embed_is_refused(upstream: Upstream) -> None:
    assert call(upstream, model="gpt-4o").status == 404


def test_usage_can_be_whatever_a_test_wants(upstream: Upstream) -> None:
    def usage(**simulate: Any) -> Any:
        return call(upstream, simulate=simulate).document().get("usage")

    assert usage(prompt_tokens=7) == {"prompt_tokens": 7, "total_tokens": 7}
    assert usage(usage_more={"video_tokens": 5})["video_tokens"] == 5
    assert usage(usage="many") == "many"
    assert usage(fault="no_usage") is None
    assert usage(fault="absurd_usage") == {"prompt_tokens": -1, "total_tokens": -1}
