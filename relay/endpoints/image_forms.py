"""POST /images/edits and /images/variations: pictures in a form, or named in JSON.

What they cost depends on fields that may stand behind the pictures, so a form is taken in whole
before it is sent: a small one in memory, a larger one in a temporary file.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.prices.catalog import Quote
from relay.bodies.fields import (
    NAMESPACED,
    Decoders,
    decoder,
    members_of,
    missing,
    model_of,
    namespaced_of,
    values_of,
)
from relay.bodies.forms import FormReader
from relay.bodies.uploads import Upload, upload_of
from relay.endpoints.base import JSON
from relay.endpoints.image_request import (
    DEFAULT_MODEL,
    DEFAULT_NEWER_MODEL,
    FORM_FIELDS,
    METERED,
    Pictures,
    form_value,
    pictures_of,
)
from relay.endpoints.images import ImageRequest, ImagesHandler, image_body
from relay.exchange import Exchange
from relay.tenancy.references import Reference, id_references
from relay.upstream import BodyStream

_SINGLE: Final = frozenset({*FORM_FIELDS, *NAMESPACED})
_REFERRING: Final = frozenset({"images", "mask"})
_EDIT_METERED: Final[Decoders] = {
    **METERED,
    "images": decoder(list[Raw] | None),
    "mask": decoder(Raw),
}
# JSON is decoded, so all of it is in memory.
JSON_LIMIT_BYTES: Final = 32 * 1024 * 1024


class FormRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose body is a form, all of which is here."""

    upload: Upload
    model: str
    is_model_named: bool
    stream: bool
    namespaced: dict[str, str]
    pictures: Pictures
    service_tier: str | None = None


def parse_edit(body: bytes) -> ImageRequest:
    """Raises InvalidRequest."""
    members = members_of(body)
    values = values_of(members, _EDIT_METERED)
    for name in ("images", "prompt"):
        if not values.get(name):
            raise missing(name)
    inputs = len(values["images"]) + ("mask" in values)
    return ImageRequest(
        body=body,
        members=members,
        model=model_of(values, DEFAULT_NEWER_MODEL),
        is_model_named=bool(values.get("model")),
        stream=values.get("stream") is True,
        service_tier=values.get("service_tier"),
        namespaced=namespaced_of(values),
        pictures=pictures_of(values, inputs=inputs),
    )


def form_request(upload: Upload, *, default_model: str, has_prompt: bool) -> FormRequest:
    """Raises InvalidRequest."""
    form = upload.form
    given = {name: form.text(name) for name in _SINGLE}
    values = {name: form_value(name, text) for name, text in given.items() if text is not None}
    if not form.files:
        raise missing("image")
    if has_prompt and not values.get("prompt"):
        raise missing("prompt")
    return FormRequest(
        upload=upload,
        model=model_of(values, default_model),
        is_model_named=bool(values.get("model")),
        stream=values.get("stream") is True,
        namespaced=namespaced_of(values),
        pictures=pictures_of(values, inputs=form.files),
    )


class VariationsHandler(ImagesHandler[ImageRequest | FormRequest]):
    default_model = DEFAULT_MODEL
    has_prompt = False

    @override
    async def read(self, exchange: Exchange, argument: str | None) -> ImageRequest | FormRequest:
        limit = self.endpoint.body_limit_bytes
        assert limit is not None, "its row says it"
        content_type = exchange.header(b"content-type")
        form = FormReader(content_type, single=_SINGLE, file_limit_bytes=limit)
        upload = upload_of(exchange, form, limit_bytes=limit)
        try:
            await upload.read_all()
            return form_request(
                upload, default_model=self.default_model, has_prompt=self.has_prompt
            )
        except BaseException:
            upload.close()
            raise

    @override
    async def digest(self, request: ImageRequest | FormRequest) -> bytes:
        if isinstance(request, ImageRequest):
            return hashlib.sha256(request.body).digest()
        return await request.upload.digest()

    @override
    def close(self, request: ImageRequest | FormRequest) -> None:
        if isinstance(request, FormRequest):
            request.upload.close()

    @override
    def content_type(self, request: ImageRequest | FormRequest) -> bytes:
        return request.upload.form.content_type if isinstance(request, FormRequest) else JSON

    @override
    def upstream_body(
        self,
        request: ImageRequest | FormRequest,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes | BodyStream:
        if isinstance(request, ImageRequest):
            return image_body(request, upstream_model=upstream_model, namespaced=namespaced)
        changes: dict[str, Any] = dict(namespaced)
        if upstream_model != request.model or not request.is_model_named:
            changes["model"] = upstream_model
        return request.upload.body(changes)


class EditsHandler(VariationsHandler):
    default_model = DEFAULT_NEWER_MODEL
    has_prompt = True

    @override
    async def read(self, exchange: Exchange, argument: str | None) -> ImageRequest | FormRequest:
        content_type = exchange.header(b"content-type") or b""
        if content_type.partition(b";")[0].strip().lower() == JSON:
            return parse_edit(await exchange.body(JSON_LIMIT_BYTES))
        return await super().read(exchange, argument)

    @override
    def references(self, request: ImageRequest | FormRequest) -> list[Reference]:
        if isinstance(request, FormRequest):
            return []
        return id_references(request.members, _REFERRING)
