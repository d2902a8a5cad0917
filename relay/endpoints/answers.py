"""Reads whole JSON answers in which nothing counts but their usage. Pure."""

from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from relay.errors import RelayError
from relay.upstream_errors import from_upstream_event


class JsonAnswer(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["completion", "error", "unreadable"]
    usage: object = None
    upstream_id: str | None = None
    served_tier: str | None = None
    error: RelayError | None = None
    body: bytes | None = None
    ids: list[str] = []
    text: str = ""

    def output_text(self) -> str:
        return self.text


class _Document(msgspec.Struct, gc=False):
    id: Any = None
    error: Any = None
    usage: Any = None
    service_tier: Any = None
    data: Raw = Raw()
    results: Raw = Raw()
    object: Any = None


class _Item(msgspec.Struct, gc=False):
    id: Any = None


_decode_items: Final = msgspec.json.Decoder(list[_Item]).decode
_decode: Final = msgspec.json.Decoder(_Document).decode
UNREADABLE: Final = JsonAnswer(kind="unreadable")


def json_answer(
    body: bytes, *, member: Literal["data", "results", "object"], lists_ids: bool = False
) -> JsonAnswer:
    """An answer that has this member; without it, it is none.

    `text` is not empty if something came: then a missing usage is estimated from the request.
    """
    try:
        document = _decode(body)
        if not body.isascii():
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE
    if document.error:
        return JsonAnswer(kind="error", error=from_upstream_event(document.error))
    value = getattr(document, member)
    if isinstance(value, Raw):
        value = bytes(memoryview(value)[:2])
        if not value.startswith(b"["):
            return UNREADABLE
    elif not value:
        return UNREADABLE
    return JsonAnswer(
        kind="completion",
        usage=document.usage or None,
        upstream_id=document.id if isinstance(document.id, str) else None,
        served_tier=document.service_tier if isinstance(document.service_tier, str) else None,
        text="" if value == b"[]" else "something",
        ids=_ids(document.data) if lists_ids else [],
    )


def _ids(data: Raw) -> list[str]:
    """Of the items of a list."""
    try:
        return [item.id for item in _decode_items(data) if isinstance(item.id, str)]
    except msgspec.DecodeError:
        return []
