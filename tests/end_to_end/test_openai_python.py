"""The official Python SDK, as its users point it at a gateway: `base_url` and `api_key`."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import MODEL, Customer, charge_of

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
PICTURE = "data:image/png;base64,iVBORw0KGgo="
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def client(gateway: LiveGateway, customer: Customer) -> Iterator[openai.OpenAI]:
    base_url = gateway.quickstart["base_url"]
    with openai.OpenAI(base_url=base_url, api_key=customer.api_key) as client:
        yield client


@pytest.fixture
async def async_client(
    gateway: LiveGateway, customer: Customer
) -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = gateway.quickstart["base_url"]
    async with openai.AsyncOpenAI(base_url=base_url, api_key=customer.api_key) as client:
        yield client


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_chat(client: openai.OpenAI, customer: Customer) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    choice = answer.choices[0]
    assert choice.message.content == f'You said: "Hello". This is a simulated answer of {MODEL}.'
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    charge = charge_of(answer.usage.prompt_tokens, answer.usage.completion_tokens)
    record = customer.record_of(str(answer._request_id))
    assert record["charge_nano_usd"] == charge > 0


def test_a_stream_shows_usage_only_to_those_who_asked(client: openai.OpenAI) -> None:
    plain = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert text_of(plain).startswith('You said: "Hello".')
    assert plain[-1].choices[0].finish_reason == "stop"
    assert all(chunk.choices for chunk in plain)
    assert all(chunk.usage is None for chunk in plain)

    asked = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    *chunks, last = asked
    assert text_of(asked) == text_of(plain)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


def test_tools(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Weather?"}], tools=[WEATHER]
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)
    follow_up: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "Weather?"},
        choice.message.to_dict(),  # type: ignore[list-item]  # The SDK's own way to hand it back.
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=follow_up, tools=[WEATHER])
    assert answer.choices[0].message.content == 'The tool answered: "sunny".'


def test_tools_in_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.name == "get_weather"
    assert "city" in json.loads(choice.message.tool_calls[0].function.arguments)


def test_json_mode(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, response_format={"type": "json_object"}
    )
    assert "Hello" in json.loads(answer.choices[0].message.content or "")["answer"]


def test_many_turns(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Two", "name": "eve"},
        ],
    )
    assert 'You said: "Two". Before that you said: "One".' in (
        answer.choices[0].message.content or ""
    )


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len({choice.message.content for choice in answer.choices}) == 2
    chunks = client.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}


def test_pictures(client: openai.OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": parts}]
    )
    assert "What is this? [image_url]" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 85


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


def test_models(client: openai.OpenAI) -> None:
    models = list(client.models.list())
    assert MODEL in {model.id for model in models}
    assert all(model.created > 0 for model in models)
    assert client.models.retrieve(MODEL).id == MODEL


async def test_the_asynchronous_client(async_client: openai.AsyncOpenAI) -> None:
    completions = async_client.chat.completions
    answer = await completions.create(model=MODEL, messages=HELLO)
    stream = await completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert text_of(chunks) == answer.choices[0].message.content
    assert all(chunk.usage is None for chunk in chunks)
    stream = await completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert [chunk.usage is not None async for chunk in stream].count(True) == 1
    assert MODEL in [model.id async for model in async_client.models.list()]
    with pytest.raises(openai.NotFoundError, match="unknown-model"):
        await completions.create(model="unknown-model", messages=HELLO)
