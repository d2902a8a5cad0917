"""Reads the fields of a chat request that routing and billing depend on, and changes no others.

Only the metered fields are decoded; everything else reaches upstream as the client's own bytes. A
metered field that is there twice is refused, because upstream might read the other one.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from relay.errors import RelayError
from relay.json_members import Members, read_members, splice_members

MAX_CHOICES: Final = 128
# No model writes more, and the worst cost of a call stays within 64 bits.
MAX_OUTPUT_TOKENS: Final = 2**31 - 1

_PARTS_OF_TEXT: Final = frozenset({"text", "refusal"})
# Clients do not choose where the operator's credential goes.
_DESTINATIONS: Final = frozenset({"api_base", "base_url", "api_key", "extra_headers", "extra_body"})


class InvalidRequest(RelayError):
    """The request can not be relayed as it is; the message says what is wrong with which field."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(status, message, param=param, code=code)


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
    predicted_bytes: int
    """The length of the answer that the client predicts: what of it is wrong is paid as output."""

    @property
    def output_limit(self) -> int | None:
        """The most output tokens per choice that the client allows, whichever field counts."""
        limits = [x for x in (self.max_tokens, self.max_completion_tokens) if x is not None]
        return max(limits, default=None)


class _Part(msgspec.Struct, gc=False):
    type: str = ""


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    audio: dict[str, Any] | None = None


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_METERED: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "model": _decoder(str | None),
    "messages": _decoder(list[_Message]),
    "stream": _decoder(bool | None),
    "stream_options": _decoder(Raw),
    "n": _decoder(int | None),
    "max_tokens": _decoder(int | None),
    "max_completion_tokens": _decoder(int | None),
    "service_tier": _decoder(str | None),
    "tools": _decoder(list[Raw] | None),
    "functions": _decoder(list[Raw] | None),
    "modalities": _decoder(list[str] | None),
    "web_search_options": _decoder(dict[str, Raw] | None),
    "prediction": _decoder(Raw),
}
_STREAM_OPTIONS: Final = {"include_usage": _decoder(bool | None)}


def parse_chat(body: bytes) -> ChatRequest:
    """Reads the body of POST /chat/completions. Raises InvalidRequest."""
    members = _members(body)
    values = _values(members, _METERED)
    stream = values.get("stream") is True
    options = values.get("stream_options")
    modalities = values.get("modalities")
    return ChatRequest(
        body=body,
        members=members,
        model=_model(values),
        stream=stream,
        include_usage=options is not None and _includes_usage(options) and stream,
        n=_in_range(values, "n", MAX_CHOICES) or 1,
        max_tokens=_in_range(values, "max_tokens", MAX_OUTPUT_TOKENS),
        max_completion_tokens=_in_range(values, "max_completion_tokens", MAX_OUTPUT_TOKENS),
        service_tier=values.get("service_tier"),
        opaque_parts=_opaque_parts(values),
        has_tools=bool(values.get("tools") or values.get("functions")),
        wants_audio=modalities is not None and "audio" in modalities,
        searches_web=values.get("web_search_options") is not None,
        predicted_bytes=len(memoryview(values.get("prediction", b""))),
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
) -> bytes:
    """What goes upstream: the client's own bytes wherever nothing has to change.

    `include_usage` counts for streams only. `output_cap` goes into the fields with which the client
    limits the output already, if they allow more, else into `cap_field`.
    """
    changes: dict[str, Any] = {}
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


def _members(body: bytes) -> Members:
    try:
        members = read_members(body)
        if not body.isascii():
            body.decode()
    except msgspec.ValidationError:
        raise InvalidRequest("The request body must be a JSON object.") from None
    except RecursionError:
        raise InvalidRequest("The JSON of the request body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The request body could not be read as JSON: {error}.") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The request body is not valid UTF-8 (byte {error.start}).") from None
    return members


def _values(
    members: Members, decoders: Mapping[str, msgspec.json.Decoder[Any]], within: str = ""
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for unique_name, raw in members.items():
        name = str(unique_name)
        decoder = decoders.get(name)
        if decoder is None:
            if name in _DESTINATIONS and not within:
                raise InvalidRequest(
                    f"Unknown parameter: '{name}'. The gateway chooses where a request goes.",
                    param=name,
                    code="unknown_parameter",
                )
        elif name in values:
            raise InvalidRequest(
                f"The field '{within}{name}' is there more than once.",
                param=within + name,
                code="duplicate_parameter",
            )
        else:
            values[name] = _value(decoder, raw, within + name)
    return values


def _value(decoder: msgspec.json.Decoder[Any], raw: Raw, param: str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"Invalid value for '{param}': {error}.", param=param, code="invalid_type"
        ) from None


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def _model(values: Mapping[str, Any]) -> str:
    model: str | None = values.get("model")
    if not model:
        raise _missing("model")
    return model


def _includes_usage(options: Raw) -> bool:
    if bytes(options) == b"null":
        return False
    try:
        members = read_members(options)
    except msgspec.ValidationError:
        raise InvalidRequest(
            "Invalid value for 'stream_options': it must be an object or null.",
            param="stream_options",
            code="invalid_type",
        ) from None
    return _values(members, _STREAM_OPTIONS, "stream_options.").get("include_usage") is True


def _in_range(values: Mapping[str, Any], name: str, most: int) -> int | None:
    value: int | None = values.get(name)
    if value is None or 1 <= value <= most:
        return value
    bound, code = ("at least 1", "below_min") if value < 1 else (f"at most {most}", "above_max")
    raise InvalidRequest(
        f"Invalid value for '{name}': it must be {bound}.", param=name, code=f"integer_{code}_value"
    )


def _opaque_parts(values: Mapping[str, Any]) -> int:
    messages: list[_Message] | None = values.get("messages")
    if messages is None:
        raise _missing("messages")
    if not messages:
        raise InvalidRequest(
            "Invalid value for 'messages': it must not be empty.",
            param="messages",
            code="empty_array",
        )
    opaque = 0
    for message in messages:
        if message.audio is not None:
            opaque += 1
        content = message.content
        if content.__class__ is list:
            opaque += sum(part.type not in _PARTS_OF_TEXT for part in content)
    return opaque
