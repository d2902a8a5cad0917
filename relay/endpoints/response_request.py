"""Reads the bodies of the Responses API: what routing, billing and ownership depend on. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from billing.pricing import (
    FILE_SEARCH_CALLS,
    IMAGE_GENERATION_CALLS,
    WEB_SEARCH_CALLS,
    PriceTerms,
    code_interpreter_unit,
)
from relay.bodies.fields import (
    COMMON,
    MAX_OUTPUT_TOKENS,
    Decoders,
    InvalidRequest,
    decoder,
    in_range,
    members_of,
    model_of,
    namespaced_of,
    values_of,
)
from relay.bodies.json_members import Members
from relay.metering.reservation import Needs
from relay.metering.tokenizer import TOKENS_PER_OPAQUE_PART
from relay.tenancy.references import Reference, id_references

# Of calls that upstream makes to tools on its own, where the client does not limit them.
USUAL_TOOL_CALLS: Final = 4
MAX_TOOL_CALLS: Final = 10_000
# What went before in a conversation that upstream keeps, for standard holds.
USUAL_HISTORY_TOKENS: Final = 8_000

_REFERRING: Final = frozenset(
    {"previous_response_id", "conversation", "prompt", "input", "tools", "tool_choice"}
)
_PARTS: Final = re.compile(rb'"input_(?:image|file|audio)"|"computer_screenshot"|\\u00[567]')
_SEARCHES: Final = ("web_search", "web_search_preview")


class Container(msgspec.Struct, gc=False):
    memory_limit: str | None = None


class Tool(msgspec.Struct, gc=False):
    type: str = ""
    container: str | Container | None = None


class ResponseRequest(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    members: Members
    model: str
    stream: bool
    service_tier: str | None
    namespaced: dict[str, str]
    max_output_tokens: int | None
    max_tool_calls: int | None
    fee_units: Mapping[str, str]
    """The unit of each tool that upstream may run for a fee, by the type of its calls."""
    references: list[Reference]
    opaque_parts: int
    has_history: bool
    """Upstream puts what it keeps before the input."""
    can_cap: bool
    is_stored: bool
    """Upstream keeps the response, so that a later request may name it."""

    @property
    def is_opaque(self) -> bool:
        """The prompt is more than what the request shows."""
        return bool(self.opaque_parts or self.has_history or self.references or self.fee_units)

    def needs(self, prompt_bytes: int, terms: PriceTerms) -> Needs:
        history = USUAL_HISTORY_TOKENS if self.has_history else 0
        return Needs(
            prompt_bytes=prompt_bytes,
            is_opaque=self.is_opaque,
            usual_prompt=prompt_bytes + self.opaque_parts * TOKENS_PER_OPAQUE_PART + history,
            output_limit=self.max_output_tokens,
            can_cap=self.can_cap,
            service_tier=self.service_tier,
            fees=self.fees(terms),
        )

    def fees(self, terms: PriceTerms) -> dict[str, int]:
        """The dearest of the tools, called as often as it may be. Raises InvalidRequest."""
        units = set(self.fee_units.values())
        for unit in units:
            if not terms.prices_unit(unit):
                raise InvalidRequest(
                    f"Invalid value for 'tools': the model has no price for {unit}.",
                    param="tools",
                    code="unsupported_value",
                )
        calls = USUAL_TOOL_CALLS if self.max_tool_calls is None else self.max_tool_calls
        if not units or not calls:
            return {}
        return {max(units, key=lambda unit: terms.unit_rates[unit].pico_usd): calls}


_METERED: Final[Decoders] = {
    **COMMON,
    "input": decoder(Raw),
    "background": decoder(bool | None),
    "max_output_tokens": decoder(int | None),
    "max_tool_calls": decoder(int | None),
    "store": decoder(bool | None),
    "tools": decoder(list[Tool] | None),
    "tool_choice": decoder(Raw),
    "previous_response_id": decoder(str | None),
    "conversation": decoder(Raw),
    "prompt": decoder(Raw),
}


def parse_response(body: bytes, *, can_cap: bool = True) -> ResponseRequest:
    """Raises InvalidRequest. `can_cap`: the endpoint has a field for the length of the output."""
    members = members_of(body)
    values = values_of(members, _METERED)
    if values.get("background"):
        raise InvalidRequest(
            "Background responses are not offered yet: leave 'background' out.",
            param="background",
            code="unsupported_value",
        )
    tools: list[Tool] = values.get("tools") or []
    return ResponseRequest(
        body=body,
        members=members,
        model=model_of(values),
        stream=can_cap and values.get("stream") is True,
        service_tier=values.get("service_tier"),
        namespaced=namespaced_of(values),
        max_output_tokens=in_range(values, "max_output_tokens", MAX_OUTPUT_TOKENS),
        max_tool_calls=in_range(values, "max_tool_calls", MAX_TOOL_CALLS, least=0),
        fee_units=_fee_units(tools),
        references=_references(members),
        opaque_parts=_opaque_parts(values.get("input")),
        has_history=any(
            _is_given(values.get(name)) for name in ("previous_response_id", "conversation")
        ),
        can_cap=can_cap,
        is_stored=values.get("store") is not False,
    )


def _references(members: Members) -> list[Reference]:
    try:
        return id_references(members, _REFERRING)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The request body could not be read as JSON: {error}.") from None


def _is_given(value: object) -> bool:
    return value is not None and not (isinstance(value, Raw) and bytes(value) == b"null")


def _fee_units(tools: list[Tool]) -> dict[str, str]:
    units: dict[str, str] = {}
    for tool in tools:
        if tool.type.startswith(_SEARCHES):
            units["web_search_call"] = WEB_SEARCH_CALLS
        elif tool.type == "file_search":
            units["file_search_call"] = FILE_SEARCH_CALLS
        elif tool.type == "image_generation":
            units["image_generation_call"] = IMAGE_GENERATION_CALLS
        elif tool.type in {"code_interpreter", "shell"}:
            limit = tool.container.memory_limit if isinstance(tool.container, Container) else None
            units["code_interpreter_call"] = code_interpreter_unit(limit)
    return units


def _opaque_parts(given: Raw | None) -> int:
    """How many pictures, files and recordings the input has, at least where there are any."""
    if given is None or memoryview(given)[:1].tobytes() == b'"':
        return 0
    return len(_PARTS.findall(given))


def texts_of(request: ResponseRequest) -> list[str]:
    """What the model reads of the request's plain texts, for those who count it closely."""
    texts: list[str] = []
    for name, raw in request.members.items():
        if str(name) == "instructions":
            texts += _plain(msgspec.json.decode(raw))
        elif str(name) == "input":
            given = msgspec.json.decode(raw)
            for item in given if isinstance(given, list) else [given]:
                texts += _plain(item.get("content") if isinstance(item, dict) else item)
    return texts


def _plain(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]
