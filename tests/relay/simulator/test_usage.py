"""Reported tokens against counts made here, by the published formula."""

from typing import Any

import bpe_openai
import pytest

from tests.relay.simulator.shapes import document_check
from tests.relay.simulator.support import Upstream, chat_body

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LOW_IMAGE = {"type": "image_url", "image_url": {"url": "https://x.example", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}


def usage_of(upstream: Upstream, body: dict[str, Any]) -> dict[str, Any]:
    document = upstream.call(body).document()
    usage: dict[str, Any] = document["usage"]
    return usage


@pytest.mark.parametrize(("model", "name"), [("gpt-4", "cl100k_base"), ("gpt-5", "o200k_base")])
def test_prompt_and_completion_are_counted(upstream: Upstream, model: str, name: str) -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant. 你好世界"},
        {"role": "user", "name": "alice", "content": "Tell me something long and sensible."},
    ]
    document = upstream.call(chat_body(model=model, messages=messages, n=2)).document()
    document_check(document)
    encoding = bpe_openai.get_encoding(name)
    strings = [text for message in messages for text in message.values()]
    spoken = [choice["message"]["content"] for choice in document["choices"]]

    prompt = 3 + 2 * 3 + 1 + sum(len(encoding.encode_ordinary(text)) for text in strings)
    completion = sum(len(encoding.encode_ordinary(text)) for text in spoken)
    assert document["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def test_the_shortest_prompt_costs_what_openai_reports(upstream: Upstream) -> None:
    body = chat_body(model="gpt-4", messages=[{"role": "user", "content": "hello"}])

    assert usage_of(upstream, body)["prompt_tokens"] == 8


@pytest.mark.parametrize(
    ("part", "tokens", "audio"),
    [(IMAGE, 765, 0), (LOW_IMAGE, 85, 0), (AUDIO, 250, 250), (FILE, 1_000, 0)],
)
def test_parts_have_fixed_prices(
    upstream: Upstream, part: dict[str, Any], tokens: int, audio: int
) -> None:
    def usage_with(*parts: dict[str, Any]) -> dict[str, Any]:
        content = [{"type": "text", "text": "?"}, *parts]
        return usage_of(upstream, chat_body(messages=[{"role": "user", "content": content}]))

    plain, priced = usage_with(), usage_with(part)
    assert priced["prompt_tokens"] == plain["prompt_tokens"] + tokens
    assert priced["prompt_tokens_details"]["audio_tokens"] == audio


def test_tool_definitions_and_calls_are_counted(upstream: Upstream) -> None:
    def usage_with(description: str) -> dict[str, Any]:
        function = {"name": "look_up", "description": description, "parameters": {}}
        tools = [{"type": "function", "function": function}]
        return usage_of(upstream, chat_body(tools=tools))

    short, long = usage_with("one"), usage_with("one two three four")
    assert long["prompt_tokens"] == short["prompt_tokens"] + 3
    # Its name is two tokens, "{}" is one.
    assert short["completion_tokens"] == 3


def test_knobs_override_what_is_reported(upstream: Upstream) -> None:
    knobs = {
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "cached_tokens": 400,
        "cache_write_tokens": 300,
        "audio_tokens": 20,
        "image_tokens": 10,
        "reasoning_tokens": 100,
        "output_audio_tokens": 5,
        "accepted_prediction_tokens": 7,
        "rejected_prediction_tokens": 8,
    }

    assert usage_of(upstream, chat_body(knobs)) == {
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "total_tokens": 1500,
        "prompt_tokens_details": {
            "cached_tokens": 400,
            "audio_tokens": 20,
            "cache_write_tokens": 300,
            "image_tokens": 10,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 100,
            "audio_tokens": 5,
            "accepted_prediction_tokens": 7,
            "rejected_prediction_tokens": 8,
        },
    }


def test_reasoning_is_part_of_the_completion(upstream: Upstream) -> None:
    plain = usage_of(upstream, chat_body())
    reasoned = usage_of(upstream, chat_body({"reasoning_tokens": 64}))

    assert reasoned["completion_tokens"] == plain["completion_tokens"] + 64
    assert reasoned["total_tokens"] == plain["total_tokens"] + 64


def test_a_total_may_contradict_its_parts(upstream: Upstream) -> None:
    usage = usage_of(upstream, chat_body({"total_tokens": 1}))

    assert usage["total_tokens"] == 1 < usage["prompt_tokens"]


@pytest.mark.parametrize("text", [b'"many"', b"[1]", b"null", b'{"prompt_tokens":1e400,"x":-1.50}'])
def test_a_usage_is_reported_verbatim(upstream: Upstream, text: bytes) -> None:
    body = (
        b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],'
        b'"simulate":{"fault":"absurd_usage","usage":' + text + b"}}"
    )

    assert b'"usage":' + text + b"}" in upstream.call(body).body


def test_absurd_usage_is_negative_unless_given(upstream: Upstream) -> None:
    usage = usage_of(upstream, chat_body({"fault": "absurd_usage"}))

    assert all(count < 0 for count in usage.values())
