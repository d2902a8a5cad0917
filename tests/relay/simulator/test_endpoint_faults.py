"""Every fault at every endpoint, as bytes on a socket."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from relay.simulator.pictures import picture_bytes
from relay.simulator.sounds import silence_make
from tests.relay.simulator.support import Form, RawResponse, Upstream
from tests.relay.simulator.test_faults import events_read

WAV, PNG = silence_make(0.5, form="wav"), picture_bytes(16, 16, "png")
# Paths, and what is sent there.
STREAMS: dict[str, tuple[str, Any]] = {
    "completions": (
        "completions",
        {
            "model": "davinci-002",
            "prompt": "hi",
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "responses": (
        "responses",
        {"model": "gpt-5", "input": "hi", "stream": True, "tools": [{"type": "web_search"}]},
    ),
    "images": (
        "images/generations",
        {"model": "gpt-image-1", "prompt": "hi", "stream": True, "partial_images": 2},
    ),
    "edits": (
        "images/edits",
        Form({"prompt": "hi", "stream": "true", "partial_images": "2"}, PNG, file_field="image"),
    ),
    "speech": (
        "audio/speech",
        {"model": "gpt-4o-mini-tts", "input": "hi " * 40, "voice": "ash", "stream_format": "sse"},
    ),
    "transcriptions": (
        "audio/transcriptions",
        Form({"model": "gpt-4o-transcribe", "stream": "true"}, WAV),
    ),
}
DOCUMENTS: dict[str, tuple[str, Any]] = {
    "completions": ("completions", {"model": "davinci-002", "prompt": "hi"}),
    "embeddings": (
        "embeddings",
        {"model": "text-embedding-3-small", "input": "hi", "dimensions": 4},
    ),
    "moderations": ("moderations", {"input": "hi"}),
    "responses": ("responses", {"model": "gpt-5", "input": "hi"}),
    "compact": ("responses/compact", {"model": "gpt-5", "input": "hi"}),
    "images": ("images/generations", {"prompt": "hi"}),
    "edits": ("images/edits", Form({"prompt": "hi"}, PNG, file_field="image")),
    "variations": ("images/variations", Form({}, PNG, file_field="image")),
    "speech": ("audio/speech", {"model": "tts-1", "input": "hi " * 40, "voice": "ash"}),
    "transcriptions": ("audio/transcriptions", Form({"model": "whisper-1"}, WAV)),
    "translations": (
        "audio/translations",
        Form({"model": "whisper-1", "response_format": "srt"}, WAV),
    ),
}
MARKS = {
    "crlf": b"\r\n\r\n",
    "cr": b"\r\r",
    "bom": b"\xef\xbb\xbf",
    "comments": b": event 1\n",
    "event_lines": b"\nretry: 3000\n",
    "multi_line": b"\ndata:  ",
}
every_stream = pytest.mark.parametrize("name", STREAMS)
every_document = pytest.mark.parametrize("name", DOCUMENTS)


def with_knobs(request: Any, simulate: dict[str, Any]) -> Any:
    if isinstance(request, Form):
        return replace(request, fields=request.fields | {"simulate": json.dumps(simulate)})
    return request | {"simulate": simulate}


def stream(upstream: Upstream, name: str, **simulate: Any) -> RawResponse:
    path, request = STREAMS[name]
    return upstream.call(with_knobs(request, simulate), path=f"/v1/{path}")


def document(upstream: Upstream, name: str, **simulate: Any) -> RawResponse:
    path, request = DOCUMENTS[name]
    return upstream.call(with_knobs(request, simulate), path=f"/v1/{path}")


def events(response: RawResponse) -> list[Any]:
    """The data of the events, however they are framed."""
    return [text if text == "[DONE]" else json.loads(text) for text in events_read(response.body)]


def usage_of(event: Any) -> Any:
    if event == "[DONE]":
        return None
    return event.get("usage") or event.get("response", {}).get("usage")


def usages(response: RawResponse) -> list[Any]:
    return [usage for usage in map(usage_of, events(response)) if usage is not None]


@every_stream
def test_a_stream_without_faults_has_usage_once(upstream: Upstream, name: str) -> None:
    response = stream(upstream, name)

    assert (response.status, response.is_whole) == (200, True)
    assert response.header("content-type") == "text/event-stream; charset=utf-8"
    assert response.header("x-ratelimit-remaining-requests") is not None
    assert len(usages(response)) == 1


@every_stream
@pytest.mark.parametrize("framing", MARKS)
def test_a_framing_changes_no_event(upstream: Upstream, name: str, framing: str) -> None:
    # Responses differ in their ids, because each of them is a new one.
    usual = stream(upstream, name)
    framed = stream(upstream, name, framing=framing)
    fault = stream(upstream, name, fault=framing)

    assert usages(framed) == usages(fault) == usages(usual)
    assert len(events(framed)) == len(events(fault)) == len(events(usual))
    assert MARKS[framing] in framed.body
    assert MARKS[framing] in fault.body
    assert MARKS[framing] not in usual.body


@every_stream
def test_an_unusual_framing_comes_byte_by_byte(upstream: Upstream, name: str) -> None:
    tag = f"bytes-{name}"
    response = stream(upstream, name, framing="cr", fault="split_bytes", tag=tag)

    assert b"\n" not in response.body
    assert len(usages(response)) == 1
    assert upstream.await_outcome(tag, "complete")["writes"] >= len(response.body)


@every_stream
def test_a_stream_is_cut_before_its_usage(upstream: Upstream, name: str) -> None:
    for fault, is_whole in (("cut", False), ("truncated", True)):
        response = stream(upstream, name, fault=fault, after_chunks=1)

        assert response.is_whole is is_whole
        assert events(response)
        assert usages(response) == []
        assert "[DONE]" not in events(response)


@every_stream
def test_an_error_comes_first_or_later(upstream: Upstream, name: str) -> None:
    told = {"message": "Overloaded", "code": "server_is_overloaded"}
    first = events(stream(upstream, name, fault="error_event_first", error=told))[0]
    later = events(stream(upstream, name, fault="error_event_after", error=told))

    assert first.get("error", first)["code"] == "server_is_overloaded"
    errors = [event for event in later if event != "[DONE]" and "Overloaded" in str(event)]
    assert len(errors) == 1
    assert later.index(errors[0]) > 0
    assert not any(map(usage_of, later))


@every_stream
def test_usage_may_be_missing_or_absurd_or_twice(upstream: Upstream, name: str) -> None:
    (usual,) = usages(stream(upstream, name))
    assert usages(stream(upstream, name, fault="no_usage")) == []
    assert usages(stream(upstream, name, fault="done_without_usage")) == []

    (absurd,) = usages(stream(upstream, name, fault="absurd_usage"))
    assert absurd["total_tokens"] == -2
    assert usages(stream(upstream, name, usage="lots")) == ["lots"]
    (more,) = usages(stream(upstream, name, usage_more={"video_tokens": 3}))
    assert more == usual | {"video_tokens": 3}

    doubled, last = usages(stream(upstream, name, fault="usage_twice"))
    assert doubled["total_tokens"] == 2 * usual["total_tokens"]
    assert last == usual


@every_stream
def test_data_comes_after_the_end(upstream: Upstream, name: str) -> None:
    response = stream(upstream, name, fault="data_after_done")

    assert [usage["total_tokens"] for usage in usages(response)][1:] == [2]
    assert events(response)[-1] == "[DONE]"


@every_stream
def test_noise_comes_between_events(upstream: Upstream, name: str) -> None:
    big = stream(upstream, name, fault="big_line", bytes=2_000_000)
    assert max(map(len, big.body.split(b"\n"))) > 2_000_000
    assert len(usages(big)) == 1

    broken = stream(upstream, name, fault="invalid_utf8")
    with pytest.raises(UnicodeDecodeError):
        broken.body.decode()
    garbage = stream(upstream, name, fault="garbage")
    with pytest.raises(json.JSONDecodeError):
        events(garbage)


@every_stream
def test_a_stream_falls_silent(upstream: Upstream, name: str) -> None:
    tag = f"silent-{name}"
    path, request = STREAMS[name]
    simulate = {"fault": "silent_stream", "after_chunks": 1, "tag": tag}
    with upstream.connect(with_knobs(request, simulate), path=f"/v1/{path}") as connection:
        received = b""
        while b"data:" not in received:
            received += connection.recv(1 << 16)

    assert upstream.await_outcome(tag, "client_left")["writes"] >= 1


@every_document
def test_a_document_is_cut(upstream: Upstream, name: str) -> None:
    assert document(upstream, name).is_whole
    assert not document(upstream, name, fault="cut").is_whole
    assert not document(upstream, name, fault="bad_content_length").is_whole


@every_document
def test_an_answer_is_of_another_kind(upstream: Upstream, name: str) -> None:
    html = document(upstream, name, fault="html")
    assert (html.status, html.body[:9]) == (200, b"<!DOCTYPE")
    empty = document(upstream, name, fault="empty_body")
    assert (empty.status, empty.body) == (200, b"")
    error = document(upstream, name, fault="json_error_200")
    assert error.document()["error"]["type"] == "server_error"
    assert document(upstream, name, fault="redirect").status == 302
    headers = {"content-type": "text/csv"}
    assert document(upstream, name, headers=headers).header("content-type") == "text/csv"


@every_document
def test_an_answer_is_an_error(upstream: Upstream, name: str) -> None:
    response = document(upstream, name, status=429, retry_after=7)

    assert response.status == 429
    assert response.document()["error"]["code"] == "rate_limit_exceeded"
    assert response.header("retry-after") == "7"


@every_document
def test_an_answer_is_compressed(upstream: Upstream, name: str) -> None:
    usual, packed = document(upstream, name), document(upstream, name, fault="gzip")

    assert packed.header("content-encoding") == "gzip"
    assert len(gzip.decompress(packed.body)) == len(usual.body)


@every_document
def test_an_answer_comes_byte_by_byte(upstream: Upstream, name: str) -> None:
    usual, split = document(upstream, name), document(upstream, name, fault="split_bytes")

    assert len(split.body) == len(usual.body)


@every_document
def test_a_fault_of_a_stream_is_refused(upstream: Upstream, name: str) -> None:
    response = document(upstream, name, fault="no_done")

    assert response.status == 400
    assert response.document()["error"]["param"] == "simulate.fault"
