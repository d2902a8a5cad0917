"""`/v1/images/*`."""

import base64
import struct
from typing import Any

import pytest
from openai import OpenAI
from openai.types import (
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImagesResponse,
)

from relay.simulator.images import TOKENS_PER_INPUT_IMAGE
from relay.simulator.pictures import picture_bytes
from tests.relay.simulator.shapes import shape_check
from tests.relay.simulator.support import Form, RawResponse, Upstream, events_of

PNG = picture_bytes(16, 16, "png")
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


def generate(upstream: Upstream, simulate: Any = None, **fields: Any) -> RawResponse:
    body = {"prompt": "a red cat", "simulate": simulate or {}} | fields
    return upstream.call(body, path=GENERATIONS)


def read(document: dict[str, Any]) -> ImagesResponse:
    return shape_check(ImagesResponse, document)


def test_a_picture_has_its_size(client: OpenAI) -> None:
    answer = client.images.generate(
        model="dall-e-2", prompt="a cat", n=2, size="512x512", response_format="b64_json"
    )
    read(answer.to_dict(exclude_unset=True))

    assert answer.data is not None
    assert answer.usage is None
    pictures = [base64.b64decode(one.b64_json or "") for one in answer.data]
    assert [struct.unpack(">II", picture[16:24]) for picture in pictures] == [(512, 512)] * 2


def test_a_picture_may_be_a_url(client: OpenAI) -> None:
    answer = client.images.generate(model="dall-e-3", prompt="a cat", quality="hd", style="vivid")

    assert answer.data is not None
    (picture,) = answer.data
    assert picture.url is not None
    assert picture.url.startswith("https://images.example.com/")
    assert picture.revised_prompt is not None


@pytest.mark.parametrize(
    ("fields", "output_tokens"),
    [
        ({"quality": "low"}, 272),
        ({"quality": "medium", "n": 3}, 3 * 1_056),
        ({"quality": "low", "size": "1024x1536"}, 408),
        ({}, 4_160),
    ],
)
def test_tokens_are_those_of_quality_and_size(
    upstream: Upstream, fields: dict[str, Any], output_tokens: int
) -> None:
    document = generate(upstream, model="gpt-image-1", **fields).document()
    answer = read(document)

    assert answer.usage is not None
    assert answer.usage.output_tokens == output_tokens
    assert answer.usage.input_tokens == answer.usage.input_tokens_details.text_tokens == 3
    assert answer.usage.total_tokens == output_tokens + 3
    assert answer.output_format == "png"
    assert "output_tokens_details" not in document["usage"]


def test_a_later_model_says_of_what_its_output_is(upstream: Upstream) -> None:
    usage = generate(upstream, model="gpt-image-1.5", quality="low").document()["usage"]

    assert usage["output_tokens_details"] == {"image_tokens": 272, "text_tokens": 0}


@pytest.mark.parametrize(
    ("fields", "is_gpt"), [({}, False), ({"background": "opaque"}, True), ({"stream": True}, True)]
)
def test_the_model_may_be_left_out(upstream: Upstream, fields: Any, is_gpt: bool) -> None:
    response = generate(upstream, **fields)

    assert response.status == 200
    assert (b'"usage"' in response.body) == is_gpt


def test_pictures_are_edited(client: OpenAI) -> None:
    answer = client.images.edit(image=[PNG, PNG], prompt="a cat", quality="low", n=2)
    read(answer.to_dict(exclude_unset=True))

    assert answer.data is not None
    assert len(answer.data) == 2
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 2 * TOKENS_PER_INPUT_IMAGE
    assert answer.usage.output_tokens == 2 * 272


def test_pictures_are_edited_by_reference(upstream: Upstream) -> None:
    body = {"prompt": "a cat", "images": [{"file_id": "file-1"}, {"image_url": "data:,"}]}
    answer = read(upstream.call(body, path=EDITS).document())

    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 2 * TOKENS_PER_INPUT_IMAGE


# Deprecated by the SDK, not by the endpoint.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_picture_is_varied(client: OpenAI) -> None:
    answer = client.images.create_variation(image=PNG, n=3, size="256x256")

    assert answer.data is not None
    assert len({one.url for one in answer.data}) == 3


def test_a_generation_is_streamed(upstream: Upstream) -> None:
    response = generate(upstream, model="gpt-image-1", stream=True, partial_images=2, quality="low")
    *partial, (name, last) = events_of(response)

    for number, (partial_name, event) in enumerate(partial):
        assert partial_name == event["type"]
        shape_check(ImageGenPartialImageEvent, event)
        assert event["partial_image_index"] == number
    assert len(partial) == 2
    assert name == last["type"]
    usage = shape_check(ImageGenCompletedEvent, last).usage
    assert usage.output_tokens == 272 + 2 * 100


def test_the_sdk_reads_the_stream_of_an_edit(client: OpenAI) -> None:
    partial, last = client.images.edit(
        image=PNG, prompt="a cat", model="gpt-image-1", stream=True, partial_images=1
    )

    assert isinstance(partial, ImageEditPartialImageEvent)
    assert isinstance(last, ImageEditCompletedEvent)
    assert last.usage.total_tokens == last.usage.input_tokens + last.usage.output_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"n": 11}, "n"),
        ({"model": "dall-e-3", "n": 2}, "n"),
        ({"model": "dall-e-2", "size": "1792x1024"}, "size"),
        ({"model": "dall-e-2", "quality": "hd"}, "quality"),
        ({"model": "dall-e-3", "stream": True}, "stream"),
        ({"model": "gpt-image-1", "size": "large"}, "size"),
        ({"model": "gpt-image-1", "quality": "hd"}, "quality"),
        ({"model": "gpt-image-1", "response_format": "url"}, "response_format"),
        ({"model": "gpt-image-1", "partial_images": 2}, "partial_images"),
        ({"model": "gpt-image-1", "stream": True, "n": 2}, "n"),
    ],
)
def test_a_bad_request_is_refused(upstream: Upstream, fields: Any, param: str) -> None:
    response = generate(upstream, **fields)

    assert response.status == 400
    assert response.document()["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a cat"},
        {"prompt": "a cat", "images": [{}]},
        {"prompt": "a cat", "images": [{"file_id": "file-1"}] * 17},
        Form({}, PNG, file_field="image"),
        Form({"prompt": "a cat"}, PNG),
        Form({"prompt": ["a cat", "a dog"]}, PNG, file_field="image"),
        Form({"prompt": "a cat", "n": "many"}, PNG, file_field="image"),
        Form({"prompt": "a cat", "simulate": "{"}, PNG, file_field="image"),
    ],
)
def test_a_bad_edit_is_refused(upstream: Upstream, body: Any) -> None:
    assert upstream.call(body, path=EDITS).status == 400


def test_a_model_that_does_not_draw_is_refused(upstream: Upstream) -> None:
    assert generate(upstream, model="gpt-4o").status == 404


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_picture_has_the_mark_of_its_format(upstream: Upstream, form: str) -> None:
    fields = {"model": "gpt-image-1", "output_format": form, "quality": "low"}
    data = base64.b64decode(generate(upstream, **fields).document()["data"][0]["b64_json"])

    marks = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
    assert data.startswith(marks[form])
