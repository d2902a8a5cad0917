"""The `simulate` field of a request: what a test or a demo wants to happen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]

StreamFault = Literal[
    "silent_stream",
    "error_event_first",
    "error_event_after",
    "truncated",
    "no_done",
    "done_without_usage",
    "usage_twice",
    "data_after_done",
    "crlf",
    "cr",
    "bom",
    "comments",
    "event_lines",
    "multi_line",
]
Framing = Literal["crlf", "cr", "bom", "comments", "event_lines", "multi_line"]
SearchAction = Literal["search", "open_page", "find_in_page"]
Calls = Annotated[int, Meta(ge=0, le=64)]
AnyFault = Literal[
    "hang",
    "cut",
    "garbage",
    "html",
    "empty_body",
    "json_error_200",
    "redirect",
    "gzip",
    "bad_content_length",
    "invalid_utf8",
    "big_line",
    "split_bytes",
    "no_usage",
    "absurd_usage",
]


class ErrorKnob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None


class Knobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An unknown field is refused, so that a misspelt knob cannot make a test pass."""

    tag: Annotated[str, Meta(max_length=200)] | None = None
    text: str | None = None
    refusal: bool = False
    chunks: Annotated[int, Meta(ge=1, le=20_000)] | None = None
    delay_ms: Milliseconds = 0
    chunk_delay_ms: Milliseconds = 0

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    reasoning_tokens: int | None = None
    output_audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    # Raw keeps numbers that no other type could carry, 1e400 say; empty means not given.
    usage: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    usage_more: dict[str, Any] | None = None

    model: str | None = None
    service_tier: str | None = None
    status: Annotated[int, Meta(ge=300, le=599)] | None = None
    error: ErrorKnob | None = None
    retry_after: str | int | float | None = None
    retry_after_ms: str | int | float | None = None
    headers: dict[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")],
        Annotated[str, Meta(pattern=r"^[\t\x20-\x7e\x80-\xff]*$")],
    ] = msgspec.field(default_factory=dict)

    failed: ErrorKnob | None = None
    content_filter: bool = False
    reasoning: str | None = None
    reasoning_text: str | None = None
    web_search_actions: Annotated[list[SearchAction], Meta(max_length=64)] | None = None
    file_search_calls: Calls | None = None
    code_interpreter_calls: Calls | None = None
    image_generation_calls: Calls | None = None
    tool_usage: bool = False
    seconds: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    later: Knobs | None = None

    framing: Framing | None = None
    fault: StreamFault | AnyFault | None = None
    after_chunks: Annotated[int, Meta(ge=0)] | None = None
    bytes: Annotated[int, Meta(ge=1, le=64 * 2**20)] | None = None


NO_KNOBS = Knobs()
