"""`POST /v1/embeddings`: a vector of length one for each text, the same for the same text."""

import base64
import hashlib
import struct
from array import array
from functools import lru_cache
from math import sqrt
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relay.simulator.catalogue import model_check
from relay.simulator.decoding import body_decode, knobs_check
from relay.simulator.errors import bad_request
from relay.simulator.inputs import Text, TextInput, texts_of
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.replies import Answer, Call
from relay.simulator.tokens import Tokenizer
from relay.simulator.usage import given, usage_reported

MAX_INPUTS = 2_048
MAX_INPUT_TOKENS = 8_192
_DEFAULT_DIMENSIONS = 1_536
_LARGE_DIMENSIONS = 3_072
# The first numbers of a vector tell texts apart, the others only fill it up.
_TELLING = 8
_TELLING_LENGTH, _FILLING_LENGTH = 0.6, 0.8


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: TextInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=_LARGE_DIMENSIONS)] | None = None
    simulate: Knobs | None = None


_DECODER = msgspec.json.Decoder(EmbeddingRequest)


def embeddings_answer(call: Call) -> Answer:
    """Raises Refusal."""
    request = body_decode(call.body, decoder=_DECODER)
    model_check(request.model, endpoint="embeddings")
    knobs = request.simulate or NO_KNOBS
    knobs_check(knobs, stream=False)
    texts = texts_of(request.input, tokenizer=Tokenizer(request.model), param="input")
    _texts_check(texts)
    dimensions = _dimensions(request)
    in_base64 = request.encoding_format == "base64"
    document: dict[str, Any] = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _encoded(vector) if in_base64 else vector.tolist(),
            }
            for index, vector in enumerate(_vector(text.text, dimensions) for text in texts)
        ],
        "model": knobs.model or request.model,
    }
    if knobs.fault != "no_usage":
        prompt = given(knobs.prompt_tokens, sum(text.tokens for text in texts))
        counted = {"prompt_tokens": prompt, "total_tokens": given(knobs.total_tokens, prompt)}
        document["usage"] = usage_reported(counted, knobs=knobs)
    return Answer(knobs=knobs, document=document)


def _texts_check(texts: list[Text]) -> None:
    if len(texts) > MAX_INPUTS:
        raise bad_request(f"'input' has more than {MAX_INPUTS} texts.", param="input")
    if any(not text.tokens for text in texts):
        raise bad_request("'$.input' is invalid: it cannot be an empty string.", param="input")
    if any(text.tokens > MAX_INPUT_TOKENS for text in texts):
        message = f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens."
        raise bad_request(message, param="input", code="context_length_exceeded")


def _dimensions(request: EmbeddingRequest) -> int:
    """Raises Refusal."""
    if "embedding-3" not in request.model:
        if request.dimensions is not None:
            message = "This model does not support specifying dimensions."
            raise bad_request(message, param="dimensions")
        return _DEFAULT_DIMENSIONS
    most = _LARGE_DIMENSIONS if "large" in request.model else _DEFAULT_DIMENSIONS
    if (request.dimensions or 0) > most:
        raise bad_request(f"This model has at most {most} dimensions.", param="dimensions")
    return request.dimensions or most


def _vector(text: str, dimensions: int) -> "array[float]":
    seed = hashlib.sha256(text.encode()).digest()
    if dimensions <= _TELLING:
        return _scaled(seed, count=dimensions, length=1)
    telling = _scaled(seed, count=_TELLING, length=_TELLING_LENGTH)
    return telling + _filling(dimensions - _TELLING)


@lru_cache(maxsize=64)
def _filling(count: int) -> "array[float]":
    seed = hashlib.shake_256(b"filling").digest(4 * count)
    return _scaled(seed, count=count, length=_FILLING_LENGTH)


def _scaled(seed: bytes, *, count: int, length: float) -> "array[float]":
    """The numbers as a vector of the length, in the precision that base64 can carry."""
    numbers = [number - 2**31 + 0.5 for number in struct.unpack_from(f"<{count}I", seed)]
    scale = length / sqrt(sum(number * number for number in numbers))
    return array("f", [number * scale for number in numbers])


def _encoded(vector: "array[float]") -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
