"""POST /images/generations, and what all endpoints for images have in common."""

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.prices.catalog import Quote
from relay.bodies.fields import members_of, missing, model_of, namespaced_of, values_of
from relay.bodies.json_members import Members, splice_members
from relay.endpoints.answers import JsonAnswer, json_answer
from relay.endpoints.base import CallRequest, Handler, StreamMeter, is_event_stream
from relay.endpoints.event_meter import EventMeter, Told
from relay.endpoints.image_prices import ImageReading, measure_images, reserve_images
from relay.endpoints.image_request import (
    METERED,
    Pictures,
    default_generation_model,
    pictures_of,
)
from relay.metering.reservation import FlatReservation, HoldPolicy
from relay.metering.settlement import Measure, Reading
from relay.upstream import UpstreamResponse


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose body is JSON."""

    body: bytes
    members: Members
    model: str
    is_model_named: bool
    stream: bool
    service_tier: str | None
    namespaced: dict[str, str]
    pictures: Pictures


def parse_generation(body: bytes) -> ImageRequest:
    """Raises InvalidRequest."""
    members = members_of(body)
    values = values_of(members, METERED)
    if not values.get("prompt"):
        raise missing("prompt")
    return ImageRequest(
        body=body,
        members=members,
        model=model_of(values, default_generation_model(values)),
        is_model_named=bool(values.get("model")),
        stream=values.get("stream") is True,
        service_tier=values.get("service_tier"),
        namespaced=namespaced_of(values),
        pictures=pictures_of(values),
    )


class ImageAnswer(JsonAnswer, frozen=True, kw_only=True):
    images: int = 0
    quality: str | None = None
    size: str | None = None
    partial_images: int = 0


class _Document(msgspec.Struct, gc=False):
    data: list[Raw] = []
    quality: Any = None
    size: Any = None


_decode: Final = msgspec.json.Decoder(_Document).decode


def image_answer(body: bytes) -> JsonAnswer:
    answer = json_answer(body, member="data")
    if answer.kind != "completion":
        return answer
    document = _decode(body)
    return ImageAnswer(
        kind="completion",
        usage=answer.usage,
        images=len(document.data),
        quality=document.quality if isinstance(document.quality, str) else None,
        size=document.size if isinstance(document.size, str) else None,
    )


class ImageStreamMeter(EventMeter):
    ending_types = frozenset({"image_generation.completed", "image_edit.completed"})

    def __init__(self, *, images: int) -> None:
        super().__init__(endings=images)
        self.images = 0
        self.partial_images = 0
        self.quality: str | None = None
        self.size: str | None = None

    @override
    def see(self, told: Told, kind: str) -> None:
        if kind in self.ending_types:
            self.images += 1
        elif kind.endswith(".partial_image"):
            self.partial_images += 1
        else:
            return
        self.output_seen = True
        if isinstance(told.quality, str):
            self.quality = told.quality
        if isinstance(told.size, str):
            self.size = told.size


class PicturesRequest(CallRequest, Protocol):
    """A request for images, in whatever body."""

    @property
    def pictures(self) -> Pictures: ...


R = TypeVar("R", bound=PicturesRequest)


class ImagesHandler(Handler[R]):
    @override
    def reserve(
        self, request: R, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> FlatReservation:
        return reserve_images(
            request.pictures,
            quote,
            organization_id=organization_id,
            service_tier=request.service_tier,
        )

    @override
    def measure(self, request: R, reading: Reading, quote: Quote, *, produced: bool) -> Measure:
        assert isinstance(reading, ImageAnswer | ImageStreamMeter), "another endpoint's"
        pictured: ImageReading = reading
        return measure_images(request.pictures, pictured, quote.terms, produced=produced)

    @override
    def meter(self, request: R, response: UpstreamResponse) -> StreamMeter | None:
        if request.stream and is_event_stream(response):
            return ImageStreamMeter(images=request.pictures.count)
        return None

    @override
    def read_answer(self, request: R, body: bytes) -> JsonAnswer:
        return image_answer(body)


class GenerationsHandler(ImagesHandler[ImageRequest]):
    @override
    def parse(self, body: bytes) -> ImageRequest:
        return parse_generation(body)

    @override
    def upstream_body(
        self,
        request: ImageRequest,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes:
        return image_body(request, upstream_model=upstream_model, namespaced=namespaced)


def image_body(
    request: ImageRequest, *, upstream_model: str, namespaced: Mapping[str, str]
) -> bytes:
    changes: dict[str, Any] = dict(namespaced)
    if upstream_model != request.model or not request.is_model_named:
        changes["model"] = upstream_model
    if not changes:
        return request.body
    return splice_members(request.body, request.members, changes)
