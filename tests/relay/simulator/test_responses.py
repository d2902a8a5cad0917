"""`/v1/responses`, not streamed."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response

from relay.simulator.tokens import Tokenizer
from tests.relay.simulator.shapes import response_check
from tests.relay.simulator.support import RawResponse, Upstream

PATH = "/v1/responses"
WEB: dict[str, Any] = {"type": "web_search"}
FILES: dict[str, Any] = {"type": "file_search", "vector_store_ids": ["vs_1"]}
CODE: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}
IMAGES: dict[str, Any] = {"type": "image_generation"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def call(upstream: Upstream, simulate: Any = None, **fields: Any) -> RawResponse:
    body = {"model": "gpt-5", "input": "hi", "simulate": simulate or {}} | fields
    return upstream.call(body, path=PATH)


def respond(upstream: Upstream, simulate: Any = None, **fields: Any) -> Response:
    document = call(upstream, simulate, **fields).document()
    response = response_check(document)
    usage = response.usage
    if usage is not None:
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert usage.output_tokens_details.reasoning_tokens <= usage.output_tokens
    return response


def kinds(response: Response) -> list[str]:
    return [item.type for item in response.output]


def test_the_sdk_reads_a_response(client: OpenAI) -> None:
    response = client.responses.create(model="gpt-4.1", input="Hello", instructions="Be brief.")

    assert response.output_text == 'You said: "Hello". This is a simulated answer of gpt-4.1.'
    assert (response.status, response.model, response.object) == (
        "completed",
        "gpt-4.1",
        "response",
    )
    assert response.instructions == "Be brief."
    assert response.usage is not None
    assert response.usage.output_tokens == Tokenizer("gpt-4.1").count(response.output_text)


def test_both_forms_of_input_are_counted_alike(upstream: Upstream) -> None:
    plain = respond(upstream, input="one two three")
    parts = [{"type": "input_text", "text": "one two three"}]
    listed = respond(upstream, input=[{"role": "user", "content": parts}])

    assert plain.usage == listed.usage
    assert plain.output_text == listed.output_text


def test_pictures_and_files_and_tools_are_counted(upstream: Upstream) -> None:
    def tokens(*parts: dict[str, Any], **fields: Any) -> int:
        usage = respond(upstream, input=[{"role": "user", "content": list(parts)}], **fields).usage
        assert usage is not None
        return usage.input_tokens

    text = {"type": "input_text", "text": "look"}
    picture = {"type": "input_image", "detail": "low", "image_url": "data:,"}
    alone = tokens(text)
    assert tokens(text, picture) == alone + 85
    assert tokens(text, picture | {"detail": "high"}) == alone + 765
    assert tokens(text, {"type": "input_file", "file_id": "file-1"}) == alone + 1_000
    assert tokens(text, tools=[WEATHER]) > alone


def test_a_function_is_called_and_its_result_answered(client: OpenAI) -> None:
    tools: Any = [WEATHER]
    first = client.responses.create(model="gpt-5", input="Weather?", tools=tools)
    (call,) = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "example"}

    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    second = client.responses.create(
        model="gpt-5", input=[result], tools=tools, previous_response_id=first.id
    )
    assert second.output_text == 'The tool answered: "18 degrees".'


@pytest.mark.parametrize("choice", ["none", {"type": "function", "name": "other"}])
def test_a_function_may_be_forbidden(upstream: Upstream, choice: Any) -> None:
    assert kinds(respond(upstream, tools=[WEATHER], tool_choice=choice)) == ["message"]


def test_a_custom_tool_gets_free_text(upstream: Upstream) -> None:
    (call,) = respond(upstream, input="ls", tools=[{"type": "custom", "name": "shell"}]).output

    assert call.type == "custom_tool_call"
    assert (call.name, call.input) == ("shell", "ls")


def test_declared_tools_are_used_once(upstream: Upstream) -> None:
    response = respond(
        upstream,
        tools=[WEB, FILES, CODE, IMAGES],
        include=["file_search_call.results", "web_search_call.action.sources"],
    )

    assert kinds(response) == [
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "message",
    ]
    message = response.output[-1]
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    assert [one.type for one in message.content[0].annotations] == ["url_citation"]


def test_a_test_says_how_often_tools_are_used(upstream: Upstream) -> None:
    unused = {"web_search_actions": [], "file_search_calls": 0, "code_interpreter_calls": 0}
    assert kinds(respond(upstream, unused, tools=[WEB, FILES, CODE])) == ["message"]

    actions = ["search", "open_page", "find_in_page", "search"]
    response = respond(upstream, {"web_search_actions": actions, "tool_usage": True})
    assert kinds(response).count("web_search_call") == 4
    assert response.tool_usage is not None
    assert response.tool_usage.web_search.num_requests == 2

    limited = respond(upstream, {"file_search_calls": 9}, max_tool_calls=3)
    assert kinds(limited).count("file_search_call") == 3


def test_reasoning_is_part_of_the_output(upstream: Upstream) -> None:
    summary = respond(upstream, reasoning={"summary": "auto"})
    hidden = respond(upstream, {"reasoning_tokens": 50}, include=["reasoning.encrypted_content"])
    raw = respond(upstream, {"reasoning_text": "one two three"})

    assert kinds(summary) == kinds(hidden) == kinds(raw) == ["reasoning", "message"]
    first = hidden.output[0]
    assert first.type == "reasoning"
    assert first.summary == []
    assert first.encrypted_content is not None
    reasoned = [
        one.usage.output_tokens_details.reasoning_tokens for one in (hidden, raw) if one.usage
    ]
    assert reasoned == [50, 3]


def test_the_limit_cuts_the_answer(upstream: Upstream) -> None:
    response = respond(upstream, {"chunks": 200}, max_output_tokens=20)

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 20
    (message,) = response.output
    assert message.type == "message"
    assert message.status == "incomplete"


def test_reasoning_may_use_up_the_limit(upstream: Upstream) -> None:
    response = respond(upstream, {"reasoning_tokens": 20}, max_output_tokens=20)

    assert response.status == "incomplete"
    assert kinds(response) == ["reasoning"]
    assert response.usage is not None
    assert response.usage.output_tokens == 20


def test_a_filter_or_a_refusal_may_end_it(upstream: Upstream) -> None:
    filtered = respond(upstream, {"content_filter": True})
    assert filtered.incomplete_details is not None
    assert filtered.incomplete_details.reason == "content_filter"

    (message,) = respond(upstream, {"refusal": True, "text": "No."}).output
    assert message.type == "message"
    assert message.content[0].type == "refusal"
    assert message.content[0].refusal == "No."


def test_it_may_fail(upstream: Upstream) -> None:
    response = respond(upstream, {"failed": {"code": "rate_limit_exceeded", "message": "Wait."}})

    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.code, response.error.message) == ("rate_limit_exceeded", "Wait.")
    assert response.usage is None
    assert response.output == []


def test_json_is_answered_by_its_schema(upstream: Upstream) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    form = {"type": "json_schema", "name": "person", "schema": schema}

    assert json.loads(respond(upstream, text={"format": form}).output_text) == {"age": 1}


def test_usage_can_be_whatever_a_test_wants(upstream: Upstream) -> None:
    told = {"prompt_tokens": 100, "cached_tokens": 60, "cache_write_tokens": 20}
    usage = respond(upstream, told | {"completion_tokens": 9, "reasoning_tokens": 4}).usage
    assert usage is not None
    assert usage.to_dict() == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 109,
    }

    def reported(**simulate: Any) -> Any:
        return call(upstream, simulate).document()["usage"]

    assert reported(fault="no_usage") is None
    assert reported(fault="absurd_usage") == {
        "input_tokens": -1,
        "output_tokens": -1,
        "total_tokens": -2,
    }
    more = {"input_tokens_details": {"video_tokens": 5}}
    assert reported(usage_more=more)["input_tokens_details"]["video_tokens"] == 5


def test_the_served_tier_and_model_may_differ(upstream: Upstream) -> None:
    assert respond(upstream, service_tier="auto").service_tier == "default"
    served = respond(upstream, {"service_tier": "default", "model": "o3"}, service_tier="priority")

    assert (served.service_tier, served.model) == ("default", "o3")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": None}, 400, "model"),
        ({"model": "unknown"}, 404, None),
        ({"input": None}, 400, "input"),
        ({"input": [{"role": "robot", "content": "a"}]}, 400, "input[0].role"),
        ({"input": [{"role": "user"}]}, 400, "input[0].content"),
        ({"input": [{"role": "user", "content": [1]}]}, 400, "input[0].content[0].type"),
        ({"input": [{"type": 5}]}, 400, "input[0].type"),
        ({"max_output_tokens": 15}, 400, "max_output_tokens"),
        ({"stream_options": {}}, 400, "stream_options"),
        ({"background": True, "store": False}, 400, "store"),
        ({"previous_response_id": "r", "conversation": "c"}, 400, "previous_response_id"),
        ({"conversation": {}}, 400, "conversation.id"),
        ({"simulate": {"framing": "cr"}}, 400, "simulate.framing"),
    ],
)
def test_a_bad_request_is_refused(
    upstream: Upstream, fields: Any, status: int, param: str | None
) -> None:
    response = call(upstream, **fields)

    assert response.status == status
    assert response.document()["error"]["param"] == param


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "summary": 5},
        {"type": "reasoning", "summary": ["text"]},
        {"type": "future_item", "content": [1], "output": {"a": 1}},
        {"type": "item_reference", "id": "msg_1"},
        {"role": "user", "content": [{"type": "input_text", "text": 5}]},
    ],
)
def test_an_unusual_item_does_no_harm(upstream: Upstream, item: dict[str, Any]) -> None:
    assert call(upstream, input=[item]).status == 200


def test_an_error_is_what_the_sdk_expects(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="gpt-5", input="hi", extra_body={"simulate": {"status": 503}})


def test_tokens_are_counted_beforehand(client: OpenAI, upstream: Upstream) -> None:
    tools: Any = [WEATHER]
    counted = client.responses.input_tokens.count(model="gpt-5", input="hi", tools=tools)
    usage = respond(upstream, tools=tools).usage

    assert usage is not None
    assert counted.input_tokens == usage.input_tokens


def test_what_was_said_is_made_compact(client: OpenAI) -> None:
    compacted = client.responses.compact(model="gpt-5", input="A long story.")

    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    assert compacted.usage.total_tokens > 0
