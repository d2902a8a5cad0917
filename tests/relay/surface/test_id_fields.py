"""No id of the official specification is forgotten: each is checked, or known to name nothing.

When the specification is read anew and has more fields, this fails until somebody has looked.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay.tenancy.references import ID_FIELDS

SPECIFICATION = json.loads(Path(__file__).with_name("official_bodies.json").read_bytes())
SCHEMAS: dict[str, Any] = SPECIFICATION["components"]["schemas"]
LOOKS_LIKE_AN_ID = re.compile(r"id|.*_ids?|container|conversation|voice|skills?")
# Names of things within the request itself, or of what all of upstream's customers have.
NAME_NOTHING_KEPT = {
    "call_id": "the call of a tool and its output, both in the input",
    "caller_id": "the program that called, in the input as well",
    "tool_call_id": "the same in a chat",
    "connector_id": "one of upstream's own list of connectors; its credential is the client's",
    "skills": "a list of objects, which have a skill_id",
}
# What has an `id` that upstream looks up.
KEPT = {
    "ChatCompletionRequestAssistantMessage",  # Of a recording.
    "ConversationParam-2",
    "ImageGenToolCall",
    "ItemReferenceParam",
    "Prompt",
    "ReasoningItem",
    "VoiceIdsOrCustomVoice",
}
# All others with an `id` say the rest themselves.
TELLS_ITSELF = {
    "AdditionalToolsItemParam",
    "ApplyPatchToolCallItemParam",
    "ApplyPatchToolCallOutputItemParam",
    "ChatCompletionMessageCustomToolCall",
    "ChatCompletionMessageToolCall",
    "CodeInterpreterToolCall",
    "CompactionSummaryItemParam",
    "ComputerCallOutputItemParam",
    "ComputerCallSafetyCheckParam",
    "ComputerToolCall",
    "CustomToolCall",
    "CustomToolCallOutput",
    "FileSearchToolCall",
    "FunctionCallOutputItemParam",
    "FunctionShellCallItemParam",
    "FunctionShellCallOutputItemParam",
    "FunctionToolCall",
    "LocalShellToolCall",
    "LocalShellToolCallOutput",
    "MCPApprovalRequest",
    "MCPApprovalResponse",
    "MCPListTools",
    "MCPToolCall",
    "OutputMessage",
    "ProgramItemParam",
    "ProgramOutputItemParam",
    "ToolSearchCallItemParam",
    "ToolSearchOutputItemParam",
    "WebSearchToolCall",
}


def properties(schema: Any) -> Iterator[str]:
    """The names of all members that it describes, but not those of the schemas it refers to."""
    if isinstance(schema, list):
        for one in schema:
            yield from properties(one)
    elif isinstance(schema, dict):
        yield from schema.get("properties", {})
        for below in schema.values():
            yield from properties(below)


def fields() -> set[tuple[str, str]]:
    """Each schema that a request may have, and each of its members that looks like an id."""
    everything = [("", SPECIFICATION["paths"]), *SCHEMAS.items()]
    return {
        (schema, name)
        for schema, value in everything
        for name in properties(value)
        if LOOKS_LIKE_AN_ID.fullmatch(name)
    }


def test_every_id_field_is_checked_or_names_nothing() -> None:
    names = {name for _, name in fields()} - {"id"}
    assert names - {*ID_FIELDS, *NAME_NOTHING_KEPT} == set()
    assert NAME_NOTHING_KEPT.keys() - names == set()


def test_every_id_of_an_item_is_looked_up_or_tells_itself() -> None:
    assert {schema for schema, name in fields() if name == "id"} == KEPT | TELLS_ITSELF
