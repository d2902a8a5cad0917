"""Meters a chat answer while it passes: what was used, what was delivered, how it ended.

A stream is forwarded event by event as it came. What differs: the usage chunk that only we asked
for is taken out; fields of the stream that break clients (`event:`, `id:`, `retry:`, CRLF, invalid
UTF-8) are taken out or mended; errors are told in our words; nothing follows `[DONE]`.
"""

import codecs
import json
import re
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from relay.bodies.completions import (
    Chunk,
    ChunkChoice,
    LooseChunk,
    Text,
    decode_chunk,
    decode_completion,
    strings_in,
    texts_of,
    texts_of_choices,
)
from relay.bodies.json_members import read_members, splice_members
from relay.bodies.sse import Event, SseSplitter, plain_form, split_lines
from relay.errors import RelayError, render_event, upstream_failed
from relay.upstream_errors import from_upstream_event

# More than any model writes; beyond it an estimate would count no further.
MAX_TEXT_CHARACTERS: Final = 2_000_000
MAX_CHOICES: Final = 128
# Some clients take `: ping` for the end, so upstream's comments become the one harmless form.
KEEP_ALIVE: Final = b": keepalive\n\n"
DONE: Final = b"data: [DONE]\n\n"
_ANY_STRING: Final = ("utf-8", "surrogatepass")  # JSON may have half a pair.

_LEADING_FIELDS: Final = re.compile(rb"(?:(?!data)[^\r\n]*+(?>\r\n|\n|\r))*+")


