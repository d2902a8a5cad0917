"""Reads the fields of a chat request that routing and billing depend on, and changes no others.

Only the metered fields are decoded; everything else reaches upstream as the client's own bytes. A
metered field that is there twice is refused, because upstream might read the other one.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw

from relay.bodies.fields import (
    COMMON,
    DESTINATIONS,
    MAX_OUTPUT_TOKENS,
    NAMESPACED,
    Decoders,
    InvalidRequest,
    decoder,
    empty,
    in_range,
    includes_usage,
    members_of,
    missing,
    model_of,
    namespaced_of,
    values_of,
)
from relay.bodies.json_members import Members, splice_members

__all__ = ["ChatRequest", "InvalidRequest", "parse_chat", "splice", "upstream_body"]

MAX_CHOICES: Final = 128

_PARTS_OF_TEXT: Final = frozenset({"text", "refusal"})


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat request: the client's body, and what of it is metered."""

    body: bytes
    members: Members
    model: str
    stream: bool
    include_usage: bool
    """Whether the client itself asked for the usage chunk of a stream."""
    n: int
    max_tokens: int | None
    max_completion_tokens: int | None
    service_tier: str | None
    opaque_parts: int
    """How many parts (images, audio, files) may cost more tokens than their bytes show."""
    has_tools: bool
    wants_audio: bool
    searches_web: bool
    has_voice: bool
    predicted_bytes: int
    """The length of the answer that the client predicts: what of it is wrong is paid as output."""
    namespaced: dict[str, str]

    @property
    def output_limit(self) -> int | None:
        """The most output tokens per choice that the client allows, whichever field counts."""
        old, new = self.max_tokens, self.max_completion_tokens
        if old is None or new is None:
            return new if old is None else old
        return max(old, new)


class _Part(msgspec.Struct, gc=False):
    type: str = ""


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    audio: dict[str, Any] | None = None


_METERED: Final[Decoders] = {
    **COMMON,
    "messages": decoder(list[_Message]),
    "stream_options": decoder(Raw),
    "n": decoder(int | None),
    "max_tokens": decoder(int | None),
    "max_completion_tokens": decoder(int | None),
    "tools": decoder(list[Raw] | None),
    "functions": decoder(list[Raw] | None),
    "modalities": decoder(list[str] | None),
    "web_search_options": decoder(dict[str, Raw] | None),
    "prediction": decoder(Raw),
    "audio": decoder(dict[str, Any] | None),
}


NOTHING: Final = Raw()
SEPARATOR: Final = "\0"
REMEMBERED_CHARACTERS: Final = 1000


