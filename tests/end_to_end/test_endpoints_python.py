"""The official Python SDK at the text endpoints beside chat, priced by the official price book."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent

from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import Customer

INSTRUCT, EMBEDDING, RESPONDING = "gpt-3.5-turbo-instruct", "text-embedding-3-small", "gpt-5-mini"


@pytest.fixture(scope="module")
def client(gateway: LiveGateway, customer: Customer) -> Iterator[openai.OpenAI]:
    base_url = gateway.quickstart["base_url"]
    with openai.OpenAI(base_url=base_url, api_key=customer.api_key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def direct(gateway: LiveGateway) -> Iterator[openai.OpenAI]:
    """The same SDK, straight at the upstream."""
    base_url = f"{gateway.simulator_url}/v1"
    with openai.OpenAI(base_url=base_url, api_key="direct", max_retries=0) as client:
        yield client


FORMS: list[Any] = [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}]
INPUTS: list[Any] = ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]]]
CHATTING: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "n": 2,
}
TOLD: Any = {"stream": True, "stream_options": {"include_usage": True}}
# What upstream makes up anew for each response, and what follows from it.
NEW = re.compile(r"_[0-9a-f]{16,}|gAAAA[0-9a-f]+|(?<=_at': )[0-9.]+")
CALLS: dict[str, Callable[[openai.OpenAI], Any]] = {
    "chat": lambda sdk: sdk.chat.completions.create(**CHATTING),
    "chat, streamed": lambda sdk: list(sdk.chat.completions.create(**CHATTING, **TOLD)),
    "completions": lambda sdk: sdk.completions.create(model=INSTRUCT, prompt=["a", "b"], echo=True),
    "completions, streamed": lambda sdk: list(
        sdk.completions.create(model=INSTRUCT, prompt="a", **TOLD)
    ),
    "embeddings": lambda sdk: [
        sdk.embeddings.create(model=EMBEDDING, input=given, **form)
        for given in INPUTS
        for form in FORMS
    ],
    "moderations": lambda sdk: sdk.moderations.create(input=["a", "b"]),
    "responses": lambda sdk: sdk.responses.create(model=RESPONDING, input="Hello", user="me"),
    "responses, streamed": lambda sdk: list(
        sdk.responses.create(model=RESPONDING, input="Hello", stream=True)
    ),
    "responses, compacted": lambda sdk: sdk.responses.compact(model=RESPONDING, input="Hello"),
    "responses, counted": lambda sdk: sdk.responses.input_tokens.count(
        model=RESPONDING, input="Hello"
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_is_seen_with_and_without_a_gateway(
    client: openai.OpenAI, direct: openai.OpenAI, name: str
) -> None:
    through, straight = (NEW.sub("", str(plain(CALLS[name](sdk)))) for sdk in (client, direct))
    assert through == straight


def plain(seen: Any) -> Any:
    if isinstance(seen, list):
        return list(map(plain, seen))
    # Of items that have been compacted, the SDK's types say less than the specification.
    return seen.to_dict(warnings=False)


def charged(customer: Customer, answer: Any) -> int:
    charge = customer.record_of(str(answer._request_id))["charge_nano_usd"]
    assert isinstance(charge, int)
    return charge


def test_text_completions(client: openai.OpenAI, customer: Customer) -> None:
    answer = client.completions.create(model=INSTRUCT, prompt="Once upon a time", n=2)
    assert len(answer.choices) == 2
    assert charged(customer, answer) > 0
    chunks = list(client.completions.create(model=INSTRUCT, prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_embeddings(client: openai.OpenAI, customer: Customer) -> None:
    # The SDK asks for base64 and decodes it.
    decoded = client.embeddings.create(model=EMBEDDING, input=["one", "two"])
    plain = client.embeddings.create(model=EMBEDDING, input=["one", "two"], encoding_format="float")
    for one, other in zip(decoded.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    assert charged(customer, decoded) == charged(customer, plain) > 0


def test_moderations(client: openai.OpenAI, customer: Customer) -> None:
    answer = client.moderations.create(input="Hello")
    assert len(answer.results) == 1
    assert charged(customer, answer) == 0


def test_a_response_and_what_follows_it(client: openai.OpenAI, customer: Customer) -> None:
    first = client.responses.create(model=RESPONDING, input="Hello", user="me")
    assert first.status == "completed"
    assert first.output_text
    assert first.user == "me"
    assert charged(customer, first) > 0
    assert client.responses.retrieve(first.id).output_text == first.output_text
    assert [item.type for item in client.responses.input_items.list(first.id)] == ["message"]
    second = client.responses.create(
        model=RESPONDING, input="And then?", previous_response_id=first.id
    )
    assert second.previous_response_id == first.id
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(
            model=RESPONDING, input="x", previous_response_id="resp_of_somebody_else"
        )


def last_of(events: list[ResponseStreamEvent]) -> Any:
    return events[-1]


def test_a_streamed_response(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model=RESPONDING, input="Hello", stream=True))
    assert events[0].type == "response.created"
    last = last_of(events)
    assert last.type == "response.completed"
    told = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert told == last.response.output_text
    assert last.response.usage is not None
    with client.responses.stream(model=RESPONDING, input="Hello") as stream:
        final = stream.get_final_response()
    assert final.output_text == told


def test_a_stream_that_breaks_is_seen_to_fail(client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model=RESPONDING, input="Hello", stream=True, extra_body={"simulate": {"fault": "cut"}}
    )
    kinds = [event.type for event in stream]
    assert kinds[-2:] == ["response.failed", "error"]


def test_counting_and_compacting(client: openai.OpenAI, customer: Customer) -> None:
    counted = client.responses.input_tokens.count(model=RESPONDING, input="Hello")
    assert counted.input_tokens > 0
    assert charged(customer, counted) == 0
    compacted = client.responses.compact(model=RESPONDING, input="Hello")
    assert compacted.usage.input_tokens > 0
    assert charged(customer, compacted) > 0


@pytest.mark.parametrize("path", ["/files", "/batches", "/conversations", "/vector_stores"])
def test_what_is_not_offered_says_so(client: openai.OpenAI, path: str) -> None:
    with pytest.raises(openai.NotFoundError, match="not offered"):
        client.post(path, cast_to=object, body={})
