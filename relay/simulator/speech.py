"""`POST /v1/audio/speech`: silence as long as reading the text would take."""

import base64
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from relay.simulator.catalogue import model_check
from relay.simulator.decoding import body_decode, knobs_check
from relay.simulator.errors import bad_request
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.replies import Answer, Call
from relay.simulator.sounds import silence_make
from relay.simulator.streams import Event, EventStream, Usage, nameless_error
from relay.simulator.tokens import Tokenizer
from relay.simulator.usage import given, usage_reported

MAX_CHARACTERS = 4_096
TOKENS_PER_SECOND = 20
CHARACTERS_PER_SECOND = 100  # Nobody speaks that fast, but it keeps the answers small.
_PART_BYTES = 8_192
_CONTENT_TYPES = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: str
    voice: str | dict[str, Any]
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] | None = None
    stream_format: Literal["sse", "audio"] | None = None
    simulate: Knobs | None = None

    @property
    def knobs(self) -> Knobs:
        return self.simulate or NO_KNOBS

    @property
    def seconds(self) -> float:
        if self.knobs.seconds is not None:
            return self.knobs.seconds
        return len(self.input) / CHARACTERS_PER_SECOND / (self.speed or 1)


_DECODER = msgspec.json.Decoder(SpeechRequest)


def speech_answer(call: Call) -> Answer:
    """Raises Refusal."""
    request = body_decode(call.body, decoder=_DECODER)
    model_check(request.model, endpoint="speech")
    _options_check(request)
    knobs = request.knobs
    form = request.response_format or "mp3"
    audio = silence_make(request.seconds, form=form)
    if request.stream_format == "sse":
        return Answer(knobs=knobs, stream=_stream(request, audio))
    return Answer(
        knobs=knobs, body=audio, content_type=_CONTENT_TYPES[form], part_bytes=_PART_BYTES
    )


def _options_check(request: SpeechRequest) -> None:
    """Raises Refusal."""
    streams = request.stream_format == "sse"
    for param in ("input", "instructions"):
        if len(getattr(request, param) or "") > MAX_CHARACTERS:
            raise bad_request(
                f"Invalid '{param}': string too long. Expected a string with maximum length "
                f"{MAX_CHARACTERS}.",
                param=param,
                code="string_above_max_length",
            )
    if not request.input:
        raise bad_request("Invalid 'input': empty string.", param="input", code="empty_string")
    if streams and request.model.startswith("tts-1"):
        raise bad_request("This model does not stream events.", param="stream_format")
    knobs_check(request.knobs, stream=streams)


def _stream(request: SpeechRequest, audio: bytes) -> EventStream:
    usage = _usage(request)
    events = [
        Event("content", _encoded("delta", audio=base64.b64encode(part).decode()))
        for part in (audio[at : at + _PART_BYTES] for at in range(0, len(audio), _PART_BYTES))
    ]
    return EventStream(
        events=[*events, _done_event(request, usage)],
        usage=usage,
        usage_event=partial(_done_event, request),
        padding_event=_padding_event,
        error_event=nameless_error,
    )


def _usage(request: SpeechRequest) -> Usage:
    knobs = request.knobs
    texts = (request.input, request.instructions or "")
    read = given(knobs.prompt_tokens, Tokenizer(request.model).count_all(texts))
    spoken = given(knobs.completion_tokens, round(request.seconds * TOKENS_PER_SECOND))
    counted = {
        "input_tokens": read,
        "output_tokens": spoken,
        "total_tokens": given(knobs.total_tokens, read + spoken),
    }
    return usage_reported(counted, knobs=knobs)


def _done_event(request: SpeechRequest, usage: Usage) -> Event:
    more = {} if request.knobs.fault == "no_usage" else {"usage": usage}
    return Event("usage", _encoded("done", **more))


def _padding_event(size: int) -> Event:
    return Event("noise", _encoded("padding", padding="x" * size))


def _encoded(what: str, **more: Any) -> bytes:
    return msgspec.json.encode({"type": f"speech.audio.{what}"} | more)
