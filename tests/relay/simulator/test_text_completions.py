"""`POST /v1/completions`."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Completion

from relay.simulator.tokens import Tokenizer
from tests.relay.simulator.shapes import shape_check
from tests.relay.simulator.support import RawResponse, Upstream

MODEL = "gpt-3.5-turbo-instruct"


def complete(client: OpenAI, **fields: Any) -> Completion:
    fields = {"model": MODEL, "prompt": "Once upon a time"} | fields
    answer = client.completions.create(**fields)
    assert isinstance(answer, Completion)
    shape_check(Completion, answer.to_dict(exclude_unset=True))
    return answer


def call(upstream: Upstream, simulate: dict[str, Any] | None = None, **fields: Any) -> RawResponse:
    body = {"model": MODEL, "prompt": "hi", "simulate": simulate or {}} | fields
    return upstream.call(body, path="/v1/completions")


def test_a_text_goes_on(client: OpenAI) -> None:
    answer = complete(client, max_tokens=100)
    (choice,) = answer.choices

    assert choice.text == (
        f' You wrote: "Once upon a time". This is a simulated answer of {MODEL}.'
    )
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    tokenizer = Tokenizer(MODEL)
    assert answer.usage.prompt_tokens == tokenizer.count("Once upon a time")
    assert answer.usage.completion_tokens == tokenizer.count(choice.text)
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )


def test_without_a_limit_it_has_sixteen_tokens(client: OpenAI) -> None:
    answer = complete(client)

    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_the_prompt_can_be_echoed(client: OpenAI) -> None:
    answer = complete(client, echo=True, max_tokens=0, logprobs=2)
    (choice,) = answer.choices

    assert choice.text == "Once upon a time"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 0)
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["Once", " upon", " a", " time"]
    assert choice.logprobs.text_offset == [0, 4, 9, 11]
    assert [len(top) for top in choice.logprobs.top_logprobs or ()] == [2] * 4


@pytest.mark.parametrize(
    ("prompt", "prompt_tokens"),
    [
        ("one two", 2),
        (["one two", "three"], 3),
        (Tokenizer(MODEL)._numbers("one two"), 2),
        ([Tokenizer(MODEL)._numbers("one two"), Tokenizer(MODEL)._numbers("three")], 3),
    ],
)
def test_every_form_of_a_prompt_is_counted_once(
    client: OpenAI, prompt: Any, prompt_tokens: int
) -> None:
    answer = complete(client, prompt=prompt, n=2, max_tokens=100)
    prompts = 1 if prompt_tokens == 2 else 2

    assert answer.usage is not None
    assert answer.usage.prompt_tokens == prompt_tokens
    assert [choice.index for choice in answer.choices] == list(range(2 * prompts))
    assert 'You wrote: "one two".' in answer.choices[0].text
    spoken = sum(Tokenizer(MODEL).count(choice.text) for choice in answer.choices)
    assert answer.usage.completion_tokens == spoken


def test_candidates_that_lose_are_paid_for(client: OpenAI) -> None:
    shown = complete(client, n=2, max_tokens=10)
    chosen = complete(client, n=2, best_of=5, max_tokens=10)

    assert len(chosen.choices) == 2
    assert shown.usage is not None
    assert chosen.usage is not None
    assert (shown.usage.completion_tokens, chosen.usage.completion_tokens) == (20, 50)


def test_a_stream_says_what_the_document_says(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "prompt": "hi", "n": 2, "max_tokens": 30}
    document = client.completions.create(**fields)
    *chunks, last = client.completions.create(
        **fields, stream=True, stream_options={"include_usage": True}
    )

    for choice in document.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason
    assert last.choices == []
    assert last.usage == document.usage
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_done_and_no_usage_unasked(upstream: Upstream) -> None:
    response = call(upstream, stream=True)

    assert response.data()[-1] == b"[DONE]"
    assert all("usage" not in chunk for chunk in response.chunks())


def test_a_filter_can_end_it(upstream: Upstream) -> None:
    document = call(upstream, {"content_filter": True}).document()

    assert document["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model": "gpt-4o"}, 404),
        ({"model": "unknown"}, 404),
        ({"prompt": []}, 400),
        ({"prompt": ["a", 1]}, 400),
        ({"prompt": [10**9]}, 400),
        ({"prompt": [-1]}, 400),
        ({"prompt": {"text": "a"}}, 400),
        ({"n": 3, "best_of": 2}, 400),
        ({"best_of": 2, "stream": True}, 400),
        ({"logprobs": 6}, 400),
        ({"prompt": ["a"] * 65, "n": 2}, 400),
        ({"stream_options": {"include_usage": True}}, 400),
        ({"simulate": {"tool_usage": True}}, 400),
    ],
)
def test_a_bad_request_is_refused(upstream: Upstream, fields: Any, status: int) -> None:
    response = call(upstream, **fields)

    assert response.status == status
    assert response.document()["error"]["type"] == "invalid_request_error"


def test_an_error_is_what_the_sdk_expects(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        complete(client, extra_body={"simulate": {"status": 429}})
