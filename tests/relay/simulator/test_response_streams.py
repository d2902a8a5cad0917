"""`/v1/responses` as events."""

from typing import Any

import pytest
from openai import OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.relay.simulator.shapes import response_check
from tests.relay.simulator.support import RawResponse, Upstream, events_of
from tests.relay.simulator.test_responses import CODE, FILES, IMAGES, PATH, WEATHER, WEB, call

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
WHOLE: dict[str, dict[str, Any]] = {
    "a text": {},
    "reasoning": {"reasoning": {"summary": "auto"}},
    "raw reasoning": {"simulate": {"reasoning_text": "Well, well."}},
    "hidden reasoning": {"simulate": {"reasoning_tokens": 9}},
    "tools": {"tools": [WEB, FILES, CODE, IMAGES]},
    "a function": {"tools": [WEATHER]},
    "a custom tool": {"tools": [{"type": "custom", "name": "shell"}]},
    "a refusal": {"simulate": {"refusal": True}},
    "a limit": {"max_output_tokens": 16},
    "a failure": {"simulate": {"failed": {"message": "Oh."}}},
    "nothing": {"simulate": {"text": ""}},
}


def stream(upstream: Upstream, simulate: Any = None, **fields: Any) -> RawResponse:
    return call(upstream, **{"simulate": simulate or {}} | fields, stream=True)


def names(response: RawResponse) -> list[str | None]:
    return [name for name, _ in events_of(response)]


@pytest.mark.parametrize("fields", WHOLE.values(), ids=WHOLE)
def test_every_event_has_its_shape_and_number(upstream: Upstream, fields: Any) -> None:
    events = events_of(stream(upstream, **fields))

    for number, (name, event) in enumerate(events):
        assert (name, number) == (event["type"], event["sequence_number"])
        EVENT.validate_python(event)


@pytest.mark.parametrize("fields", WHOLE.values(), ids=WHOLE)
def test_the_last_event_is_the_document(upstream: Upstream, fields: Any) -> None:
    body = {"store": False} | fields
    document = call(upstream, **body).document()
    name, last = events_of(stream(upstream, **body))[-1]

    assert name == f"response.{document['status']}"
    streamed = response_check(last["response"])
    whole = response_check(document)
    assert streamed.usage == whole.usage
    assert streamed.output_text == whole.output_text
    assert [item.type for item in streamed.output] == [item.type for item in whole.output]


def test_the_sdk_puts_a_response_together(client: OpenAI) -> None:
    tools: Any = [WEB, CODE]
    with client.responses.stream(model="gpt-5", input="hi", tools=tools) as events:
        seen = [event.type for event in events]
        response = events.get_final_response()

    assert seen[:2] == ["response.created", "response.in_progress"]
    assert seen[-1] == "response.completed"
    assert response.output_text.startswith('You said: "hi".')


def test_the_deltas_are_the_text(upstream: Upstream) -> None:
    events = events_of(stream(upstream, {"text": "Grüße, 你好 😀!", "chunks": 4}))
    deltas = [event["delta"] for name, event in events if name == "response.output_text.delta"]
    (done,) = [event for name, event in events if name == "response.output_text.done"]

    assert len(deltas) == 4
    assert "".join(deltas) == done["text"] == "Grüße, 你好 😀!"


def test_a_tool_shows_its_steps(upstream: Upstream) -> None:
    seen = names(stream(upstream, tools=[WEB, CODE]))

    steps = [name for name in seen if name and "_call" in name]
    assert steps[:3] == [
        f"response.web_search_call.{step}" for step in ("in_progress", "searching", "completed")
    ]
    assert steps[3] == "response.code_interpreter_call.in_progress"
    assert steps[4] == "response.code_interpreter_call_code.delta"
    assert steps[-1] == "response.code_interpreter_call.completed"


def test_there_is_no_done(upstream: Upstream) -> None:
    assert b"[DONE]" not in stream(upstream).body


def test_only_the_last_event_has_usage(upstream: Upstream) -> None:
    *others, (_, last) = events_of(stream(upstream))

    assert [event["response"]["usage"] for _, event in others if "response" in event] == [None] * 2
    assert last["response"]["usage"]["total_tokens"] > 0


def test_an_error_event_is_flat(upstream: Upstream, client: OpenAI) -> None:
    knobs = {"fault": "error_event_after", "error": {"code": "server_error", "message": "Oh."}}
    name, error = events_of(stream(upstream, knobs))[-1]

    assert name == "error"
    EVENT.validate_python(error)
    assert (error["code"], error["message"]) == ("server_error", "Oh.")
    *_, last = client.responses.create(
        model="gpt-5", input="hi", stream=True, extra_body={"simulate": knobs}
    )
    assert last.type == "error"


def test_a_stream_is_replayed_from_a_number(upstream: Upstream) -> None:
    whole = events_of(stream(upstream, input="replay"))
    response_id = whole[0][1]["response"]["id"]
    path = f"{PATH}/{response_id}?stream=true"

    assert events_of(upstream.call(b"", path=path, method="GET")) == whole
    rest = events_of(upstream.call(b"", path=f"{path}&starting_after=4", method="GET"))
    assert rest == whole[5:]
