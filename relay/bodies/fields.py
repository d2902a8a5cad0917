"""Reads single fields of a JSON body, strictly: what is metered must be there once, or not at all.

Everything that is not asked for reaches upstream as the client's own bytes. A field that is asked
for and is there twice is refused, because upstream might read the other one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from relay.bodies.json_members import Members, read_members
from relay.errors import RelayError

Decoders = Mapping[str, msgspec.json.Decoder[Any]]

# No model writes more, and the worst cost of a call stays within 64 bits.
MAX_OUTPUT_TOKENS: Final = 2**31 - 1
# What names an end user or a cache: upstream sees all tenants under one account, so it gets each
# organization's values in a space of their own.
NAMESPACED: Final = ("user", "safety_identifier", "prompt_cache_key")

# Clients do not choose where the operator's credential goes.
DESTINATIONS: Final = frozenset({"api_base", "base_url", "api_key", "extra_headers", "extra_body"})


class InvalidRequest(RelayError):
    """The request can not be relayed as it is; the message says what is wrong with which field."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(status, message, param=param, code=code)


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


# What every JSON endpoint reads.
COMMON: Final[Decoders] = {
    "model": decoder(str | None),
    "stream": decoder(bool | None),
    "service_tier": decoder(str | None),
    **{name: decoder(str | None) for name in NAMESPACED},
}


def members_of(body: bytes) -> Members:
    """The members of a body that must be a JSON object. Raises InvalidRequest."""
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


def values_of(members: Members, decoders: Decoders, within: str = "") -> dict[str, Any]:
    """The fields that there are decoders for. Raises InvalidRequest."""
    values: dict[str, Any] = {}
    for unique_name, raw in members.items():
        name = str(unique_name)
        decoder = decoders.get(name)
        if decoder is None:
            if name in DESTINATIONS and not within:
                raise unknown_destination(name)
        elif name in values:
            raise InvalidRequest(
                f"The field '{within}{name}' is there more than once.",
                param=within + name,
                code="duplicate_parameter",
            )
        else:
            values[name] = value_of(decoder, raw, within + name)
    return values


def refuse_destinations(names: Iterable[str]) -> None:
    """For bodies that are no JSON. Raises InvalidRequest."""
    for name in names:
        if name in DESTINATIONS:
            raise unknown_destination(name)


def unknown_destination(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unknown parameter: '{name}'. The gateway chooses where a request goes.",
        param=name,
        code="unknown_parameter",
    )


def value_of(decoder: msgspec.json.Decoder[Any], raw: Raw, param: str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"Invalid value for '{param}': {error}.", param=param, code="invalid_type"
        ) from None


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def empty(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid value for '{param}': it must not be empty.", param=param, code="empty_array"
    )


def model_of(values: Mapping[str, Any], default: str = "") -> str:
    """Raises InvalidRequest."""
    model: str = values.get("model") or default
    if not model:
        raise missing("model")
    return model


def in_range(values: Mapping[str, Any], name: str, most: int, *, least: int = 1) -> int | None:
    """A whole number within its bounds, or None if there is none. Raises InvalidRequest."""
    value: int | None = values.get(name)
    if value is None or least <= value <= most:
        return value
    bound, code = (
        (f"at least {least}", "below_min") if value < least else (f"at most {most}", "above_max")
    )
    raise InvalidRequest(
        f"Invalid value for '{name}': it must be {bound}.", param=name, code=f"integer_{code}_value"
    )


def namespaced_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The values that upstream must not see as they are."""
    return {name: value for name in NAMESPACED if (value := values.get(name))}


def includes_usage(options: Raw) -> bool:
    """Whether `stream_options` ask for the usage of a stream. Raises InvalidRequest."""
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
    return values_of(members, _STREAM_OPTIONS, "stream_options.").get("include_usage") is True


_STREAM_OPTIONS: Final = {"include_usage": decoder(bool | None)}
