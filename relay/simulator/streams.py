"""A stream of events that nothing has gone wrong with yet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relay.simulator.errors import ErrorBody

Usage = dict[str, Any] | msgspec.Raw
"""Counts in the fields of its endpoint, or what a knob wants to be reported verbatim."""

# "role" is whatever frames the content before and between its chunks, "finish" what follows it.
Kind = Literal["role", "content", "finish", "usage", "done", "error", "noise"]


@dataclass(frozen=True, slots=True)
class Event:
    kind: Kind
    data: bytes
    # The `event:` line, if the endpoint's events have one.
    name: str = ""


DONE = Event("done", b"[DONE]")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """The events, and how to make those that a fault adds."""

    events: list[Event]
    usage: Usage
    # The event that carries the usage, with another usage.
    usage_event: Callable[[Usage], Event]
    # An event that says nothing, with an unknown field of so many bytes.
    padding_event: Callable[[int], Event]
    error_event: Callable[[ErrorBody], Event]


def error_document(error: ErrorBody) -> bytes:
    return msgspec.json.encode({"error": error})


def nameless_error(error: ErrorBody) -> Event:
    return Event("error", error_document(error))
