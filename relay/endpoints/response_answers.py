"""Reads what the Responses API says: whole responses, and the items that they are made of. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from relay.bodies.json_members import read_members, splice_members
from relay.errors import RelayError
from relay.upstream_errors import from_upstream_event

# Searches are paid; to open a page that was found, or to look for something in it, is not.
_FREE_ACTIONS: Final = frozenset({"open_page", "find_in_page", "find"})
# Who repeats an answer in the next request repeats what it cites: files that the code wrote.
_CITES: Final = re.compile(rb'"(?:file_id|container_id)"')
_TEXTS: Final = frozenset(
    {"text", "refusal", "arguments", "name", "input", "code", "transcript", "summary", "content"}
)

_OUR_CODES: Final = frozenset({"upstream_error", "upstream_timeout", "server_draining"})


class _Action(msgspec.Struct, gc=False):
    type: Any = None


class Item(msgspec.Struct, gc=False):
    """An output item, as far as billing and ownership look at it."""

    type: Any = None
    id: Any = None
    status: Any = None
    action: Any = None
    container_id: Any = None
    content: Raw = Raw()

    def ids(self, *, is_stored: bool) -> Iterator[str]:
        """What a later request may name: of a response that is not stored, only its containers."""
        if isinstance(self.id, str) and is_stored:
            yield self.id
        if isinstance(self.container_id, str):
            yield self.container_id
        if self.type == "message" and _CITES.search(self.content):
            yield from _cited(msgspec.json.decode(self.content))


def _cited(content: object) -> Iterator[str]:
    parts = content if isinstance(content, list) else ()
    for part in parts:
        annotations = part.get("annotations") if isinstance(part, Mapping) else None
        for one in annotations if isinstance(annotations, list) else ():
            if isinstance(one, Mapping):
                named = (one.get("file_id"), one.get("container_id"))
                yield from (value for value in named if isinstance(value, str))


class ToolCalls:
    """What upstream has run for a fee: by the type of the calls, as they end."""

    __slots__ = ("_containers", "_counts")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._containers: set[str] = set()

    def add(self, item: Item) -> None:
        kind = item.type
        if not isinstance(kind, str) or not kind.endswith("_call") or item.status != "completed":
            return
        if kind == "web_search_call" and _is_free(item.action):
            return
        if kind == "code_interpreter_call" and isinstance(item.container_id, str):
            # A session is paid once, however often something is run in it.
            if item.container_id in self._containers:
                return
            self._containers.add(item.container_id)
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def by_unit(self, units: Mapping[str, str]) -> dict[str, int]:
        """The calls of those tools that have a fee."""
        return {unit: self._counts[kind] for kind, unit in units.items() if kind in self._counts}


def _is_free(action: object) -> bool:
    return isinstance(action, Mapping) and action.get("type") in _FREE_ACTIONS


class Document(msgspec.Struct, gc=False):
    """A response, and whatever else has its shape."""

    id: Any = None
    object: Any = None
    status: Any = None
    model: Any = None
    error: Any = None
    usage: Any = None
    service_tier: Any = None
    output: Raw = Raw()

    def items(self) -> list[Item]:
        try:
            return _decode_items(self.output) if memoryview(self.output) else []
        except msgspec.ValidationError:
            return []

    def texts(self) -> str:
        """All that the model wrote, for an estimate when usage is missing."""
        if not memoryview(self.output):
            return ""
        return "\n".join(_texts_in(msgspec.json.decode(self.output)))


decode_document: Final = msgspec.json.Decoder(Document).decode
_decode_items: Final = msgspec.json.Decoder(list[Item]).decode


class ResponseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["completion", "error", "unreadable"]
    usage: object = None
    upstream_id: str | None = None
    served_tier: str | None = None
    error: RelayError | None = None
    body: bytes | None = None
    document: Document = msgspec.field(default_factory=Document)
    tools: ToolCalls = msgspec.field(default_factory=ToolCalls)
    ids: list[str] = []
    """What is handed out with the answer: the organization's own from now on."""

    def output_text(self) -> str:
        return self.document.texts()


_UNREADABLE: Final = ResponseAnswer(kind="unreadable")


def response_answer(body: bytes, *, is_stored: bool = True) -> ResponseAnswer:
    """Reads a response, or the items that a conversation was compacted to."""
    try:
        document = decode_document(body)
        if not body.isascii():
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNREADABLE
    is_response = isinstance(document.object, str) and document.object.startswith("response")
    if not is_response:
        if document.error:
            return ResponseAnswer(kind="error", error=from_upstream_event(document.error))
        return _UNREADABLE
    upstream_id = document.id if isinstance(document.id, str) else None
    tools, ids = ToolCalls(), [upstream_id] if upstream_id and is_stored else []
    for item in document.items():
        tools.add(item)
        ids += item.ids(is_stored=is_stored)
    return ResponseAnswer(
        kind="completion",
        usage=document.usage or None,
        upstream_id=upstream_id,
        served_tier=document.service_tier if isinstance(document.service_tier, str) else None,
        body=with_our_error(body, document.error) if document.error else None,
        document=document,
        tools=tools,
        ids=ids,
    )


def with_our_error(body: bytes, error: object) -> bytes:
    """A response that failed, without what upstream says of the operator's account."""
    return splice_members(body, read_members(body), {"error": our_error(error)})


def our_error(error: object) -> dict[str, str]:
    told = from_upstream_event(error)
    return {"code": error_code(told), "message": told.message}


def error_code(error: RelayError) -> str:
    """As a response says it: the vendor's list of these codes is closed, and ours are not in it."""
    return "server_error" if error.code in _OUR_CODES else error.code or "server_error"


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, dict):
        for name, below in value.items():
            if name in _TEXTS:
                yield from _texts_in(below)
