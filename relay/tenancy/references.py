"""Finds the ids in a request that name what upstream keeps: responses, files, containers. Pure.

All tenants share upstream's account, so each of these ids must be one that was handed out to the
organization that sends it. What is not found here is not checked: rather one field too many.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw


class Reference(NamedTuple):
    """An id in a request, and the field that it is in."""

    field: str
    id: str


# Wherever they are in a request: each is an id, a list of ids, or an object with an id.
ID_FIELDS: Final = (
    "previous_response_id",
    "conversation",
    "prompt",
    "file_id",
    "file_ids",
    "vector_store_ids",
    "container",
    "container_id",
    "skill_id",
    "tunnel_id",
    "voice",
    "approval_request_id",
)
# Of these, the objects have an `id`.
_OBJECTS: Final = ("conversation", "prompt", "voice")
# Without them, and without names that are spelled in escapes, a text has none of the fields.
_SUSPECT: Final = re.compile(
    rb'"(?:previous_response_id|conversation|prompt|file_ids?|vector_store_ids|container(?:_id)?'
    rb'|skill_id|tunnel_id|voice|approval_request_id|id|type)"\s*:|\\u00[567]'
)
# What a later request may name of these items, upstream looks up by their id; all other items say
# everything themselves, and their ids are of no use.
_KEPT_ITEMS: Final = {"reasoning": "encrypted_content", "image_generation_call": "result"}


def id_references(members: Mapping[Any, Raw], fields: frozenset[str]) -> list[Reference]:
    """The ids in these top-level fields of a body, in the order of the body, each once."""
    found: dict[Reference, None] = {}
    for unique_name, raw in members.items():
        name = str(unique_name)
        if name not in fields:
            continue
        if name in ID_FIELDS:
            found.update(dict.fromkeys(_ids(name, msgspec.json.decode(raw))))
        elif _SUSPECT.search(raw):
            value = msgspec.json.decode(raw)
            if isinstance(value, list):
                find = _item_references if name == "input" else _recordings
                found.update(dict.fromkeys(find(value)))
            found.update(dict.fromkeys(_inside(value, name)))
    return list(found)


def _item_references(items: list[Any]) -> Iterator[Reference]:
    for item in items:
        if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
            continue
        kind = item.get("type")
        # The type of a reference may be left out; a message without a type has a role.
        is_reference = kind == "item_reference" or (kind is None and "role" not in item)
        says_itself = _KEPT_ITEMS.get(kind) if isinstance(kind, str) else None
        if is_reference or (says_itself is not None and not item.get(says_itself)):
            yield Reference("input.id", item["id"])


def _recordings(messages: list[Any]) -> Iterator[Reference]:
    """What an assistant said in a chat, named instead of repeated."""
    for message in messages:
        audio = message.get("audio") if isinstance(message, Mapping) else None
        if isinstance(audio, Mapping) and isinstance(audio.get("id"), str):
            yield Reference("messages.audio.id", audio["id"])


def _inside(value: Any, path: str) -> Iterator[Reference]:
    """All ids below a value, however deep; it was decoded, so its depth is bounded."""
    if isinstance(value, list):
        for item in value:
            yield from _inside(item, path)
    elif isinstance(value, Mapping):
        for name, below in value.items():
            if name == "parameters" and value.get("type") == "function":
                continue  # It describes what the model may write, ids among it or not.
            field = f"{path}.{name}"
            if name in ID_FIELDS:
                yield from _ids(field, below)
            yield from _inside(below, field)


def _ids(field: str, value: Any) -> Iterator[Reference]:
    if isinstance(value, str):
        # A prompt that is a text, and a voice that everybody may use, are no ids.
        if value and not field.endswith((".prompt", "prompt.variables", "voice")):
            yield Reference(field, value)
    elif isinstance(value, list):
        for item in value:
            yield from _ids(field, item)
    elif isinstance(value, Mapping):
        inner = value.get("id") if field.endswith(_OBJECTS) else None
        if isinstance(inner, str):
            yield Reference(f"{field}.id", inner)
        yield from _inside(value, field)
