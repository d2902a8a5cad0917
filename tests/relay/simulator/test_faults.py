"""The faults, as bytes on a socket."""

import gzip
import json
import socket
import zlib
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.relay.simulator.support import RawResponse, Upstream, chat_body, stream_body
from tests.relay.simulator.test_completions import spoken


def fault(upstream: Upstream, name: str, *, stream: bool = False, **knobs: Any) -> RawResponse:
    make = stream_body if stream else chat_body
    return upstream.call(make({"fault": name, **knobs}))


def stream_fault(upstream: Upstream, name: str, **knobs: Any) -> RawResponse:
    return fault(upstream, name, stream=True, **knobs)


def usages(response: RawResponse) -> list[Any]:
    return [chunk["usage"] for chunk in response.chunks() if chunk.get("usage") is not None]


def usage_without_fault(upstream: Upstream) -> Any:
    return upstream.call(chat_body()).document()["usage"]


def contents(response: RawResponse) -> list[str]:
    deltas = [choice["delta"] for chunk in response.chunks() for choice in chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


def test_no_usage_leaves_it_out(upstream: Upstream) -> None:
    assert "usage" not in fault(upstream, "no_usage").document()

    response = stream_fault(upstream, "no_usage")
    assert all("usage" not in chunk for chunk in response.chunks())
    assert response.data()[-1] == b"[DONE]"


@pytest.mark.parametrize("after", [1, 3])
def test_a_stream_is_cut(upstream: Upstream, after: int) -> None:
    response = stream_fault(upstream, "cut", after_chunks=after)

    assert response.status == 200
    assert not response.is_whole
    assert len(contents(response)) == after


def test_a_stream_is_cut_after_its_head(upstream: Upstream) -> None:
    response = stream_fault(upstream, "cut", after_chunks=0)

    assert (response.status, response.body, response.is_whole) == (200, b"", False)


def test_a_stream_is_cut_after_all_content(upstream: Upstream) -> None:
    response = stream_fault(upstream, "cut", after_chunks=10_000)

    assert not response.is_whole
    assert "".join(contents(response)).endswith("gpt-4o.")
    assert usages(response) == []


@pytest.mark.parametrize("after", [0, 1])
def test_a_document_is_cut(upstream: Upstream, after: int) -> None:
    response = fault(upstream, "cut", after_chunks=after)

    assert not response.is_whole
    assert bool(response.body) == bool(after)


def test_a_cut_answer_is_an_error_to_the_sdk(client: OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hi"}],
            extra_body={"simulate": {"fault": "cut"}},
        )


def test_a_truncated_stream_ends_in_order(upstream: Upstream) -> None:
    response = stream_fault(upstream, "truncated", after_chunks=2)

    assert response.is_whole
    assert len(contents(response)) == 2
    assert response.chunks()[-1]["choices"][0]["finish_reason"] is None


def test_the_first_event_is_an_error(upstream: Upstream) -> None:
    error, done = stream_fault(upstream, "error_event_first").data()

    assert json.loads(error)["error"]["type"] == "server_error"
    assert done == b"[DONE]"


def test_an_error_follows_content(upstream: Upstream) -> None:
    told = {"message": "Overloaded", "code": "server_is_overloaded"}
    response = stream_fault(upstream, "error_event_after", after_chunks=2, error=told)
    *_, error, done = response.data()

    assert json.loads(error)["error"]["code"] == "server_is_overloaded"
    assert done == b"[DONE]"
    assert response.body.count(b'"delta":{"content"') == 2


def test_an_error_event_is_an_error_to_the_sdk(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_body={"simulate": {"fault": "error_event_after"}},
    )

    with pytest.raises(openai.APIError, match="The server had an error"):
        list(stream)


def test_no_done_still_has_usage(upstream: Upstream) -> None:
    response = stream_fault(upstream, "no_done")

    assert response.is_whole
    assert b"[DONE]" not in response.body
    assert len(usages(response)) == 1


def test_done_comes_without_usage(upstream: Upstream) -> None:
    response = stream_fault(upstream, "done_without_usage")

    assert response.data()[-1] == b"[DONE]"
    assert usages(response) == []
    assert all("usage" in chunk for chunk in response.chunks())


def test_usage_comes_twice_and_the_last_is_right(upstream: Upstream) -> None:
    first, last = usages(stream_fault(upstream, "usage_twice"))

    assert last == usage_without_fault(upstream)
    assert first["prompt_tokens"] == 2 * last["prompt_tokens"]
    assert first["total_tokens"] == 2 * last["total_tokens"]


def test_data_comes_after_done(upstream: Upstream) -> None:
    response = stream_fault(upstream, "data_after_done")
    *_, done, content, usage, again = response.data()

    assert (done, again) == (b"[DONE]", b"[DONE]")
    assert json.loads(content)["choices"][0]["delta"]["content"]
    assert json.loads(usage)["usage"]["total_tokens"] == 2


def test_garbage_is_no_json(upstream: Upstream) -> None:
    response = fault(upstream, "garbage")
    assert (response.status, response.is_whole) == (200, True)
    with pytest.raises(json.JSONDecodeError):
        response.document()

    data = stream_fault(upstream, "garbage").data()
    with pytest.raises(json.JSONDecodeError):
        json.loads(data[2])
    assert json.loads(data[3])["object"] == "chat.completion.chunk"
    assert data[-1] == b"[DONE]"


@pytest.mark.parametrize(("knobs", "status"), [({}, 200), ({"status": 502}, 502)])
@pytest.mark.parametrize("stream", [False, True])
def test_html_comes(upstream: Upstream, knobs: dict[str, Any], status: int, stream: bool) -> None:
    response = fault(upstream, "html", stream=stream, **knobs)

    assert response.status == status
    assert response.header("content-type") == "text/html; charset=utf-8"
    assert response.body.startswith(b"<!DOCTYPE html>")
    assert response.is_whole


def test_a_body_is_empty(upstream: Upstream) -> None:
    response = stream_fault(upstream, "empty_body", status=503)

    assert (response.status, response.body, response.is_whole) == (503, b"", True)


def test_an_error_comes_with_success(upstream: Upstream) -> None:
    response = stream_fault(upstream, "json_error_200")

    assert response.status == 200
    assert response.header("content-type") == "application/json"
    assert response.document()["error"]["type"] == "server_error"


@pytest.mark.parametrize(("knobs", "status"), [({}, 302), ({"status": 307}, 307)])
def test_a_redirect_leads_nowhere(upstream: Upstream, knobs: dict[str, Any], status: int) -> None:
    response = fault(upstream, "redirect", **knobs)

    assert response.status == status
    assert response.header("location") == "/simulator/redirected"


def test_gzip_comes_unasked(upstream: Upstream) -> None:
    response = fault(upstream, "gzip")
    assert response.header("content-encoding") == "gzip"
    assert response.is_whole
    document = json.loads(gzip.decompress(response.body))
    assert document["usage"] == usage_without_fault(upstream)

    stream = stream_fault(upstream, "gzip")
    assert stream.header("content-encoding") == "gzip"
    assert gzip.decompress(stream.body).rstrip().endswith(b"data: [DONE]")


def test_gzip_inflates_to_the_size(upstream: Upstream) -> None:
    response = fault(upstream, "gzip", bytes=5_000_000)

    assert len(response.body) < 20_000
    assert len(zlib.decompress(response.body, wbits=31)) == 5_000_000


@pytest.mark.parametrize("stream", [False, True])
def test_the_content_length_is_wrong(upstream: Upstream, stream: bool) -> None:
    response = fault(upstream, "bad_content_length", stream=stream)

    assert not response.is_whole
    assert response.header("content-length") == str(len(response.body) + 10)


def test_text_is_not_utf8(upstream: Upstream) -> None:
    for stream in (False, True):
        response = fault(upstream, "invalid_utf8", stream=stream)
        assert response.is_whole
        with pytest.raises(UnicodeDecodeError):
            response.body.decode()
        repaired = response.body.decode(errors="replace")
        assert "usage" in repaired


def test_a_line_is_big(upstream: Upstream) -> None:
    size = 3_000_000
    response = stream_fault(upstream, "big_line", bytes=size)
    assert max(map(len, response.data())) > size
    assert usages(response) == [usage_without_fault(upstream)]

    document = fault(upstream, "big_line", bytes=size).document()
    assert len(document["padding"]) == size
    assert document["usage"] == usage_without_fault(upstream)


def test_bytes_come_one_by_one(upstream: Upstream) -> None:
    tag = "bytes-one-by-one"
    response = stream_fault(upstream, "split_bytes", tag=tag, text="你好", chunks=1)

    assert spoken(response.chunks()) == "你好"
    assert response.data()[-1] == b"[DONE]"
    assert upstream.await_outcome(tag, "complete")["writes"] >= len(response.body)


@pytest.mark.parametrize("style", ["crlf", "cr", "bom", "comments", "event_lines", "multi_line"])
def test_events_are_framed_otherwise(upstream: Upstream, style: str) -> None:
    usual = upstream.call(stream_body({"text": "你好 and more"}))
    unusual = stream_fault(upstream, style, text="你好 and more")

    assert unusual.body != usual.body
    events = events_read(unusual.body)
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert spoken(chunks) == spoken(usual.chunks())
    assert chunks[-1]["usage"] == usages(usual)[0]


def test_each_framing_is_what_it_says(upstream: Upstream) -> None:
    bodies = {
        style: stream_fault(upstream, style).body
        for style in ("crlf", "cr", "bom", "comments", "event_lines", "multi_line")
    }

    assert bodies["crlf"].endswith(b"data: [DONE]\r\n\r\n")
    assert b"\n" not in bodies["cr"]
    assert bodies["bom"].startswith(b"\xef\xbb\xbfdata: ")
    assert bodies["bom"].count(b"\xef\xbb\xbf") == 1
    assert b"\n: event 1\ndata:{" in bodies["comments"]
    assert b"event: chunk\nid: 1\nretry: 3000\ndata: {" in bodies["event_lines"]
    assert b'data: {\ndata:  "id"' in bodies["multi_line"]


def events_read(body: bytes) -> list[str]:
    """The data of the events, by the rules of the HTML standard."""
    text = body.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    events, data = [], list[str]()
    for line in text.split("\n"):
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            events.append("\n".join(data))
            data = []
    assert data == []
    return events


def test_hang_sends_nothing_until_the_client_leaves(upstream: Upstream) -> None:
    tag = "hang"
    with upstream.connect(chat_body({"fault": "hang", "tag": tag})) as connection:
        upstream.await_outcome(tag, "open")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""

    assert upstream.await_outcome(tag, "client_left")["writes"] == 0


def test_a_stream_falls_silent(upstream: Upstream) -> None:
    tag = "silent"
    simulate = {"fault": "silent_stream", "after_chunks": 2, "tag": tag, "text": "one two three"}
    with upstream.connect(stream_body(simulate)) as connection:
        received = b""
        while b'"content":" two"' not in received:
            received += connection.recv(1 << 16)
        assert upstream.await_outcome(tag, "open")["writes"] == 3
        connection.shutdown(socket.SHUT_WR)
        assert b" three" not in connection.recv(1 << 16)

    assert upstream.await_outcome(tag, "client_left")["writes"] == 3


def test_a_stream_is_silent_from_its_head_on(upstream: Upstream) -> None:
    tag = "silent-head"
    with upstream.connect(stream_body({"fault": "silent_stream", "tag": tag})) as connection:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1 << 16)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.endswith(b"\r\n\r\n")

    assert upstream.await_outcome(tag, "client_left")["writes"] == 0


def test_a_client_that_leaves_during_the_delay_gets_nothing(upstream: Upstream) -> None:
    tag = "delayed"
    with upstream.connect(chat_body({"delay_ms": 600_000, "tag": tag})):
        upstream.await_outcome(tag, "open")

    assert upstream.await_outcome(tag, "client_left")["writes"] == 0


def test_a_client_that_leaves_between_chunks_stops_the_stream(upstream: Upstream) -> None:
    tag = "slow-chunks"
    with upstream.connect(stream_body({"chunk_delay_ms": 600_000, "tag": tag})) as connection:
        received = b""
        while b'"role":"assistant"' not in received:
            received += connection.recv(1 << 16)

    assert upstream.await_outcome(tag, "client_left")["writes"] == 1


def test_delays_that_end_lose_nothing(upstream: Upstream) -> None:
    slow = upstream.call(stream_body({"delay_ms": 5, "chunk_delay_ms": 0.5, "text": "one two"}))

    assert slow.is_whole
    assert spoken(slow.chunks()) == "one two"
