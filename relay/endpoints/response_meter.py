"""Meters the streams of the Responses API: events with types, the usage in the last of them.

Events are forwarded as they came, but each by itself whole and in one form, `event:` and `data:`.
The last one is held back until the call is settled. Nothing ends such a stream but that event.
"""

import json
import time
from io import StringIO
from typing import Any, Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.identifiers import uuid7
from relay.bodies.json_members import read_members, splice_members
from relay.bodies.sse import Event, plain_form
from relay.endpoints.response_answers import (
    Document,
    Item,
    ToolCalls,
    decode_document,
    error_code,
    with_our_error,
)
from relay.endpoints.typed_events import TypedEvents
from relay.errors import RelayError, upstream_failed
from relay.metering.meter import MAX_TEXT_CHARACTERS
from relay.upstream_errors import from_upstream_event

_TERMINAL: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
_BEGINNINGS: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
# Sound, which is no text.
_NO_TEXT: Final = frozenset({"response.audio.delta"})
_WORK: Final = frozenset({"response.audio.delta", "response.image_generation_call.partial_image"})
_encode: Final = msgspec.json.Encoder().encode


class _StreamEvent(msgspec.Struct, gc=False):
    type: Any = None
    sequence_number: Any = None
    delta: Any = None
    response: Raw = Raw()
    item: Raw = Raw()
    error: Any = None


_decode: Final = msgspec.json.Decoder(_StreamEvent).decode
_decode_item: Final = msgspec.json.Decoder(Item).decode


class ResponseStreamMeter(TypedEvents):
    def __init__(self, *, is_stored: bool = True) -> None:
        super().__init__()
        self._is_stored = is_stored
        self._text = StringIO()
        self._begun = b""  # The response as it was when it began.
        self._sequence_number = -1
        self.tools = ToolCalls()

    @property
    def is_complete(self) -> bool:
        return self.error is None and self.done

    def output_text(self) -> str:
        return self._text.getvalue()

    def ending(self, error: RelayError | None) -> bytes:
        """What the client is told where no last event of upstream's tells it."""
        return b"" if error is None else self.rendered(error)

    @override
    def read(self, event: Event, data: bytes) -> bytes:
        try:
            told = _decode(data)
        except (msgspec.DecodeError, RecursionError):
            if (loose := _loosely(data)) is None:
                return self.strange(data)
            told = loose
        return self._meter(told, event, data)

    def _meter(self, told: _StreamEvent, event: Event, data: bytes) -> bytes:
        kind = told.type
        if not isinstance(kind, str) or not kind.isprintable() or not kind.isascii():
            return self.fail(from_upstream_event(told.error) if told.error else upstream_failed())
        if type(told.sequence_number) is int:
            self._sequence_number = told.sequence_number
        if kind == "error":
            return self.fail(from_upstream_event(told.error or msgspec.json.decode(data)))
        if kind in _TERMINAL:
            self._end(kind, told, data)
            return b""
        if kind in _BEGINNINGS:
            self._begin(told)
        elif kind == "response.output_item.done":
            self._item(told.item)
        elif kind.endswith(".delta") and kind not in _NO_TEXT and isinstance(told.delta, str):
            self._write(told.delta)
        elif kind in _WORK:
            self.output_seen = True
        elif kind == "response.output_item.added":
            self._hand_out(told.item)
        return _form(kind, event, data)

    def _begin(self, told: _StreamEvent) -> None:
        self._begun = bytes(told.response)
        self._read(told)

    def _read(self, told: _StreamEvent) -> Document:
        try:
            document = decode_document(told.response)
        except msgspec.DecodeError:
            return Document()
        if isinstance(document.id, str) and self.upstream_id is None:
            self.upstream_id = document.id
            if self._is_stored:
                self.ids.append(document.id)
        if isinstance(document.service_tier, str):
            self.served_tier = document.service_tier
        return document

    def _end(self, kind: str, told: _StreamEvent, data: bytes) -> None:
        self.done = True
        document = self._read(told)
        items = document.items()
        if items:
            self.tools = ToolCalls()
            for item in items:
                self.tools.add(item)
                self.ids += item.ids(is_stored=self._is_stored)
        if document.usage:
            self.usage = document.usage
            self.output_seen = self.output_seen or kind != "response.completed"
        if document.error:
            self.error = from_upstream_event(document.error)
            response = msgspec.Raw(with_our_error(bytes(told.response), document.error))
            data = splice_members(data, read_members(data), {"response": response})
        elif kind == "response.failed":
            self.error = upstream_failed()
        self._held = b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _item(self, raw: Raw) -> None:
        self.output_seen = True
        try:
            item = _decode_item(raw)
        except msgspec.DecodeError:
            return
        self.tools.add(item)
        self.ids += item.ids(is_stored=self._is_stored)

    def _hand_out(self, raw: Raw) -> None:
        try:
            self.ids += _decode_item(raw).ids(is_stored=self._is_stored)
        except msgspec.DecodeError:
            return

    def _write(self, text: str) -> None:
        self.output_seen = True
        self.characters += len(text)
        if self.characters <= MAX_TEXT_CHARACTERS:
            self._text.write(text)

    @override
    def rendered(self, error: RelayError) -> bytes:
        """Two events: agents look only for the first, and the SDKs raise at the second."""
        first = self._sequence_number + 1
        message = error.message.encode("utf-8", "replace").decode()
        failed = {"code": error_code(error), "message": message}
        response: dict[str, Any] = {"status": "failed", "error": failed}
        if self._begun.startswith(b"{"):
            begun = splice_members(self._begun, read_members(self._begun), response)
        else:
            begun = _encode(_never_begun() | response)
        kind = "response.failed"
        said = {"type": kind, "sequence_number": first, "response": Raw(begun)}
        last = {
            "type": "error",
            "sequence_number": first + 1,
            "code": error.code or "server_error",
            "message": message,
            "param": error.param,
        }
        return b"".join(
            b"event: " + str(one["type"]).encode() + b"\ndata: " + _encode(one) + b"\n\n"
            for one in (said, last)
        )


def _never_begun() -> dict[str, Any]:
    """Of a response that upstream said nothing of; nobody can ask for it, but its id is read."""
    one = f"resp_{uuid7().hex}"
    return {"id": one, "object": "response", "created_at": int(time.time()), "output": []}


def _form(kind: str, event: Event, data: bytes) -> bytes:
    if event.is_plain:
        return event.raw if event.data == data else b"data: " + data + b"\n\n"
    if b"\n" in data:
        return b"event: " + kind.encode() + b"\n" + plain_form(Event(event.raw, data))
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _loosely(data: bytes) -> _StreamEvent | None:
    """With half a surrogate pair in it, for instance; None: it is no JSON."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    told = _StreamEvent(type=fields.get("type"), delta=fields.get("delta"))
    told.sequence_number = fields.get("sequence_number")
    told.error = fields.get("error")
    for name in ("response", "item"):
        if isinstance(fields.get(name), dict):
            setattr(told, name, Raw(json.dumps(fields[name]).encode("utf-8", "replace")))
    return told
