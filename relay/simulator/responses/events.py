"""A response as a stream: every change of it is an event with a name and a number."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from relay.simulator.completions import pieces_chunk
from relay.simulator.decoding import MAX_EVENTS
from relay.simulator.errors import ErrorBody
from relay.simulator.responses.documents import Spoken, Status, document_make
from relay.simulator.responses.items import OutputItem
from relay.simulator.streams import Event, EventStream, Kind, Usage

# The steps of a hosted tool between the two that every item has.
_STEPS = {
    "web_search_call": ("in_progress", "searching"),
    "file_search_call": ("in_progress", "searching"),
    "code_interpreter_call": ("in_progress", "interpreting"),
    "image_generation_call": ("in_progress", "generating"),
}
Draft = tuple[Kind, dict[str, Any]]


def response_stream(spoken: Spoken, *, starting_after: int | None = None) -> EventStream:
    """Replayed from the event behind the number, if there is one."""
    drafts = [
        draft | {"sequence_number": number}
        for number, (_, draft) in enumerate(_with_finish(list(_drafts(spoken))))
    ]
    kinds = [kind for kind, _ in _with_finish(list(_drafts(spoken)))]
    events = [_event(kind, draft) for kind, draft in zip(kinds, drafts, strict=True)]
    if starting_after is not None:
        events = events[starting_after + 1 :]
    return EventStream(
        events=events,
        usage=spoken.usage,
        usage_event=partial(_last_event, spoken, len(kinds)),
        padding_event=_padding_event,
        error_event=partial(_error_event, len(kinds)),
    )


def _event(kind: Kind, draft: dict[str, Any]) -> Event:
    return Event(kind, msgspec.json.encode(draft), name=draft["type"])


def _last_event(spoken: Spoken, number: int, usage: Usage) -> Event:
    document = document_make(spoken, usage=usage)
    draft = {"type": f"response.{spoken.status}", "response": document}
    return _event("usage", draft | {"sequence_number": number})


def _padding_event(size: int) -> Event:
    draft = {"type": "response.in_progress", "sequence_number": 1, "padding": "x" * size}
    return _event("noise", draft)


def _error_event(number: int, error: ErrorBody) -> Event:
    draft = {
        "type": "error",
        "code": error.code or error.type,
        "message": error.message,
        "param": error.param,
        "sequence_number": number,
    }
    return _event("error", draft)


def _with_finish(drafts: list[Draft]) -> list[Draft]:
    """What frames the content and comes behind its last chunk is its end."""
    last = max((at for at, (kind, _) in enumerate(drafts) if kind == "content"), default=-1)
    return [
        ("finish" if kind == "role" and 0 <= last < at else kind, draft)
        for at, (kind, draft) in enumerate(drafts)
    ]


def _drafts(spoken: Spoken) -> Iterator[Draft]:
    begun: Status = "queued" if spoken.request.background else "in_progress"
    document = document_make(spoken, status=begun)
    yield "role", {"type": "response.created", "response": document}
    if spoken.request.background:
        yield "role", {"type": "response.queued", "response": document}
    document = document_make(spoken, status="in_progress")
    yield "role", {"type": "response.in_progress", "response": document}
    for index, item in enumerate(spoken.items):
        place = {"output_index": index, "item_id": item.id}
        added = {"type": "response.output_item.added", "output_index": index}
        yield "role", added | {"item": item.begun()}
        for kind, draft in _item_drafts(spoken, item):
            yield kind, draft | place
        done = {"type": "response.output_item.done", "output_index": index}
        if spoken.status != "failed" or index < len(spoken.items) - 1:
            yield "role", done | {"item": item.finished()}
    yield "usage", {"type": f"response.{spoken.status}", "response": document_make(spoken)}


def _item_drafts(spoken: Spoken, item: OutputItem) -> Iterator[Draft]:
    match item.kind:
        case "message":
            yield from _message_drafts(spoken, item)
        case "reasoning":
            yield from _reasoning_drafts(spoken, item)
        case "function_call":
            yield from _deltas(spoken, item, "response.function_call_arguments")
            done = {"type": "response.function_call_arguments.done", "arguments": item.text}
            yield "role", done | {"name": item.fields["name"]}
        case "custom_tool_call":
            yield from _deltas(spoken, item, "response.custom_tool_call_input")
            yield "role", {"type": "response.custom_tool_call_input.done", "input": item.text}
        case _:
            yield from _hosted_drafts(spoken, item)


def _deltas(spoken: Spoken, item: OutputItem, name: str, **more: Any) -> Iterator[Draft]:
    most = MAX_EVENTS // len(spoken.items)
    for pieces in pieces_chunk(item.pieces, chunks=spoken.request.knobs.chunks or most):
        text = "".join(piece.text for piece in pieces)
        yield "content", {"type": f"{name}.delta", "delta": text} | more


def _message_drafts(spoken: Spoken, item: OutputItem) -> Iterator[Draft]:
    at: dict[str, Any] = {"content_index": 0}
    part = {"type": "response.content_part.added", "part": item.part("")}
    yield "role", part | at
    if item.is_refusal:
        yield from _deltas(spoken, item, "response.refusal", **at)
        yield "role", {"type": "response.refusal.done", "refusal": item.text} | at
    else:
        yield from _deltas(spoken, item, "response.output_text", logprobs=[], **at)
        for number, annotation in enumerate(item.fields["annotations"]):
            added = {"type": "response.output_text.annotation.added", "annotation": annotation}
            yield "role", added | {"annotation_index": number} | at
        done = {"type": "response.output_text.done", "text": item.text, "logprobs": []}
        yield "role", done | at
    yield "role", {"type": "response.content_part.done", "part": item.part(item.text)} | at


def _reasoning_drafts(spoken: Spoken, item: OutputItem) -> Iterator[Draft]:
    if not item.text:
        return
    if item.is_raw:
        part: dict[str, Any] = {"content_index": 0}
        yield from _deltas(spoken, item, "response.reasoning_text", **part)
        yield "role", {"type": "response.reasoning_text.done", "text": item.text} | part
        return
    at: dict[str, Any] = {"summary_index": 0}
    name = "response.reasoning_summary"
    added = {"type": f"{name}_part.added", "part": {"type": "summary_text", "text": ""}}
    yield "role", added | at
    yield from _deltas(spoken, item, f"{name}_text", **at)
    yield "role", {"type": f"{name}_text.done", "text": item.text} | at
    summary = {"type": "summary_text", "text": item.text}
    yield "role", {"type": f"{name}_part.done", "part": summary} | at


def _hosted_drafts(spoken: Spoken, item: OutputItem) -> Iterator[Draft]:
    first, second = _STEPS[item.kind]
    name = f"response.{item.kind}"
    yield "role", {"type": f"{name}.{first}"}
    if item.kind == "code_interpreter_call":
        yield from _deltas(spoken, item, f"{name}_code")
        yield "role", {"type": f"{name}_code.done", "code": item.text}
    yield "role", {"type": f"{name}.{second}"}
    if item.kind == "image_generation_call":
        partial_image = {"partial_image_b64": item.fields["result"], "partial_image_index": 0}
        yield "role", {"type": f"{name}.partial_image"} | partial_image
    yield "role", {"type": f"{name}.completed"}
