"""What the endpoints' requests have in common: how they are decoded, and how they are refused."""

from typing import Any, TypeVar, get_args

import msgspec

from relay.simulator.errors import Refusal, bad_request
from relay.simulator.knobs import Knobs, StreamFault

MAX_EVENTS = 20_000
MAX_SPOKEN_CHARACTERS = 1_000_000
_STREAM_FAULTS = frozenset(get_args(StreamFault))

Request = TypeVar("Request")


def body_decode(body: bytes, *, decoder: msgspec.json.Decoder[Request]) -> Request:
    """Raises Refusal."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise type_refusal(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request("We could not parse the JSON body of your request.") from error


def fields_convert(fields: dict[str, Any], *, kind: type[Request]) -> Request:
    """The fields of a form, whose values are text, as a request. Raises Refusal."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise type_refusal(str(error)) from error


def type_refusal(reason: str) -> Refusal:
    problem, _, place = reason.partition(" - at `$.")
    param = place.rstrip("`") or None
    if problem.startswith("Object missing required field"):
        field = problem.split("`")[1]
        return missing(f"{param}.{field}" if param else field)
    subject = f"'{param}'" if param else "the request body"
    return bad_request(f"Invalid type for {subject}: {problem}.", param=param, code="invalid_type")


def missing(param: str) -> Refusal:
    message = f"Missing required parameter: '{param}'."
    return bad_request(message, param=param, code="missing_required_parameter")


def value_refusal(value: str, *, param: str, supported: tuple[str, ...]) -> Refusal:
    names = ", ".join(f"'{name}'" for name in supported)
    message = f"Invalid value: '{value}'. Supported values are: {names}."
    return bad_request(message, param=param, code="invalid_value")


# Only responses are made up of what these knobs are about.
_OF_RESPONSES = (
    "failed",
    "reasoning",
    "reasoning_text",
    "web_search_actions",
    "file_search_calls",
    "code_interpreter_calls",
    "image_generation_calls",
    "tool_usage",
    "later",
)


def knobs_check(knobs: Knobs, *, stream: bool, count: int = 1, is_response: bool = False) -> None:
    """Raises Refusal for knobs that a request of this kind cannot have."""
    for name in () if is_response else _OF_RESPONSES:
        if getattr(knobs, name) not in (None, False):
            raise bad_request(f"'{name}' is about responses.", param=f"simulate.{name}")
    if knobs.fault in _STREAM_FAULTS and (not stream or knobs.status is not None):
        raise bad_request(f"'{knobs.fault}' is a fault of a stream.", param="simulate.fault")
    if knobs.framing is not None and not stream:
        raise bad_request("Only a stream has a framing.", param="simulate.framing")
    if count * (knobs.chunks or 1) > MAX_EVENTS:
        raise bad_request(f"'n' times 'chunks' is above {MAX_EVENTS}.", param="simulate.chunks")
    if count * len(knobs.text or "") > MAX_SPOKEN_CHARACTERS:
        raise bad_request("The text is too long.", param="simulate.text")
