"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a text for every sound."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec

from relay.simulator.answers import demo_lengthened
from relay.simulator.catalogue import model_check
from relay.simulator.completions import pieces_chunk
from relay.simulator.decoding import MAX_EVENTS, fields_convert, knobs_check, missing, value_refusal
from relay.simulator.errors import ErrorBody, Refusal, bad_request
from relay.simulator.forms import File, form_read
from relay.simulator.headers import PLAIN_TEXT
from relay.simulator.knobs import NO_KNOBS, Knobs
from relay.simulator.replies import Answer, Call
from relay.simulator.sounds import seconds_of
from relay.simulator.streams import Event, EventStream, Usage, nameless_error
from relay.simulator.subtitles import srt_make, vtt_make
from relay.simulator.tokens import Piece, Tokenizer
from relay.simulator.usage import given, usage_reported

MAX_FILE_BYTES = 25 * 2**20
TOKENS_PER_SECOND = 10
_SEGMENT_WORDS = 5
_LISTS = frozenset(
    (
        "include",
        "timestamp_granularities",
        "languages",
        "keywords",
        "known_speaker_names",
        "known_speaker_references",
    )
)
_ENDINGS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
_FORMATS = {
    "whisper": ("json", "text", "srt", "verbose_json", "vtt"),
    "diarize": ("json", "text", "diarized_json"),
    "other": ("json", "text"),
}


class TranscriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    language: str | None = None
    prompt: str | None = None
    response_format: str | None = None
    temperature: float | None = None
    stream: bool | None = None
    include: list[str] | None = None
    timestamp_granularities: list[Literal["word", "segment"]] | None = None
    simulate: Knobs | None = None

    @property
    def family(self) -> str:
        return next((name for name in ("whisper", "diarize") if name in self.model), "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    number: int
    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    request: TranscriptionRequest
    knobs: Knobs
    task: Literal["transcribe", "translate"]
    digest: str
    seconds: float
    pieces: tuple[Piece, ...]
    usage: Usage

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def shows_logprobs(self) -> bool:
        return "logprobs" in (self.request.include or ())

    def segments(self) -> list[Segment]:
        """The text in parts of a few words, spread evenly over the time."""
        words = self.text.split(" ")
        texts = [
            " ".join(words[at : at + _SEGMENT_WORDS]) for at in range(0, len(words), _SEGMENT_WORDS)
        ]
        step = self.seconds / len(texts)
        return [
            Segment(number=number, start=number * step, end=(number + 1) * step, text=text)
            for number, text in enumerate(texts)
        ]


def transcriptions_answer(call: Call) -> Answer:
    """Raises Refusal."""
    return _answer(call, task="transcribe")


def translations_answer(call: Call) -> Answer:
    """Raises Refusal."""
    return _answer(call, task="translate")


def _answer(call: Call, *, task: Literal["transcribe", "translate"]) -> Answer:
    form = form_read(call.body, content_type=call.content_type)
    request = fields_convert(form.plain(lists=_LISTS), kind=TranscriptionRequest)
    model_check(request.model, endpoint="audio")
    files = form.files.get("file", ())
    if len(files) != 1:
        raise missing("file")
    _file_check(files[0])
    _options_check(request, task=task)
    heard = _heard(request, file=files[0], task=task, digest=call.digest)
    # The oldest model just ignores the wish for a stream.
    if request.stream and request.family != "whisper":
        return Answer(knobs=heard.knobs, stream=_stream(heard))
    return _document_answer(heard)


def _file_check(file: File) -> None:
    """Raises Refusal."""
    if len(file.data) > MAX_FILE_BYTES:
        message = f"Maximum content size limit ({MAX_FILE_BYTES}) exceeded."
        raise Refusal(413, ErrorBody(message=message))
    if not file.filename.lower().endswith(_ENDINGS):
        raise bad_request(f"Invalid file format. Supported formats: {list(_ENDINGS)}", param="file")


def _options_check(
    request: TranscriptionRequest, *, task: Literal["transcribe", "translate"]
) -> None:
    """Raises Refusal."""
    if task == "translate" and request.family != "whisper":
        raise bad_request("This model does not translate.", param="model")
    supported = _FORMATS[request.family]
    if request.response_format not in (None, *supported):
        raise value_refusal(
            str(request.response_format), param="response_format", supported=supported
        )
    if request.include and request.family != "other":
        raise bad_request("This model has no log probabilities.", param="include")
    if request.timestamp_granularities and request.response_format != "verbose_json":
        raise bad_request(
            "'timestamp_granularities' needs 'verbose_json'.", param="timestamp_granularities"
        )
    streams = bool(request.stream) and request.family != "whisper"
    knobs_check(request.simulate or NO_KNOBS, stream=streams)


def _heard(
    request: TranscriptionRequest,
    *,
    file: File,
    task: Literal["transcribe", "translate"],
    digest: str,
) -> _Heard:
    knobs = request.simulate or NO_KNOBS
    seconds = seconds_of(file.data) if knobs.seconds is None else knobs.seconds
    tokenizer = Tokenizer(request.model)
    text = knobs.text
    if text is None:
        text = f"There was silence for {seconds:.2f} seconds in {file.filename}."
        if knobs.chunks is not None:
            text = demo_lengthened(text, tokens=knobs.chunks, tokenizer=tokenizer)
    pieces = tuple(tokenizer.pieces(text))
    return _Heard(
        request=request,
        knobs=knobs,
        task=task,
        digest=digest,
        seconds=seconds,
        pieces=pieces,
        usage=_usage(request, knobs=knobs, seconds=seconds, pieces=pieces),
    )


def _usage(
    request: TranscriptionRequest, *, knobs: Knobs, seconds: float, pieces: tuple[Piece, ...]
) -> Usage:
    if request.family == "whisper":
        return usage_reported({"type": "duration", "seconds": math.ceil(seconds)}, knobs=knobs)
    read = Tokenizer(request.model).count_all([request.prompt or ""])
    listened = given(knobs.audio_tokens, math.ceil(seconds * TOKENS_PER_SECOND))
    put_in = given(knobs.prompt_tokens, read + listened)
    put_out = given(knobs.completion_tokens, sum(len(piece.tokens) for piece in pieces))
    counted = {
        "type": "tokens",
        "total_tokens": given(knobs.total_tokens, put_in + put_out),
        "input_tokens": put_in,
        "input_token_details": {"text_tokens": put_in - listened, "audio_tokens": listened},
        "output_tokens": put_out,
    }
    return usage_reported(counted, knobs=knobs)


def _document_answer(heard: _Heard) -> Answer:
    knobs = heard.knobs
    match heard.request.response_format:
        case "text":
            return _text_answer(knobs, f"{heard.text}\n")
        case "srt":
            return _text_answer(knobs, srt_make(heard.segments()))
        case "vtt":
            return _text_answer(knobs, vtt_make(heard.segments()))
        case "verbose_json":
            document = _verbose(heard)
        case "diarized_json":
            document = _diarized(heard)
        case _:
            document = {"text": heard.text}
            if heard.shows_logprobs:
                document["logprobs"] = _logprobs(heard.pieces)
    # A translation does not say what it cost.
    if knobs.fault != "no_usage" and (heard.task == "transcribe" or knobs.usage):
        document["usage"] = heard.usage
    return Answer(knobs=knobs, document=document)


def _text_answer(knobs: Knobs, text: str) -> Answer:
    return Answer(knobs=knobs, body=text.encode(), content_type=PLAIN_TEXT)


def _verbose(heard: _Heard) -> dict[str, Any]:
    language = "english" if heard.task == "translate" else heard.request.language or "english"
    document: dict[str, Any] = {
        "task": heard.task,
        "language": language,
        "duration": heard.seconds,
        "text": heard.text,
    }
    wanted = heard.request.timestamp_granularities or ["segment"]
    if "segment" in wanted:
        document["segments"] = [
            {
                "id": segment.number,
                "seek": 0,
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": [50364, 50365 + segment.number],
                "temperature": heard.request.temperature or 0.0,
                "avg_logprob": -0.125,
                "compression_ratio": 1.25,
                "no_speech_prob": 0.0625,
            }
            for segment in heard.segments()
        ]
    if "word" in wanted:
        words = heard.text.split(" ")
        step = heard.seconds / len(words)
        document["words"] = [
            {"word": word, "start": at * step, "end": (at + 1) * step}
            for at, word in enumerate(words)
        ]
    return document


def _diarized(heard: _Heard) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "duration": heard.seconds,
        "text": heard.text,
        "segments": [_spoken_segment(segment) for segment in heard.segments()],
    }


