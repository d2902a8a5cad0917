"""Requests as the load programs send them."""

import json

import pytest

from bench.payloads import bundle, chat_body, render, stream_model


@pytest.mark.parametrize("size", [1024, 50 * 1024])
def test_a_body_has_the_size_that_is_asked_for(size: int) -> None:
    body = chat_body(size=size)
    document = json.loads(body)
    assert size - 64 < len(body) <= size
    assert document["model"] == "bench-chat"
    assert "stream" not in document
    assert {message["role"] for message in document["messages"]} == {"system", "user", "assistant"}


def test_a_stream_is_asked_for() -> None:
    document = json.loads(chat_body(model=stream_model(50, 20), stream=True))
    assert document["model"] == "bench-stream-50-20"
    assert document["stream"] is True


def test_a_request_says_how_long_its_body_is() -> None:
    head, _, body = render(b"{}", [("authorization", "Bearer x")]).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert b"authorization: Bearer x" in lines
    assert b"content-length: 2" in lines
    assert body == b"{}"


def test_a_bundle_can_be_told_apart() -> None:
    assert bundle([b"ab\n", b"c"]) == b"3\nab\n1\nc"
