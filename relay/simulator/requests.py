"""The body of a chat completion call: decoded as far as the simulator reads it, and validated."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from relay.simulator.errors import Refusal, bad_request, model_not_found
from relay.simulator.knobs import NO_KNOBS, Knobs, StreamFault

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
PART_TYPES = ("text", "image_url", "input_audio", "refusal", "file")
MAX_EVENTS = 20_000
MAX_MESSAGES = 2_048
MAX_SPOKEN_CHARACTERS = 1_000_000
_MODEL = re.compile(r"(?!unknown)[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_STREAM_FAULTS = frozenset(get_args(StreamFault))


class Part(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: dict[str, Any] | None = None


class FunctionCall(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class CustomCall(msgspec.Struct, frozen=True):
    name: str = ""
    input: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None

    def texts(self) -> Iterator[str]:
        """The texts of the content, in order."""
        if isinstance(self.content, str):
            yield self.content
            return
        for part in self.content or ():
            yield part.text or part.refusal or ""


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    description: str | None = None


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    function: Function | None = None
    custom: Named | None = None


class JsonSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str = ""
    messages: list[Message] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[Function] | None = None
    function_call: str | Named | None = None
    response_format: ResponseFormat | None = None
    service_tier: str | None = None
    seed: int | None = None
    simulate: Knobs | None = None

    @property
    def knobs(self) -> Knobs:
        return self.simulate or NO_KNOBS

    @property
    def conversation(self) -> list[Message]:
        return self.messages or []

    @property
    def token_limit(self) -> int | None:
        """The most tokens of one choice: the smaller one if both fields are there."""
        limits = (self.max_tokens, self.max_completion_tokens)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


_DECODER = msgspec.json.Decoder(ChatRequest)


def request_parse(body: bytes) -> ChatRequest:
    """Raises Refusal."""
    try:
        request = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise _type_refusal(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request("We could not parse the JSON body of your request.") from error
    if not request.model:
        raise bad_request("you must provide a model parameter")
    if request.messages is None:
        raise _missing("messages")
    if not request.messages:
        raise bad_request(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    if len(request.messages) > MAX_MESSAGES:
        raise bad_request(
            f"Invalid 'messages': array too long. Expected an array with maximum length "
            f"{MAX_MESSAGES}, but got an array with length {len(request.messages)} instead.",
            param="messages",
            code="array_above_max_length",
        )
    if not model_is_known(request.model):
        raise model_not_found(request.model)
    for index, message in enumerate(request.messages):
        _message_check(message, param=f"messages[{index}]")
    _options_check(request)
    _knobs_check(request)
    return request


def model_is_known(model: str) -> bool:
    return _MODEL.fullmatch(model) is not None


def _type_refusal(reason: str) -> Refusal:
    problem, _, place = reason.partition(" - at `$.")
    param = place.rstrip("`") or None
    if problem.startswith("Object missing required field"):
        field = problem.split("`")[1]
        return _missing(f"{param}.{field}" if param else field)
    subject = f"'{param}'" if param else "the request body"
    return bad_request(f"Invalid type for {subject}: {problem}.", param=param, code="invalid_type")


def _missing(param: str) -> Refusal:
    message = f"Missing required parameter: '{param}'."
    return bad_request(message, param=param, code="missing_required_parameter")


def _value_refusal(value: str, *, param: str, supported: tuple[str, ...]) -> Refusal:
    names = ", ".join(f"'{name}'" for name in supported)
    message = f"Invalid value: '{value}'. Supported values are: {names}."
    return bad_request(message, param=param, code="invalid_value")


def _message_check(message: Message, *, param: str) -> None:
    if message.role not in ROLES:
        raise _value_refusal(message.role, param=f"{param}.role", supported=ROLES)
    if message.content is None and message.role != "assistant":
        raise bad_request(
            f"Invalid value for 'content': expected a string, got null. ({param}.content)",
            param=f"{param}.content",
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise _missing(f"{param}.tool_call_id")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            if part.type not in PART_TYPES:
                place = f"{param}.content[{index}].type"
                raise _value_refusal(part.type, param=place, supported=PART_TYPES)


def _options_check(request: ChatRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise bad_request(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            param="top_logprobs",
        )
    for index, tool in enumerate(request.tools or ()):
        if tool.function is None and tool.custom is None:
            raise _missing(f"tools[{index}].function")
    form = request.response_format
    if form is None:
        return
    supported = ("json_object", "json_schema", "text")
    if form.type not in supported:
        raise _value_refusal(form.type, param="response_format.type", supported=supported)
    if form.type == "json_schema" and form.json_schema is None:
        raise _missing("response_format.json_schema")


def _knobs_check(request: ChatRequest) -> None:
    knobs = request.knobs
    if knobs.fault in _STREAM_FAULTS and (not request.stream or knobs.status is not None):
        raise bad_request(f"'{knobs.fault}' is a fault of a stream.", param="simulate.fault")
    if (request.n or 1) * (knobs.chunks or 1) > MAX_EVENTS:
        raise bad_request(f"'n' times 'chunks' is above {MAX_EVENTS}.", param="simulate.chunks")
    if (request.n or 1) * len(knobs.text or "") > MAX_SPOKEN_CHARACTERS:
        raise bad_request("The text is too long.", param="simulate.text")