class ChatStreamMeter:
    """Feed it the chunks of a chat stream; it gives back what to forward at once.

    `[DONE]` is never given back: the caller sends it after the call is settled.
    """

    __slots__ = (
        "_held_usage_chunk",
        "_include_usage",
        "_mender",
        "_splitter",
        "_texts",
        "_usage_is_final",
        "characters",
        "done",
        "error",
        "finish_reasons",
        "ids",
        "output_seen",
        "served_model",
        "served_tier",
        "upstream_id",
        "usage",
    )

    is_event_stream = True
    keep_alive = KEEP_ALIVE

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._splitter = SseSplitter()
        self._texts: dict[int, bytearray] = {}
        self.characters = 0
        """How much the model has written, in all choices together."""
        self._held_usage_chunk = b""
        self._usage_is_final = False
        self._mender: codecs.IncrementalDecoder | None = None
        self.done = False
        """Upstream said `[DONE]`."""
        self.error: RelayError | None = None
        """Upstream reported an error, or sent what is no chunk; its event has been given back."""
        self.usage: object = None
        """The last usage that upstream reported, unchecked; None once output came after it."""
        self.output_seen = False
        self.ids: list[str] = []  # Of recordings, which a later call may name.
        self.finish_reasons: dict[int, str] = {}
        self.upstream_id: str | None = None
        self.served_model: str | None = None
        self.served_tier: str | None = None

    @property
    def is_complete(self) -> bool:
        """The answer came to its end, be it without `[DONE]`: final usage proves it too."""
        return self.error is None and (self.done or self._usage_is_final)

    @property
    def is_between_events(self) -> bool:
        """What was given back until now is whole events, not half of a very large one."""
        return self._mender is None

    def feed(self, chunk: bytes) -> bytes:
        if self.done:
            return b""
        events = self._splitter.feed(chunk)
        if len(events) == 1:
            return self._take(events[0])
        return b"".join([self._take(event) for event in events])

    def finish(self) -> bytes:
        """What is still to be forwarded when upstream has ended the stream."""
        rest = self._splitter.close()
        forward = b""
        if rest is not None and not self.done:
            if rest.is_piece:
                # The client has half of an event; end it, so that the next one is read by itself.
                forward = b"" if self.error else self._take_piece(rest) + b"\n\n"
            elif _is_whole(rest.data):
                forward = self._take(rest)
        return forward + self._release_usage_chunk()

    def output_text(self) -> str:
        """All that the model wrote, choice by choice, for an estimate when usage is missing."""
        return "\n".join(text.decode(*_ANY_STRING) for text in self._texts.values())

    def ending(self, error: RelayError | None) -> bytes:
        """The last bytes of all; several clients never finish without `[DONE]`."""
        return DONE if error is None else render_event(error) + DONE

    def _take(self, event: Event) -> bytes:
        if self.done:
            return b""
        if event.is_piece:
            return self._take_piece(event)
        data = event.data
        if data is None:
            return self._keep_alive(event)
        forward = event.raw if event.is_plain else plain_form(event)
        if not data.isascii():
            data, forward = _mended(data, forward)
        if data[:1] != b"{" and not (data := data.strip()).startswith(b"{"):
            return self._take_other(data)
        try:
            chunk = decode_chunk(data)
        except (msgspec.DecodeError, RecursionError):
            return self._take_loose(data, forward)
        if chunk.usage and chunk.choices:
            members = read_members(data)
            forward = self._part_usage(
                splice_members(data, members, {"usage": None}),
                splice_members(data, members, {"choices": []}),
            )
        if chunk.error or (not event.is_plain and _is_error_event(event, chunk)):
            return self._take_error(msgspec.json.decode(data))
        for choice in chunk.choices or ():
            self._meter_choice(choice)
        return self._meter(chunk, forward)

    def _meter(self, chunk: Chunk | LooseChunk, forward: bytes) -> bytes:
        if not self.served_model:
            self.upstream_id = _string(chunk.id) or self.upstream_id
            self.served_model = _string(chunk.model)
        if chunk.service_tier is not None:
            self.served_tier = _string(chunk.service_tier)
        if chunk.usage:
            self.usage = chunk.usage
            if not chunk.choices:
                self._usage_is_final = True
                # The last one counts, so the client's only one waits for the end of the stream.
                wanted = self._include_usage and self.error is None
                self._held_usage_chunk = forward if wanted else b""
                return b""
            ended = self.finish_reasons.keys()
            self._usage_is_final = bool(ended) and self._texts.keys() <= ended
        return b"" if self.error else forward

    def _meter_choice(self, choice: ChunkChoice) -> None:
        if choice.finish_reason is not None:
            self.finish_reasons[choice.index] = choice.finish_reason
        delta = choice.delta
        if delta is None:
            if choice.text:
                self._write(choice.index, choice.text)
            return
        if delta.content:
            self._write(choice.index, delta.content)
        if _has_more(delta):
            delta.content = None
            for text in texts_of(delta):
                self._write(choice.index, text)
            if delta.audio is not None and self.error is None:
                self._see_output()
                if delta.audio.id:
                    self.ids.append(delta.audio.id)

    def _see_output(self) -> None:
        self.output_seen = True
        if self.usage is not None:
            # A usage that was told before it cannot have counted it: some send a placeholder first.
            self.usage = None
            self._usage_is_final = False

    def _write(self, index: int, text: str) -> None:
        if self.error is not None:
            return  # It is not delivered, so it is not charged.
        self._see_output()
        self.characters += len(text)
        if self.characters > MAX_TEXT_CHARACTERS:
            return
        written = self._texts.get(index)
        if written is None:
            # Choices beyond what a request may ask for are counted as one.
            index = index if len(self._texts) < MAX_CHOICES else -1
            written = self._texts.setdefault(index, bytearray())
        # In pieces it would take three times the memory, in each of thousands of streams.
        written += text.encode(*_ANY_STRING)

    def _take_other(self, data: bytes) -> bytes:
        if data.startswith(b"[DONE]"):
            self.done = True
            return self._release_usage_chunk()
        if not data or data.startswith(b":"):
            # An empty event, or a comment that was put into one: the SDKs would fail to parse it.
            return b"" if self.error else KEEP_ALIVE
        return self._fail(upstream_failed())

    def _take_loose(self, data: bytes, forward: bytes) -> bytes:
        """A chunk of another shape than OpenAI's, or with half a surrogate pair, or no chunk."""
        try:
            fields = json.loads(data, parse_constant=_refuse)
        except (ValueError, RecursionError):
            # The SDKs would stop here with an exception of their JSON parser; so the stream ends.
            return self._fail(upstream_failed())
        if fields.get("error"):
            return self._take_error(fields)
        for text in strings_in(fields.get("choices")):
            self._write(0, text)
        known = {name: fields.get(name) for name in LooseChunk.__struct_fields__}
        chunk = LooseChunk(**known)
        if chunk.usage and chunk.choices:
            parts = ({**fields, "usage": None}, {**fields, "choices": []})
            forward = self._part_usage(*(json.dumps(part).encode() for part in parts))
        return self._meter(chunk, forward)

    def _part_usage(self, output: bytes, usage: bytes) -> bytes:
        """The output of a chunk that has both; the usage waits for the end, if it was asked for.

        OpenAI tells it in a chunk of its own, and some clients show nothing of any that has it.
        """
        if self._include_usage and self.error is None:
            self._held_usage_chunk = _event(usage)
        return _event(output)

    def _take_error(self, event: dict[str, Any]) -> bytes:
        self.usage = event.get("usage") or self.usage
        return self._fail(from_upstream_event(event.get("error") or event))

    def _fail(self, error: RelayError) -> bytes:
        if self.error is not None:
            return b""
        self.error = error
        self._held_usage_chunk = b""
        return render_event(error)

    def _take_piece(self, event: Event) -> bytes:
        raw = event.raw
        if self._mender is None:
            self._mender = codecs.getincrementaldecoder("utf-8")("replace")
            match = _LEADING_FIELDS.match(raw)
            raw = raw[match.end() :] if match else raw
        forward = self._mender.decode(raw, event.ends).encode()
        if event.ends:
            self._mender = None
        if self.error is not None:
            return b""
        self.output_seen = True
        return forward

    def _keep_alive(self, event: Event) -> bytes:
        is_comment = any(line.startswith(b":") for line in split_lines(event.raw))
        return KEEP_ALIVE if is_comment and self.error is None else b""

    def _release_usage_chunk(self) -> bytes:
        held, self._held_usage_chunk = self._held_usage_chunk, b""
        return held


