"""`/v1/audio/transcriptions` and `/v1/audio/translations`."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)

from relay.simulator.sounds import silence_make
from tests.relay.simulator.shapes import shape_check
from tests.relay.simulator.support import Form, RawResponse, Upstream, events_of, simulate_form

WAV = silence_make(2.25, form="wav")
TEXT = "There was silence for 2.25 seconds in a.wav."
# By the SDK, not by the endpoint.
DEPRECATED = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
PATH = "/v1/audio/transcriptions"


def call(
    upstream: Upstream, simulate: Any = None, *, path: str = PATH, **fields: Any
) -> RawResponse:
    return upstream.call(
        simulate_form(simulate or {}, {"model": "whisper-1"} | fields, WAV), path=path
    )


def test_seconds_are_paid_for_as_they_begin(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", WAV))
    shape_check(Transcription, answer.to_dict(exclude_unset=True))

    assert answer.text == TEXT
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 3


def test_tokens_are_paid_for_by_newer_models(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", WAV), prompt="Some words.", include=["logprobs"]
    )
    shape_check(Transcription, answer.to_dict(exclude_unset=True))

    assert answer.usage is not None
    assert answer.usage.type == "tokens"
    details = answer.usage.input_token_details
    assert details is not None
    assert (details.text_tokens, details.audio_tokens) == (3, 23)
    assert answer.usage.input_tokens == 26
    assert answer.usage.total_tokens == 26 + answer.usage.output_tokens
    assert answer.logprobs is not None
    assert len(answer.logprobs) == answer.usage.output_tokens


def test_a_verbose_answer_has_times(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="whisper-1",
        file=("a.wav", WAV),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    assert isinstance(answer, TranscriptionVerbose)
    assert answer.duration == 2.25
    assert answer.words is not None
    assert answer.segments is not None
    assert [word.word for word in answer.words] == TEXT.split(" ")
    assert answer.segments[0].start == 0
    assert answer.segments[-1].end == 2.25


def test_speakers_are_told_apart(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="gpt-4o-transcribe-diarize", file=("a.wav", WAV), response_format="diarized_json"
    )

    assert isinstance(answer, TranscriptionDiarized)
    assert [segment.speaker for segment in answer.segments] == ["A", "B"]
    assert answer.usage is not None
    assert answer.usage.type == "tokens"


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ("text", f"{TEXT}\n"),
        (
            "srt",
            (
                "1\n00:00:00,000 --> 00:00:01,125\nThere was silence for 2.25\n\n"
                "2\n00:00:01,125 --> 00:00:02,250\nseconds in a.wav.\n\n"
            ),
        ),
        (
            "vtt",
            (
                "WEBVTT\n\n00:00:00.000 --> 00:00:01.125\nThere was silence for 2.25\n\n"
                "00:00:01.125 --> 00:00:02.250\nseconds in a.wav.\n\n"
            ),
        ),
    ],
)
def test_an_answer_may_be_plain_text(
    upstream: Upstream, response_format: str, expected: str
) -> None:
    for path in (PATH, "/v1/audio/translations"):
        response = call(upstream, path=path, response_format=response_format)

        assert response.header("content-type") == "text/plain; charset=utf-8"
        assert response.body.decode() == expected


@DEPRECATED
def test_a_translation_does_not_say_what_it_cost(client: OpenAI) -> None:
    short = client.audio.translations.create(model="whisper-1", file=("a.wav", WAV))
    long = client.audio.translations.create(
        model="whisper-1", file=("a.wav", WAV), response_format="verbose_json"
    )

    assert isinstance(short, Translation)
    assert short.to_dict() == {"text": TEXT}
    assert isinstance(long, TranslationVerbose)
    assert long.duration == 2.25
    assert "usage" not in long.to_dict()


def test_a_text_is_streamed(upstream: Upstream) -> None:
    response = call(upstream, model="gpt-4o-transcribe", stream="true")
    *deltas, (name, last) = events_of(response)

    assert name is None
    parts = [shape_check(TranscriptionTextDeltaEvent, event).delta for _, event in deltas]
    assert len(parts) > 5
    assert "".join(parts) == TEXT
    done = shape_check(TranscriptionTextDoneEvent, last)
    assert done.text == TEXT
    assert done.usage is not None
    assert done.usage.output_tokens == len(parts)


def test_a_stream_may_have_segments(client: OpenAI) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe-diarize", file=("a.wav", WAV), stream=True
        )
    )

    assert sum(isinstance(event, TranscriptionTextSegmentEvent) for event in events) == 2
    assert isinstance(events[-1], TranscriptionTextDoneEvent)


def test_the_oldest_model_does_not_stream(upstream: Upstream) -> None:
    response = call(upstream, stream="true")

    assert response.header("content-type") == "application/json"
    assert response.document()["text"] == TEXT


def test_a_test_can_say_how_long_a_sound_is(upstream: Upstream) -> None:
    def usage(**simulate: Any) -> Any:
        return call(upstream, simulate).document().get("usage")

    assert usage(seconds=61.5) == {"type": "duration", "seconds": 62}
    assert usage(fault="no_usage") is None
    assert usage(fault="absurd_usage") == {"type": "duration", "seconds": -1}
    assert usage(usage={"type": "smell"}) == {"type": "smell"}


@pytest.mark.parametrize(
    "form",
    [
        Form({}, WAV),
        Form({"model": "whisper-1"}, WAV, file_field="sound"),
        Form({"model": "whisper-1"}, WAV, filename="a.txt"),
        Form({"model": ["whisper-1", "whisper-1"]}, WAV),
        Form({"model": "whisper-1", "response_format": "xml"}, WAV),
        Form({"model": "gpt-4o-transcribe", "response_format": "srt"}, WAV),
        Form({"model": "whisper-1", "timestamp_granularities[]": "word"}, WAV),
        Form({"model": "whisper-1", "include[]": "logprobs"}, WAV),
        Form({"model": "whisper-1", "simulate": "[]"}, WAV),
    ],
)
def test_a_bad_form_is_refused(upstream: Upstream, form: Form) -> None:
    assert upstream.call(form, path=PATH).status == 400


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"--x\r\n", Form({"model": "whisper-1"}, WAV).encoded()]
)
def test_what_is_no_form_is_refused(upstream: Upstream, body: bytes) -> None:
    assert upstream.call(body, path=PATH).status == 400


def test_only_one_model_translates(upstream: Upstream) -> None:
    response = call(upstream, path="/v1/audio/translations", model="gpt-4o-transcribe")

    assert response.document()["error"]["param"] == "model"


def test_a_file_may_be_too_large(upstream: Upstream) -> None:
    response = upstream.call(Form({"model": "whisper-1"}, bytes(25 * 2**20 + 1)), path=PATH)

    assert response.status == 413


def test_a_model_that_does_not_listen_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="gpt-4o", file=("a.wav", WAV))
