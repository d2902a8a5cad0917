"""`/v1/images/*`: pictures made from words, from pictures, or from both."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relay.simulator.catalogue import model_check
from relay.simulator.completions import created_from
from relay.simulator.decoding import (
    body_decode,
    fields_convert,
    knobs_check,
    missing,
    value_refusal,
)
from relay.simulator.errors import ErrorBody, bad_request
from relay.simulator.forms import form_read
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.pictures import Format, picture_base64
from relay.simulator.replies import Answer, Call
from relay.simulator.streams import Event, EventStream, Kind, Usage, error_document
from relay.simulator.tokens import Tokenizer
from relay.simulator.usage import given, usage_reported

TOKENS_PER_INPUT_IMAGE = 323
TOKENS_PER_PARTIAL_IMAGE = 100
MAX_INPUT_IMAGES = 16
# Of a square of 1,024 pixels; others have as many as their area is larger.
_OUTPUT_TOKENS = {"low": 272, "medium": 1_056, "high": 4_160}
_SQUARE = 1_024 * 1_024
_SIZE = re.compile(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})")
_SIZES = {
    "dall-e-2": ("256x256", "512x512", "1024x1024"),
    "dall-e-3": ("1024x1024", "1792x1024", "1024x1792"),
}
_QUALITIES = {"dall-e-2": ("standard",), "dall-e-3": ("standard", "hd")}
Task = Literal["generation", "edit", "variation"]


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    prompt: str | None = None
    images: list[dict[str, Any]] | None = None
    mask: dict[str, Any] | None = None
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    size: str | None = None
    quality: Literal["standard", "hd", "low", "medium", "high", "auto"] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Format | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    input_fidelity: Literal["high", "low"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    simulate: Knobs | None = None


_DECODER = msgspec.json.Decoder(ImageRequest)
_DEFAULTS: dict[Task, str] = {
    "generation": "dall-e-2",
    "edit": "gpt-image-1.5",
    "variation": "dall-e-2",
}
# Asking for one of these means a model that knows it.
_GPT_ONLY = ("output_format", "background", "stream", "partial_images")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    task: Task
    request: ImageRequest
    knobs: Knobs
    model: str
    digest: str
    inputs: int

    @property
    def count(self) -> int:
        return self.request.n or 1

    @property
    def size(self) -> tuple[int, int]:
        found = _SIZE.fullmatch(self.request.size or "")
        return (int(found[1]), int(found[2])) if found is not None else (1_024, 1_024)

    @property
    def quality(self) -> str:
        quality = self.request.quality
        return "high" if quality in (None, "auto", "standard", "hd") else quality

    @property
    def form(self) -> Format:
        return self.request.output_format or "png"

    @property
    def looks(self) -> dict[str, Any]:
        """How the pictures of gpt-image models look."""
        background = self.request.background
        return {
            "background": "opaque" if background in (None, "auto") else background,
            "output_format": self.form,
            "quality": self.quality,
            "size": f"{self.size[0]}x{self.size[1]}",
        }

    def base64(self) -> str:
        return picture_base64(*self.size, self.form)


def generations_answer(call: Call) -> Answer:
    """Raises Refusal."""
    request = body_decode(call.body, decoder=_DECODER)
    return _answer(request, task="generation", inputs=0, digest=call.digest)


def edits_answer(call: Call) -> Answer:
    """Raises Refusal."""
    return _answer_to_pictures(call, task="edit")


def variations_answer(call: Call) -> Answer:
    """Raises Refusal."""
    return _answer_to_pictures(call, task="variation")


def _answer_to_pictures(call: Call, *, task: Task) -> Answer:
    if task == "edit" and call.content_type.startswith("application/json"):
        request = body_decode(call.body, decoder=_DECODER)
        inputs, field = len(request.images or ()), "images"
        for index, image in enumerate(request.images or ()):
            if ("image_url" in image) == ("file_id" in image):
                raise missing(f"images[{index}].image_url")
    else:
        form = form_read(call.body, content_type=call.content_type)
        request = fields_convert(form.plain(), kind=ImageRequest)
        inputs, field = len(form.files.get("image", ())), "image"
    if not inputs:
        raise missing(field)
    if inputs > MAX_INPUT_IMAGES:
        raise bad_request(f"More than {MAX_INPUT_IMAGES} images.", param=field)
    return _answer(request, task=task, inputs=inputs, digest=call.digest)


def _answer(request: ImageRequest, *, task: Task, inputs: int, digest: str) -> Answer:
    model = request.model or _model_default(request, task=task)
    model_check(model, endpoint="images")
    if task != "variation" and not request.prompt:
        raise missing("prompt")
    _options_check(request, model=model)
    knobs = request.simulate or NO_KNOBS
    knobs_check(knobs, stream=bool(request.stream))
    pictures = _Pictures(
        task=task, request=request, knobs=knobs, model=model, digest=digest, inputs=inputs
    )
    if request.stream:
        return Answer(knobs=knobs, stream=_stream(pictures))
    return Answer(knobs=knobs, document=_document(pictures))


def _model_default(request: ImageRequest, *, task: Task) -> str:
    if task == "generation" and any(getattr(request, name) is not None for name in _GPT_ONLY):
        return "gpt-image-1"
    return _DEFAULTS[task]


def _options_check(request: ImageRequest, *, model: str) -> None:
    """Raises Refusal."""
    if model.startswith("dall-e"):
        _dall_e_check(request, model=model)
    else:
        _gpt_check(request)


def _dall_e_check(request: ImageRequest, *, model: str) -> None:
    sizes = _SIZES.get(model, _SIZES["dall-e-3"])
    if request.size not in (None, *sizes):
        raise value_refusal(str(request.size), param="size", supported=sizes)
    qualities = _QUALITIES.get(model, _QUALITIES["dall-e-3"])
    if request.quality not in (None, *qualities):
        raise value_refusal(str(request.quality), param="quality", supported=qualities)
    if model == "dall-e-3" and (request.n or 1) > 1:
        raise bad_request("You must provide n=1 for this model.", param="n")
    for name in _GPT_ONLY:
        if getattr(request, name):
            raise bad_request(f"Unknown parameter: '{name}'.", param=name)


def _gpt_check(request: ImageRequest) -> None:
    size = request.size
    if request.response_format is not None:
        raise bad_request("Unknown parameter: 'response_format'.", param="response_format")
    if request.quality in ("standard", "hd"):
        supported = ("low", "medium", "high", "auto")
        raise value_refusal(request.quality, param="quality", supported=supported)
    if size not in (None, "auto") and _SIZE.fullmatch(str(size)) is None:
        raise bad_request(f"Invalid size '{size}'.", param="size", code="invalid_value")
    if request.partial_images is not None and not request.stream:
        raise bad_request("'partial_images' needs 'stream'.", param="partial_images")
    if request.stream and (request.n or 1) > 1:
        raise bad_request("A stream has one image.", param="n")


def _usage(pictures: _Pictures) -> Usage:
    knobs = pictures.knobs
    width, height = pictures.size
    each = _OUTPUT_TOKENS[pictures.quality] * width * height // _SQUARE
    each += TOKENS_PER_PARTIAL_IMAGE * (pictures.request.partial_images or 0)
    text = Tokenizer(pictures.model).count_all([pictures.request.prompt or ""])
    seen = given(knobs.image_tokens, TOKENS_PER_INPUT_IMAGE * pictures.inputs)
    put_in = given(knobs.prompt_tokens, text + seen)
    put_out = given(knobs.completion_tokens, each * pictures.count)
    counted: dict[str, Any] = {
        "total_tokens": given(knobs.total_tokens, put_in + put_out),
        "input_tokens": put_in,
        "output_tokens": put_out,
        "input_tokens_details": {"text_tokens": put_in - seen, "image_tokens": seen},
    }
    # The first model of the family does not say of what its output is.
    if not pictures.model.startswith("gpt-image-1") or pictures.model.startswith("gpt-image-1.5"):
        details = {"image_tokens": put_out, "text_tokens": 0}
        counted["output_tokens_details"] = details
    return usage_reported(counted, knobs=knobs)


def _document(pictures: _Pictures) -> dict[str, Any]:
    document: dict[str, Any] = {"created": created_from(pictures.digest)}
    if not pictures.model.startswith("dall-e"):
        document |= pictures.looks
        document["data"] = [{"b64_json": pictures.base64()} for _ in range(pictures.count)]
        if pictures.knobs.fault != "no_usage":
            document["usage"] = _usage(pictures)
        return document
    document["data"] = [_dall_e_picture(pictures, number) for number in range(pictures.count)]
    # The real one reports none; a test may want to see what becomes of one.
    if pictures.knobs.usage or pictures.knobs.usage_more:
        document["usage"] = usage_reported({}, knobs=pictures.knobs)
    return document


def _dall_e_picture(pictures: _Pictures, number: int) -> dict[str, Any]:
    picture: dict[str, Any] = {}
    if pictures.request.response_format == "b64_json":
        picture["b64_json"] = pictures.base64()
    else:
        name = f"{pictures.digest[:24]}-{number}.png"
        picture["url"] = f"https://images.example.com/simulated/{name}"
    if pictures.model == "dall-e-3":
        picture["revised_prompt"] = f"{pictures.request.prompt} In one colour."
    return picture


def _stream(pictures: _Pictures) -> EventStream:
    usage = _usage(pictures)
    events = [
        _event(pictures, "partial_image", kind="content", partial_image_index=number)
        for number in range(pictures.request.partial_images or 0)
    ]
    return EventStream(
        events=[*events, _completed_event(pictures, usage)],
        usage=usage,
        usage_event=partial(_completed_event, pictures),
        padding_event=partial(_padding_event, pictures),
        error_event=_error_event,
    )


def _completed_event(pictures: _Pictures, usage: Usage) -> Event:
    more = {} if pictures.knobs.fault == "no_usage" else {"usage": usage}
    return _event(pictures, "completed", kind="usage", **more)


def _event(pictures: _Pictures, what: str, *, kind: Kind, **more: Any) -> Event:
    name = f"image_{pictures.task}.{what}"
    document = {
        "type": name,
        "b64_json": pictures.base64(),
        "created_at": created_from(pictures.digest),
    }
    return Event(kind, msgspec.json.encode(document | pictures.looks | more), name=name)


def _padding_event(pictures: _Pictures, size: int) -> Event:
    name = f"image_{pictures.task}.padding"
    return Event("noise", msgspec.json.encode({"type": name, "padding": "x" * size}), name=name)


def _error_event(error: ErrorBody) -> Event:
    return Event("error", error_document(error), name="error")