class _Fields(msgspec.Struct):
    """The metered fields of a request that is as it should be."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: Raw | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None
    service_tier: str | None = None
    tools: list[Raw] | None = None
    functions: list[Raw] | None = None
    modalities: list[str] | None = None
    web_search_options: dict[str, Raw] | None = None
    prediction: Raw = NOTHING
    audio: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


_decode: Final = msgspec.json.Decoder(_Fields).decode


@lru_cache(1024)
def _is_odd(names: str) -> bool:
    """Whether one of them may be there twice, or is none that anybody may send.

    Requests of one client have the same names. If a separator is part of a name, so be it: what is
    there twice is there twice, too, when it is in two parts.
    """
    each = names.split(SEPARATOR)
    return len(set(each)) != len(each) or not DESTINATIONS.isdisjoint(each)


def parse_chat(body: bytes) -> ChatRequest:
    """Reads the body of POST /chat/completions. Raises InvalidRequest."""
    members = members_of(body)
    names = SEPARATOR.join(members)
    is_odd = _is_odd(names) if len(names) <= REMEMBERED_CHARACTERS else _is_odd.__wrapped__(names)
    # Where a name is there twice, or any value is not as it should be, each is looked at alone.
    if is_odd:
        return _parse_strictly(body, members)
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _parse_strictly(body, members)
    return _request(body, members, fields)


def _request(body: bytes, members: Members, fields: _Fields) -> ChatRequest:
    stream, options, modalities = fields.stream is True, fields.stream_options, fields.modalities
    namespaced = {}
    if fields.user or fields.safety_identifier or fields.prompt_cache_key:
        namespaced = {name: value for name in NAMESPACED if (value := getattr(fields, name))}
    prediction = fields.prediction
    return ChatRequest(
        body=body,
        members=members,
        model=fields.model,
        stream=stream,
        include_usage=options is not None and includes_usage(options) and stream,
        n=fields.n or 1,
        max_tokens=fields.max_tokens,
        max_completion_tokens=fields.max_completion_tokens,
        service_tier=fields.service_tier,
        opaque_parts=_opaque_parts_of(fields.messages),
        has_tools=bool(fields.tools or fields.functions),
        wants_audio=modalities is not None and "audio" in modalities,
        searches_web=fields.web_search_options is not None,
        has_voice=fields.audio is not None,
        predicted_bytes=0 if prediction is NOTHING else len(memoryview(prediction)),
        namespaced=namespaced,
    )


def _parse_strictly(body: bytes, members: Members) -> ChatRequest:
    """The same, field by field; it knows what to say about each."""
    values = values_of(members, _METERED)
    stream = values.get("stream") is True
    options = values.get("stream_options")
    modalities = values.get("modalities")
    return ChatRequest(
        body=body,
        members=members,
        model=model_of(values),
        stream=stream,
        include_usage=options is not None and includes_usage(options) and stream,
        n=in_range(values, "n", MAX_CHOICES) or 1,
        max_tokens=in_range(values, "max_tokens", MAX_OUTPUT_TOKENS),
        max_completion_tokens=in_range(values, "max_completion_tokens", MAX_OUTPUT_TOKENS),
        service_tier=values.get("service_tier"),
        opaque_parts=_opaque_parts(values),
        has_tools=bool(values.get("tools") or values.get("functions")),
        wants_audio=modalities is not None and "audio" in modalities,
        searches_web=values.get("web_search_options") is not None,
        has_voice=values.get("audio") is not None,
        predicted_bytes=len(memoryview(values.get("prediction", b""))),
        namespaced=namespaced_of(values),
    )


def splice(body: bytes, request: ChatRequest, *, changes: Mapping[str, Any]) -> bytes:
    """The body that `request` was parsed from, with only these top-level fields set."""
    return splice_members(body, request.members, changes)


def upstream_body(
    request: ChatRequest,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str,
    namespaced: Mapping[str, str] | None = None,
) -> bytes:
    """What goes upstream: the client's own bytes wherever nothing has to change.

    `include_usage` counts for streams only. `output_cap` goes into the fields with which the client
    limits the output already, if they allow more, else into `cap_field`.
    """
    changes: dict[str, Any] = dict(namespaced) if namespaced else {}
    if upstream_model != request.model:
        changes["model"] = upstream_model
    if include_usage and request.stream and not request.include_usage:
        changes["stream_options"] = {"include_usage": True}
    if output_cap is not None:
        changes.update(_capped(request, output_cap, cap_field))
    return splice(request.body, request, changes=changes) if changes else request.body


def _capped(request: ChatRequest, cap: int, cap_field: str) -> dict[str, int]:
    limits = {
        "max_completion_tokens": request.max_completion_tokens,
        "max_tokens": request.max_tokens,
    }
    used = {field: limit for field, limit in limits.items() if limit is not None}
    if not used:
        return {cap_field: cap}
    return {field: cap for field, limit in used.items() if limit > cap}


def _opaque_parts(values: Mapping[str, Any]) -> int:
    messages: list[_Message] | None = values.get("messages")
    if messages is None:
        raise missing("messages")
    if not messages:
        raise empty("messages")
    return _opaque_parts_of(messages)


def _opaque_parts_of(messages: list[_Message]) -> int:
    opaque = 0
    for message in messages:
        if message.audio is not None:
            opaque += 1
        content = message.content
        if content.__class__ is list:
            opaque += sum(part.type not in _PARTS_OF_TEXT for part in content)
    return opaque
