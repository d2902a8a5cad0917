"""An upstream that fails: what the client is told, what is written down, what is charged."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway, wait_for
from tests.end_to_end.support import (
    MODEL,
    Customer,
    Upstream,
    charge_of,
    chat_body,
    error_of,
    new_tag,
    organization_create,
)

SAID = "one two three four five six"


@pytest.fixture(scope="module")
def buyer(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """One whose every charge this module knows."""
    return organization_create(gateway, http, "Buyer", "--quota", "10", "--holds", "standard")


@pytest.fixture
def bill(buyer: Customer) -> Iterator[list[int]]:
    """What a test says was charged, which must be what the balance has lost."""
    before = buyer.balance()
    charges: list[int] = []
    yield charges
    assert before - buyer.balance() == sum(charges)


@dataclass(frozen=True)
class Failure:
    """What upstream does, and what the client gets of it."""

    knobs: dict[str, Any]
    status: int
    code: str | None
    retried: bool = field(default=False, kw_only=True)  # Whether a client may try again.


FAILURES = {
    "our credential is wrong": Failure({"status": 401}, 503, "upstream_refused", retried=True),
    "no money there": Failure({"status": 402}, 503, "upstream_refused", retried=True),
    "our country": Failure({"status": 403}, 503, "upstream_refused", retried=True),
    "its limit": Failure({"status": 429}, 503, "server_is_overloaded", retried=True),
    "its quota": Failure(
        {"status": 429, "error": {"code": "insufficient_quota"}},
        503,
        "server_is_overloaded",
        retried=True,
    ),
    "overloaded": Failure({"status": 503}, 503, "server_is_overloaded", retried=True),
    "overloaded, in HTML": Failure(
        {"status": 503, "fault": "html"}, 503, "server_is_overloaded", retried=True
    ),
    "too slow": Failure({"status": 408}, 504, "upstream_timeout"),
    "broken": Failure({"status": 500}, 502, "upstream_error"),
    "broken, in HTML": Failure({"status": 502, "fault": "html"}, 502, "upstream_error"),
    "broken, without a word": Failure(
        {"status": 500, "fault": "empty_body"}, 502, "upstream_error"
    ),
    "odd": Failure({"status": 599}, 502, "upstream_error"),
    "HTML": Failure({"fault": "html"}, 502, "upstream_error"),
    "nothing": Failure({"fault": "empty_body"}, 502, "upstream_error"),
    "an error with 200": Failure({"fault": "json_error_200"}, 502, None),
    "elsewhere": Failure({"fault": "redirect"}, 502, "upstream_error"),
}
# The body of an answer only; what these do to a stream is another matter.
BODY_FAILURES = {
    "half a document": Failure({"fault": "garbage"}, 502, "upstream_error"),
    "a cut connection": Failure({"fault": "cut"}, 502, "upstream_error"),
    "a cut after the head": Failure({"fault": "cut", "after_chunks": 0}, 502, "upstream_error"),
    "less than announced": Failure({"fault": "bad_content_length"}, 502, "upstream_error"),
    "no UTF-8": Failure({"fault": "invalid_utf8"}, 502, "upstream_error"),
    "compressed": Failure({"fault": "gzip"}, 502, "upstream_error"),
}


def check_failure(
    buyer: Customer, upstream: Upstream, failure: Failure, *, stream: bool
) -> dict[str, Any]:
    tag = new_tag()
    reply = buyer.chat(stream=stream, simulate={"tag": tag, **failure.knobs})
    assert reply.status_code == failure.status, reply.text
    error = error_of(reply)
    assert error["code"] == failure.code
    assert upstream.count(tag) == 1
    assert ("retry-after" in reply.headers) == failure.retried
    assert reply.headers.get("x-should-retry") == (None if failure.retried else "false")
    record = buyer.record(reply)
    assert record["status"] == failure.status
    assert (record["outcome"], record["usage_source"]) == ("upstream_error", "none")
    assert record["charge_nano_usd"] == record["total_tokens"] == 0
    return error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_before_any_output_is_an_error_and_free(
    buyer: Customer, upstream: Upstream, bill: list[int], kind: str, *, stream: bool
) -> None:
    error = check_failure(buyer, upstream, FAILURES[kind], stream=stream)
    assert "credential" not in error["message"]
    assert "quota" not in error["message"]


@pytest.mark.parametrize("kind", BODY_FAILURES)
def test_a_body_that_cannot_be_read_is_an_error_and_free(
    buyer: Customer, upstream: Upstream, bill: list[int], kind: str
) -> None:
    check_failure(buyer, upstream, BODY_FAILURES[kind], stream=False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_what_upstream_says_of_the_request_is_passed_on(
    buyer: Customer, upstream: Upstream, bill: list[int], status: int, *, stream: bool
) -> None:
    said = {"message": "So it is.", "type": "odd_error", "code": "odd", "param": "messages[0]"}
    failure = Failure({"status": status, "error": said}, status, "odd")
    assert check_failure(buyer, upstream, failure, stream=stream) == said


def test_an_answer_without_usage_is_estimated(buyer: Customer, bill: list[int]) -> None:
    reply = buyer.chat(simulate={"text": SAID, "fault": "no_usage"})
    assert reply.json()["choices"][0]["message"]["content"] == SAID
    assert "usage" not in reply.json()
    bill.append(check_estimate(buyer, reply, completion_tokens=6))


ABSURD: dict[str, dict[str, Any]] = {
    "negative": {"fault": "absurd_usage"},
    "a fraction": {"usage": {"prompt_tokens": 1.5, "completion_tokens": 1, "total_tokens": 3}},
    "text": {"usage": {"prompt_tokens": "8", "completion_tokens": "6", "total_tokens": "14"}},
    "no object": {"usage": 14},
    "huge": {"prompt_tokens": 10_000_001},
    "beyond every number": {"usage": {"prompt_tokens": 10**30, "completion_tokens": 1}},
    "more cached than read": {"prompt_tokens": 8, "cached_tokens": 9},
    "more thought than said": {"completion_tokens": 6, "reasoning_tokens": 7},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ABSURD)
def test_absurd_usage_is_neither_believed_nor_free(
    buyer: Customer, bill: list[int], kind: str, *, stream: bool
) -> None:
    reply = buyer.chat(stream=stream, simulate={"text": SAID, **ABSURD[kind]})
    assert reply.status_code == 200
    bill.append(check_estimate(buyer, reply, completion_tokens=6))


def check_estimate(buyer: Customer, reply: httpx2.Response, *, completion_tokens: int) -> int:
    """The charge of a call whose usage we had to count."""
    record = buyer.record(reply)
    assert record["usage_source"] == "estimated"
    assert record["completion_tokens"] == completion_tokens
    # "Hello" with what surrounds it is 8 tokens.
    assert 8 <= record["prompt_tokens"] <= 12
    charge: int = record["charge_nano_usd"]
    assert charge == charge_of(record["prompt_tokens"], record["completion_tokens"])
    return charge


@pytest.mark.parametrize("fault", ["big_line", "split_bytes"])
def test_an_answer_that_comes_oddly_is_an_answer(
    buyer: Customer, bill: list[int], fault: str
) -> None:
    reply = buyer.chat(simulate={"fault": fault, "text": SAID})
    usage = reply.json()["usage"]
    record = buyer.record(reply)
    assert (record["outcome"], record["usage_source"]) == ("completed", "upstream")
    assert record["charge_nano_usd"] == charge_of(usage["prompt_tokens"], 6)
    bill.append(record["charge_nano_usd"])


def test_a_client_that_does_not_wait_pays_for_what_it_ordered(
    buyer: Customer, upstream: Upstream, bill: list[int]
) -> None:
    tag = new_tag()
    body = chat_body(simulate={"tag": tag, "text": SAID, "delay_ms": 700})
    newest = buyer.records(limit=1)
    with pytest.raises(httpx2.ReadTimeout):
        buyer.http.post("/v1/chat/completions", json=body, headers=buyer.authorization, timeout=0.3)
    wait_for(lambda: buyer.records(limit=1) != newest, "the record of a call that was left")
    (record,) = buyer.records(limit=1)
    assert record["model"] == MODEL
    assert record["charge_nano_usd"] == charge_of(8, 6)
    assert upstream.count(tag) == 1
    bill.append(record["charge_nano_usd"])