def _has_more(delta: Text) -> bool:
    return (
        delta.tool_calls is not None
        or delta.reasoning_content is not None
        or delta.reasoning is not None
        or delta.refusal is not None
        or delta.function_call is not None
        or delta.audio is not None
    )


def _event(data: bytes) -> bytes:
    return plain_form(Event(data, data))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _mended(data: bytes, forward: bytes) -> tuple[bytes, bytes]:
    try:
        data.decode()
    except UnicodeDecodeError:
        # openai-python decodes strictly and would crash.
        return _replaced(data), _replaced(forward)
    return data, forward


def _replaced(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _is_error_event(event: Event, chunk: Chunk) -> bool:
    """Upstream named the event an error, though its data does not say so."""
    names = (b"event: error", b"event:error")
    return chunk.choices is None and any(line in names for line in split_lines(event.raw))


def _is_whole(data: bytes | None) -> bool:
    """Whether an event without its end lacks nothing else."""
    if data is None:
        return False
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data.strip() == b"[DONE]"
    return True


class BodyReading(msgspec.Struct, frozen=True, kw_only=True):
    """What a JSON answer, not streamed, says about its call."""

    kind: Literal["completion", "error", "unreadable"]
    usage: object = None
    """As upstream reported it, unchecked."""
    upstream_id: str | None = None
    served_model: str | None = None
    served_tier: str | None = None
    error: RelayError | None = None
    choices: Raw = Raw()
    body: bytes | None = None
    ids: list[str] = []

    def output_text(self) -> str:
        """All that the model wrote, for an estimate when usage is missing."""
        return "\n".join(texts_of_choices(self.choices)) if self.kind == "completion" else ""


def meter_body(body: bytes) -> BodyReading:
    """Reads an answer that upstream gave with a status of success."""
    try:
        answer = decode_completion(body)
        if not body.isascii():
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BodyReading(kind="unreadable")
    if answer.error:
        return BodyReading(kind="error", error=from_upstream_event(answer.error))
    if memoryview(answer.choices)[:1].tobytes() != b"[":
        return BodyReading(kind="unreadable")
    return BodyReading(
        kind="completion",
        usage=answer.usage or None,
        upstream_id=_string(answer.id),
        served_model=_string(answer.model),
        served_tier=_string(answer.service_tier),
        choices=answer.choices,
    )
