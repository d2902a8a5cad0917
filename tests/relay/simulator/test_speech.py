"""`POST /v1/audio/speech`."""

import base64
from typing import Any

import openai
import pytest
from openai import OpenAI

from relay.media import DurationMeter
from relay.simulator.speech import MAX_CHARACTERS
from relay.simulator.tokens import Tokenizer
from tests.relay.simulator.support import RawResponse, Upstream, events_of


def speak(upstream: Upstream, simulate: Any = None, **fields: Any) -> RawResponse:
    body = {"model": "gpt-4o-mini-tts", "input": "hi", "voice": "alloy", "simulate": simulate or {}}
    return upstream.call(body | fields, path="/v1/audio/speech")


def milliseconds(data: bytes) -> int | None:
    meter = DurationMeter()
    meter.feed(data)
    return meter.close()


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav"])
def test_a_sound_is_as_long_as_asked_for(upstream: Upstream, form: str) -> None:
    response = speak(upstream, {"seconds": 1.5}, model="tts-1", response_format=form)

    assert response.status == 200
    length = milliseconds(response.body)
    assert length is not None
    # MP3 has whole frames only.
    assert 1_500 <= length < 1_524


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        (None, "audio/mpeg"),
        ("aac", "audio/aac"),
        ("opus", "audio/opus"),
        ("flac", "audio/flac"),
        ("pcm", "audio/pcm"),
    ],
)
def test_a_sound_has_its_content_type(
    upstream: Upstream, form: str | None, content_type: str
) -> None:
    response = speak(upstream, **({"response_format": form} if form else {}))

    assert response.header("content-type") == content_type
    assert response.header("content-length") is None
    assert response.is_whole
    assert response.body


def test_it_goes_out_in_parts(upstream: Upstream) -> None:
    tag = "speech-in-parts"
    response = speak(upstream, {"tag": tag, "seconds": 2}, response_format="pcm")

    assert len(response.body) == 2 * 24_000 * 2
    assert upstream.await_outcome(tag, "complete")["writes"] == 12


def test_the_sdk_reads_a_sound(client: OpenAI) -> None:
    answer = client.audio.speech.create(model="tts-1-hd", input="hello " * 40, voice="nova")

    assert milliseconds(answer.read()) == 2_400


def test_events_carry_the_sound(upstream: Upstream) -> None:
    fields = {"input": "hello " * 40, "instructions": "Cheerful.", "response_format": "wav"}
    plain = speak(upstream, **fields).body
    *deltas, (name, last) = events_of(speak(upstream, stream_format="sse", **fields))

    assert {event["type"] for _, event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for _, event in deltas) == plain
    assert name is None
    read = sum(
        Tokenizer("gpt-4o-mini-tts").count(fields[name]) for name in ("input", "instructions")
    )
    assert last == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": read, "output_tokens": 48, "total_tokens": read + 48},
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ""},
        {"input": "x" * (MAX_CHARACTERS + 1)},
        {"response_format": "midi"},
        {"speed": 5},
        {"model": "tts-1", "stream_format": "sse"},
        {"simulate": {"framing": "cr"}},
    ],
)
def test_a_bad_request_is_refused(upstream: Upstream, fields: Any) -> None:
    assert speak(upstream, **fields).status == 400


def test_characters_are_counted_and_not_bytes(upstream: Upstream) -> None:
    assert speak(upstream, input="你" * MAX_CHARACTERS).status == 200


def test_an_error_is_what_the_sdk_expects(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.audio.speech.create(model="whisper-1", input="hi", voice="alloy")
