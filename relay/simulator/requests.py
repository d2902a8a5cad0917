"""The body of a chat completion call: decoded as far as the simulator reads it, and validated."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from relay.simulator.catalogue import model_is_known
from relay.simulator.decoding import body_decode, knobs_check, missing, value_refusal
from relay.simulator.errors import bad_request, model_not_found
from relay.simulator.knobs import NO_KNOBS, Knobs

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
PART_TYPES = ("text", "image_url", "input_audio", "refusal", "file")
MAX_MESSAGES = 2_048


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
    web_search_options: dict[str, Any] | None = None
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
    request = body_decode(body, decoder=_DECODER)
    if not request.model:
        raise bad_request("you must provide a model parameter")
    if request.messages is None:
        raise missing("messages")
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
    knobs_check(request.knobs, stream=bool(request.stream), count=request.n or 1)
    return request


def _message_check(message: Message, *, param: str) -> None:
    if message.role not in ROLES:
        raise value_refusal(message.role, param=f"{param}.role", supported=ROLES)
    if message.content is None and message.role != "assistant":
        raise bad_request(
            f"Invalid value for 'content': expected a string, got null. ({param}.content)",
            param=f"{param}.content",
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise missing(f"{param}.tool_call_id")
    if isinstance(message.content, list):
        for index, part in enumerate(message.content):
            if part.type not in PART_TYPES:
                place = f"{param}.content[{index}].type"
                raise value_refusal(part.type, param=place, supported=PART_TYPES)


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
            raise missing(f"tools[{index}].function")
    form = request.response_format
    if form is None:
        return
    supported = ("json_object", "json_schema", "text")
    if form.type not in supported:
        raise value_refusal(form.type, param="response_format.type", supported=supported)
    if form.type == "json_schema" and form.json_schema is None:
        raise missing("response_format.json_schema")
