"""What the simulator remembers of the calls that reached it."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from relay.simulator.recorder import KEPT_BODY_BYTES, KEPT_REQUESTS, KEPT_TAGS, Recorder
from tests.relay.simulator.support import KEY, Upstream, chat_body, stream_body

SCOPE: dict[str, Any] = {
    "method": "POST",
    "path": "/v1/chat/completions",
    "query_string": b"a=1",
    "headers": [(b"x-api-key", b"sk-secret-in-the-middle-7890"), (b"api-key", b"short")],
}


@pytest.fixture(autouse=True)
def forgotten(upstream: Upstream) -> Iterator[None]:
    upstream.requests_forget()
    yield
    upstream.requests_forget()


def test_a_request_is_kept_as_it_came(upstream: Upstream) -> None:
    payload = json.dumps(chat_body({"tag": "kept"}), ensure_ascii=True, indent=1).encode()
    upstream.call(payload, path="/v1/chat/completions?api-version=1")
    (seen,) = upstream.requests("kept")["data"]
    headers = dict(seen["headers"])

    assert seen["method"] == "POST"
    assert seen["path"] == "/v1/chat/completions"
    assert seen["query"] == "api-version=1"
    assert seen["body"] == json.loads(payload)
    assert seen["body_bytes"] == len(payload)
    assert seen["body_sha256"] == hashlib.sha256(payload).hexdigest()
    assert seen["tag"] == "kept"
    assert (seen["outcome"], seen["writes"]) == ("complete", 1)
    assert headers["host"] == "simulator"
    assert headers["authorization"] == f"Bearer {KEY[:4]}***{KEY[-4:]}"


def test_calls_are_counted_by_tag(upstream: Upstream) -> None:
    for tag in ("one", "two", "two"):
        upstream.call(chat_body({"tag": tag}))

    assert [upstream.requests(tag)["total"] for tag in ("one", "two", "none")] == [1, 2, 0]
    numbers = [seen["number"] for seen in upstream.requests("two")["data"]]
    assert numbers == [2, 3]


def test_a_refused_call_with_a_tag_is_counted(upstream: Upstream) -> None:
    upstream.call(chat_body({"tag": "refused", "status": 429}))

    assert upstream.requests("refused")["total"] == 1


def test_an_answer_that_was_cut_is_known(upstream: Upstream) -> None:
    upstream.call(stream_body({"tag": "cut", "fault": "cut", "after_chunks": 2}))

    assert upstream.await_outcome("cut", "cut")["writes"] == 3


def test_forgetting_forgets(upstream: Upstream) -> None:
    upstream.call(chat_body({"tag": "gone"}))
    upstream.requests_forget()

    assert upstream.requests("gone") == {"total": 0, "data": []}


def test_the_memory_is_bounded() -> None:
    recorder = Recorder()
    body = b'"' + b"x" * (2 * KEPT_BODY_BYTES) + b'"'
    for number in range(KEPT_REQUESTS + 10):
        recorder.record(SCOPE, body=body, tag=f"tag-{number}")
    report = recorder.report(tag=None)

    assert report["total"] == KEPT_REQUESTS + 10
    assert len(report["data"]) == KEPT_REQUESTS
    assert report["data"][0]["number"] == 11
    assert report["data"][0]["body_bytes"] == len(body)
    assert report["data"][0]["body"] == body[:KEPT_BODY_BYTES].decode()
    for number in range(KEPT_TAGS + 10):
        recorder.record(SCOPE, body=b"", tag=f"more-{number}")
    assert recorder.report(tag=f"more-{KEPT_TAGS + 9}")["total"] == 0
    assert recorder.report(tag="tag-0")["total"] == 1


@pytest.mark.parametrize(
    ("body", "shown"), [(b"", None), (b"{", "{"), (b"\xff", "\N{REPLACEMENT CHARACTER}")]
)
def test_a_body_that_is_no_json_is_shown_as_text(body: bytes, shown: str | None) -> None:
    recorder = Recorder()
    recorder.record(SCOPE, body=body, tag=None)

    assert recorder.report(tag=None)["data"][0]["body"] == shown


def test_credentials_lose_their_middle() -> None:
    recorder = Recorder()
    recorder.record(SCOPE, body=b"", tag=None)

    headers = recorder.report(tag=None)["data"][0]["headers"]
    assert headers == [("x-api-key", "sk-s***7890"), ("api-key", "***")]