def _spoken_segment(segment: Segment) -> dict[str, Any]:
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{segment.number:03d}",
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "speaker": "AB"[segment.number % 2],
    }


def _logprobs(pieces: tuple[Piece, ...]) -> list[dict[str, Any]]:
    return [
        {"token": token.text, "logprob": -0.125, "bytes": list(token.data)}
        for piece in pieces
        for token in piece.tokens
    ]


def _stream(heard: _Heard) -> EventStream:
    events = [
        Event("content", _encoded("delta", delta=_text(pieces), **_shown_logprobs(heard, pieces)))
        for pieces in pieces_chunk(heard.pieces, chunks=heard.knobs.chunks or MAX_EVENTS)
    ]
    if heard.request.family == "diarize":
        events += [
            Event("finish", msgspec.json.encode(_spoken_segment(segment)))
            for segment in heard.segments()
        ]
    return EventStream(
        events=[*events, _done_event(heard, heard.usage)],
        usage=heard.usage,
        usage_event=partial(_done_event, heard),
        padding_event=_padding_event,
        error_event=nameless_error,
    )


def _text(pieces: tuple[Piece, ...]) -> str:
    return "".join(piece.text for piece in pieces)


def _shown_logprobs(heard: _Heard, pieces: tuple[Piece, ...]) -> dict[str, Any]:
    return {"logprobs": _logprobs(pieces)} if heard.shows_logprobs else {}


def _done_event(heard: _Heard, usage: Usage) -> Event:
    more = {} if heard.knobs.fault == "no_usage" else {"usage": usage}
    shown = _shown_logprobs(heard, heard.pieces)
    return Event("usage", _encoded("done", text=heard.text, **shown, **more))


def _padding_event(size: int) -> Event:
    return Event("noise", _encoded("padding", padding="x" * size))


def _encoded(what: str, **more: Any) -> bytes:
    return msgspec.json.encode({"type": f"transcript.text.{what}"} | more)
