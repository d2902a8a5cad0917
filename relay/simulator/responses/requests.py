"""What `POST /v1/responses` and its kin take."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from relay.simulator.catalogue import model_is_known
from relay.simulator.decoding import body_decode, knobs_check, missing
from relay.simulator.errors import bad_request, model_not_found
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.tokens import Tokenizer
from relay.simulator.usage import (
    TOKENS_PER_AUDIO,
    TOKENS_PER_FILE,
    TOKENS_PER_IMAGE,
    TOKENS_PER_LOW_IMAGE,
    TOKENS_PER_MESSAGE,
    TOKENS_TO_PRIME,
)

LEAST_OUTPUT_TOKENS = 16
_ROLES = ("user", "assistant", "system", "developer")
Json = dict[str, Any]


class ResponseRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    input: str | list[Json] | None = None
    instructions: str | None = None
    stream: bool | None = None
    stream_options: Json | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Json | None = None
    prompt: Json | None = None
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=LEAST_OUTPUT_TOKENS)] | None = None
    text: Json | None = None
    reasoning: Json | None = None
    include: list[str] | None = None
    service_tier: str | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    simulate: Knobs | None = None

    @property
    def knobs(self) -> Knobs:
        return self.simulate or NO_KNOBS

    @property
    def model_name(self) -> str:
        assert self.model is not None, "the request was not checked"
        return self.model

    @property
    def items(self) -> list[Json]:
        """The input as items."""
        if isinstance(self.input, str):
            return [{"type": "message", "role": "user", "content": self.input}]
        return self.input or []

    @property
    def conversation_id(self) -> str | None:
        """Raises Refusal."""
        conversation = self.conversation
        if isinstance(conversation, dict):
            conversation = conversation.get("id")
            if not isinstance(conversation, str):
                raise missing("conversation.id")
        return conversation

    def includes(self, what: str) -> bool:
        return what in (self.include or ())


_DECODER = msgspec.json.Decoder(ResponseRequest)


def response_request_parse(body: bytes) -> ResponseRequest:
    """Raises Refusal."""
    request = body_decode(body, decoder=_DECODER)
    if not request.model:
        raise missing("model")
    if not model_is_known(request.model):
        raise model_not_found(request.model)
    if request.stream_options is not None and not request.stream:
        raise bad_request(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )
    if request.previous_response_id is not None and request.conversation is not None:
        raise bad_request(
            "'previous_response_id' and 'conversation' cannot be used together.",
            param="previous_response_id",
        )
    if request.background and request.store is False:
        raise bad_request("Background responses must be stored.", param="store")
    if request.input is None and not request.conversation and not request.prompt:
        raise missing("input")
    items_check(request.items, param="input")
    knobs_check(request.knobs, stream=bool(request.stream), is_response=True)
    return request


def items_check(items: list[Json], *, param: str) -> None:
    """Raises Refusal."""
    for index, item in enumerate(items):
        _item_check(item, param=f"{param}[{index}]")


def _item_check(item: Json, *, param: str) -> None:
    kind = item.get("type", "message")
    if not isinstance(kind, str):
        raise bad_request(f"Invalid value: '{kind}'.", param=f"{param}.type")
    if kind != "message":
        return
    if item.get("role") not in _ROLES:
        raise bad_request(f"Invalid value: '{item.get('role')}'.", param=f"{param}.role")
    content = item.get("content")
    if not isinstance(content, str | list):
        raise missing(f"{param}.content")
    parts: list[Any] = content if isinstance(content, list) else []
    if not all(isinstance(part, dict) and "type" in part for part in parts):
        raise missing(f"{param}.content[0].type")


def parts_of(item: Json) -> list[Json]:
    content = item.get("content")
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return _dicts(content)


def _dicts(value: Any) -> list[Json]:
    """What of the value can be looked into."""
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def item_text(item: Json) -> str:
    return " ".join(str(part.get("text") or part.get("refusal") or "") for part in parts_of(item))


def input_tokens(request: ResponseRequest, *, context: list[Json], tokenizer: Tokenizer) -> int:
    """The tokens of the context (what was said before) and of the request."""
    items = [*context, *request.items]
    strings = [request.instructions or "", *(text for item in items for text in _strings(item))]
    if request.tools:
        strings.append(msgspec.json.encode(request.tools).decode())
    if request.text:
        strings.append(msgspec.json.encode(request.text).decode())
    fixed = TOKENS_TO_PRIME + TOKENS_PER_MESSAGE * (len(items) + bool(request.instructions))
    fixed += sum(_part_tokens(part) for item in items for part in parts_of(item))
    return fixed + tokenizer.count_all(strings)


def _strings(item: Json) -> Iterator[str]:
    for field in ("role", "name", "arguments", "output", "input", "encrypted_content", "code"):
        value = item.get(field)
        if isinstance(value, str):
            yield value
    for part in [*parts_of(item), *_dicts(item.get("summary"))]:
        text = part.get("text") or part.get("refusal")
        if isinstance(text, str):
            yield text


def _part_tokens(part: Json) -> int:
    if part.get("type") == "input_image":
        return TOKENS_PER_LOW_IMAGE if part.get("detail") == "low" else TOKENS_PER_IMAGE
    return {"input_audio": TOKENS_PER_AUDIO, "input_file": TOKENS_PER_FILE}.get(
        str(part.get("type")), 0
    )
