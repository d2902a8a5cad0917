"""Streams: through the official SDK, and as bytes."""

import json
from typing import Any

import pytest
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from tests.relay.simulator.shapes import chunk_check
from tests.relay.simulator.support import Upstream, chat_body, stream_body
from tests.relay.simulator.test_answers import WEATHER


def spoken(chunks: list[dict[str, Any]], *, index: int = 0) -> str:
    deltas = (
        choice["delta"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )
    return "".join(delta.get("content") or "" for delta in deltas)


def test_the_sdk_reads_a_stream(client: OpenAI) -> None:
    stream: Stream[ChatCompletionChunk] = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)

    content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert content.startswith('You said: "hi".')
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_every_chunk_has_the_shape(upstream: Upstream) -> None:
    response = upstream.call(stream_body(n=2, logprobs=True, top_logprobs=2))

    assert response.header("content-type") == "text/event-stream; charset=utf-8"
    assert response.header("content-length") is None
    assert response.data()[-1] == b"[DONE]"
    *chunks, last = response.chunks()
    for chunk in chunks:
        assert chunk_check(chunk, shows_usage=True).usage is None
    chunk_check(last, shows_usage=True)
    assert last["choices"] == []
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1


# The choices of a demo text differ in length.
@pytest.mark.parametrize("simulate", [None, {"text": "Grüße, 你好 😀 and more."}])
def test_a_stream_says_what_the_document_says(
    upstream: Upstream, simulate: dict[str, Any] | None
) -> None:
    document = upstream.call(chat_body(simulate, n=3)).document()
    chunks = upstream.call(stream_body(simulate, n=3)).chunks()

    for index, choice in enumerate(document["choices"]):
        assert spoken(chunks, index=index) == choice["message"]["content"]
    assert chunks[-1]["usage"] == document["usage"]


def test_without_the_option_no_chunk_has_usage(upstream: Upstream) -> None:
    response = upstream.call(stream_body(stream_options=None))

    assert response.data()[-1] == b"[DONE]"
    for chunk in response.chunks():
        assert chunk_check(chunk, shows_usage=False).usage is None
        assert len(chunk["choices"]) == 1


@pytest.mark.parametrize("chunks", [1, 3, 7, 200])
def test_chunks_are_as_many_as_asked_for(upstream: Upstream, chunks: int) -> None:
    sent = upstream.call(stream_body({"chunks": chunks})).chunks()
    deltas = [choice["delta"] for chunk in sent for choice in chunk["choices"]]

    assert sum(bool(delta.get("content")) for delta in deltas) == chunks


def test_a_text_of_fewer_tokens_has_fewer_chunks(upstream: Upstream) -> None:
    sent = upstream.call(stream_body({"chunks": 50, "text": "one two"})).chunks()

    # A role, two words, a finish, the usage.
    assert len(sent) == 5


def test_an_empty_text_has_no_content_chunk(upstream: Upstream) -> None:
    sent = upstream.call(stream_body({"text": ""})).chunks()

    assert spoken(sent) == ""
    assert len(sent) == 3
    assert sent[-1]["usage"]["completion_tokens"] == 0


def test_a_tool_call_comes_in_deltas(upstream: Upstream) -> None:
    document = upstream.call(chat_body(tools=[WEATHER])).document()
    chunks = upstream.call(stream_body(tools=[WEATHER])).chunks()
    for chunk in chunks:
        chunk_check(chunk, shows_usage=True)
    first, *others, finish = [choice for chunk in chunks for choice in chunk["choices"]]
    (opening,) = first["delta"]["tool_calls"]
    parts = [call for choice in others for call in choice["delta"]["tool_calls"]]

    (call,) = document["choices"][0]["message"]["tool_calls"]
    assert opening["type"] == "function"
    assert opening["id"].startswith("call_")
    assert opening["function"] == {"name": call["function"]["name"], "arguments": ""}
    assert {part["index"] for part in parts} == {0}
    arguments = "".join(part["function"]["arguments"] for part in parts)
    assert arguments == call["function"]["arguments"]
    assert json.loads(arguments)["location"] == "San Francisco, CA"
    assert finish["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == document["usage"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"functions": [WEATHER["function"]]}, "function_call"),
        ({"tools": [{"type": "custom", "custom": {"name": "shell"}}]}, "tool_calls"),
        ({"simulate": {"refusal": True}}, "refusal"),
    ],
)
def test_other_deltas_come_in_their_field(
    upstream: Upstream, fields: dict[str, Any], field: str
) -> None:
    chunks = upstream.call(stream_body(**fields)).chunks()

    middle = [choice["delta"] for chunk in chunks[1:] for choice in chunk["choices"]][:-1]
    assert middle
    assert all(set(delta) == {field} for delta in middle)


def test_a_limit_cuts_a_stream(upstream: Upstream) -> None:
    chunks = upstream.call(stream_body(max_completion_tokens=4)).chunks()

    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 4


def test_log_probabilities_come_with_their_tokens(upstream: Upstream) -> None:
    chunks = upstream.call(stream_body({"chunks": 4}, logprobs=True)).chunks()
    tokens = [
        bytes(token["bytes"])
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"] is not None
        for token in choice["logprobs"]["content"]
    ]

    assert b"".join(tokens).decode() == spoken(chunks)
