"""Typed views of what upstream answers: chat and text completions, whole and in chunks.

Only what billing and relaying need is declared; msgspec skips the rest. Values that are merely
handed on are `Any`, so that an odd one does not hide the others.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Audio(msgspec.Struct, gc=False):
    id: str | None = None
    data: str | None = None
    transcript: str | None = None


class Text(msgspec.Struct, gc=False):
    """The fields of a delta or a message that a model writes tokens into."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class ChunkChoice(msgspec.Struct, gc=False):
    index: int = 0
    delta: Text | None = None
    text: str | None = None  # Of a text completion, instead of a delta.
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    service_tier: Any = None
    choices: list[ChunkChoice] | None = None
    usage: Any = None
    error: Any = None


class LooseChunk(msgspec.Struct, gc=False):
    """A chunk whose choices do not have the shape that OpenAI gives them."""

    id: Any = None
    model: Any = None
    service_tier: Any = None
    choices: Any = None
    usage: Any = None
    error: Any = None


class _BodyChoice(msgspec.Struct, gc=False):
    message: Text | None = None
    text: str | None = None


class Completion(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    service_tier: Any = None
    choices: Raw = Raw()
    usage: Any = None
    error: Any = None


decode_chunk: Final = msgspec.json.Decoder(Chunk).decode
decode_completion: Final = msgspec.json.Decoder(Completion).decode
_decode_choices: Final = msgspec.json.Decoder(list[_BodyChoice]).decode

# Not written by the model, or not as tokens that a tokenizer could count.
_NOT_TEXT: Final = frozenset({"role", "type", "id", "index", "finish_reason", "object", "data"})


def texts_of(text: Text) -> Iterator[str]:
    """Everything that the model wrote, in pieces."""
    for piece in (text.content, text.refusal, text.reasoning_content, text.reasoning):
        if piece:
            yield piece
    calls = [call.function for call in text.tool_calls or ()]
    for function in (*calls, text.function_call):
        if function is not None:
            yield from filter(None, (function.name, function.arguments))
    if text.audio is not None and text.audio.transcript:
        yield text.audio.transcript


def strings_in(value: object) -> Iterator[str]:
    """Every string that could be output, for answers of an unexpected shape."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from strings_in(item)


def audio_ids_of_choices(choices: bytes | Raw) -> list[str]:
    """The recordings of a whole completion."""
    try:
        typed = _decode_choices(choices)
    except msgspec.ValidationError:
        return []
    audios = [choice.message.audio for choice in typed if choice.message is not None]
    return [audio.id for audio in audios if audio is not None and audio.id]


def texts_of_choices(choices: bytes | Raw) -> list[str]:
    """One text for each choice of a whole completion."""
    try:
        typed = _decode_choices(choices)
    except msgspec.ValidationError:
        loose = msgspec.json.decode(choices)
        return ["".join(strings_in(choice)) for choice in loose]
    return [
        choice.text or "" if choice.message is None else "".join(texts_of(choice.message))
        for choice in typed
    ]
