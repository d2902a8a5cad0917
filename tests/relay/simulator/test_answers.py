"""What the simulator says, through the official SDK."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # Its stubs are not pinned.
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from relay.simulator.tokens import Tokenizer
from tests.relay.simulator.shapes import document_check
from tests.relay.simulator.support import Upstream, chat_body

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {
                    "type": "string",
                    "description": "The city and state, e.g. San Francisco, CA",
                },
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
SEARCH: dict[str, Any] = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {}}},
}


def ask(client: OpenAI, text: str = "hi", **fields: Any) -> ChatCompletion:
    messages = fields.pop("messages", [{"role": "user", "content": text}])
    answer = client.chat.completions.create(
        model=fields.pop("model", "gpt-4o"), messages=messages, **fields
    )
    assert isinstance(answer, ChatCompletion)
    document_check(answer.to_dict(exclude_unset=True))
    return answer


def said(answer: ChatCompletion) -> str:
    content = answer.choices[0].message.content
    assert content is not None
    return content


def test_the_last_message_is_quoted(client: OpenAI) -> None:
    answer = ask(client, "There are 9 birds on a tree.")

    assert said(answer).startswith('You said: "There are 9 birds on a tree.".')
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o"


def test_a_long_message_is_quoted_in_part(client: OpenAI) -> None:
    assert len(said(ask(client, "x" * 100_000))) < 1_000


def test_a_conversation_is_remembered(client: OpenAI) -> None:
    answer = ask(
        client,
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi!"},
            {"role": "user", "content": "What did I say just now?"},
        ],
    )

    assert 'You said: "What did I say just now?".' in said(answer)
    assert 'Before that you said: "Hello".' in said(answer)


def test_an_answer_depends_on_the_request_alone(client: OpenAI) -> None:
    first = ask(client, "same", seed=1)
    again = ask(client, "same", seed=1)
    other = ask(client, "same", seed=2)

    assert first == again
    assert first.id != other.id
    assert first.system_fingerprint == other.system_fingerprint
    assert said(first) == said(other)


def test_n_choices_differ(client: OpenAI) -> None:
    answer = ask(client, n=3)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_cuts_the_answer(client: OpenAI, field: str) -> None:
    limits: dict[str, Any] = {field: 5}
    answer = ask(client, **limits)

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == Tokenizer("gpt-4o").count(said(answer)) == 5


def test_a_limit_that_is_not_reached_changes_nothing(client: OpenAI) -> None:
    assert said(ask(client, max_tokens=500)) == said(ask(client))


@pytest.mark.parametrize("stop", ["simulated", ["never there", "simulated", "gpt"]])
def test_a_stop_sequence_ends_the_answer_before_it(client: OpenAI, stop: str | list[str]) -> None:
    answer = ask(client, stop=stop)

    assert said(answer) == 'You said: "hi". This is a '
    assert answer.choices[0].finish_reason == "stop"


def test_a_text_that_was_asked_for_is_said_exactly(client: OpenAI) -> None:
    text = 'Ünïcode 你好 😀\n"quoted" \\ and \u2028 all'

    assert said(ask(client, extra_body={"simulate": {"text": text}})) == text


def test_a_demo_answer_can_be_lengthened(client: OpenAI) -> None:
    answer = ask(client, extra_body={"simulate": {"chunks": 300}})

    assert answer.usage is not None
    assert answer.usage.completion_tokens == pytest.approx(300, rel=0.02)


def test_the_first_tool_is_called_with_arguments_of_its_schema(client: OpenAI) -> None:
    answer = ask(client, tools=[WEATHER, SEARCH])
    (choice,) = answer.choices
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls

    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert call.type == "function"
    assert call.function.name == "get_current_weather"
    assert json.loads(call.function.arguments) == {
        "location": "San Francisco, CA",
        "unit": "celsius",
    }


@pytest.mark.parametrize(
    "tool_choice",
    [
        {"type": "function", "function": {"name": "search"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [SEARCH]}},
    ],
)
def test_a_forced_tool_is_called(client: OpenAI, tool_choice: dict[str, Any]) -> None:
    answer = ask(client, tools=[WEATHER, SEARCH], tool_choice=tool_choice)
    calls = answer.choices[0].message.tool_calls

    assert calls is not None
    assert [call.function.name for call in calls if call.type == "function"] == ["search"]


@pytest.mark.parametrize("fields", [{"tools": [WEATHER], "tool_choice": "none"}, {"tools": []}])
def test_without_a_tool_to_call_the_answer_is_text(client: OpenAI, fields: dict[str, Any]) -> None:
    assert said(ask(client, **fields)).startswith("You said")


def test_a_custom_tool_gets_free_text(client: OpenAI) -> None:
    tool = {"type": "custom", "custom": {"name": "shell", "description": "Runs a command"}}
    calls = ask(client, "ls", tools=[tool]).choices[0].message.tool_calls
    assert calls is not None

    assert calls[0].type == "custom"
    assert (calls[0].custom.name, calls[0].custom.input) == ("shell", "ls")


def test_an_old_function_is_called(client: OpenAI) -> None:
    (choice,) = ask(client, functions=[WEATHER["function"]], function_call="auto").choices

    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.function_call.name == "get_current_weather"


def test_the_result_of_a_tool_is_answered_in_text(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
    ]
    answer = ask(client, messages=messages, tools=[WEATHER], tool_choice="required")

    assert said(answer) == 'The tool answered: "18 degrees".'
    assert answer.choices[0].finish_reason == "stop"


def test_json_mode_gives_json(client: OpenAI) -> None:
    answer = ask(client, "Say it as JSON", response_format={"type": "json_object"})

    assert "Say it as JSON" in json.loads(said(answer))["answer"]


def test_a_json_schema_is_met(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
            "score": {"type": "number", "minimum": 3, "maximum": 4},
        },
        "required": ["steps", "score"],
        "additionalProperties": False,
        "$defs": {
            "step": {
                "type": "object",
                "properties": {"explanation": {"type": "string"}},
                "required": ["explanation"],
                "additionalProperties": False,
            }
        },
    }
    form = {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}}

    jsonschema.validate(json.loads(said(ask(client, response_format=form))), schema)


def test_log_probabilities_are_those_of_the_tokens(client: OpenAI) -> None:
    answer = ask(client, "你好 😀", model="gpt-4", logprobs=True, top_logprobs=20)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None

    data = b"".join(bytes(token.bytes or []) for token in logprobs.content)
    assert data.decode() == said(answer)
    assert answer.usage is not None
    assert len(logprobs.content) == answer.usage.completion_tokens
    for token in logprobs.content:
        assert len(token.top_logprobs) == 20
        assert token.top_logprobs[0].token == token.token
        assert token.top_logprobs[0].logprob == token.logprob < 0


def test_a_refusal_is_not_content(client: OpenAI) -> None:
    simulate = {"refusal": True, "text": "I cannot do that."}
    message = ask(client, extra_body={"simulate": simulate}).choices[0].message

    assert (message.content, message.refusal) == (None, "I cannot do that.")


@pytest.mark.parametrize(
    ("asked", "served"), [(None, "default"), ("auto", "default"), ("flex", "flex")]
)
def test_the_service_tier_is_told(client: OpenAI, asked: str | None, served: str) -> None:
    assert ask(client, service_tier=asked).service_tier == served


def test_another_tier_or_model_may_be_served(client: OpenAI) -> None:
    simulate = {"service_tier": "priority", "model": "gpt-4o-2024-08-06"}
    answer = ask(client, extra_body={"simulate": simulate})

    assert (answer.service_tier, answer.model) == ("priority", "gpt-4o-2024-08-06")


def test_unknown_and_null_fields_are_accepted(upstream: Upstream) -> None:
    body = chat_body(
        enabledContextCaching=False,
        thinking={"type": "disabled"},
        max_tokens=None,
        stop=None,
        tools=None,
        stream=None,
        stream_options=None,
        metadata={"a": "b"},
    )

    assert upstream.call(body).status == 200


def test_a_filter_ends_the_text(client: OpenAI) -> None:
    answer = ask(client, extra_body={"simulate": {"content_filter": True}})

    assert answer.choices[0].finish_reason == "content_filter"


def test_a_search_is_referred_to(client: OpenAI) -> None:
    answer = ask(client, model="gpt-4o-search-preview", web_search_options={})
    (annotation,) = answer.choices[0].message.annotations or []
    *_, referring, _ = client.chat.completions.create(
        model="gpt-4o-search-preview",
        messages=[{"role": "user", "content": "hi"}],
        web_search_options={},
        stream=True,
    )

    assert annotation.url_citation.end_index == len(said(answer))
    assert referring.choices[0].delta.to_dict() == {"annotations": [annotation.to_dict()]}
