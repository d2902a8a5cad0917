import json
from typing import Any

import pytest

from relay.bodies.chat_requests import (
    ChatRequest,
    InvalidRequest,
    _parse_strictly,
    parse_chat,
    splice,
    upstream_body,
)
from relay.errors import render

MESSAGES = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": MESSAGES, **fields}).encode()


def refusal(text: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(text)
    return caught.value


def test_the_metered_fields() -> None:
    text = body(
        stream=True,
        stream_options={"include_usage": True},
        n=3,
        max_tokens=5,
        max_completion_tokens=7,
        service_tier="flex",
        tools=[{"type": "function"}],
        modalities=["text", "audio"],
        web_search_options={},
    )
    request = parse_chat(text)
    assert request.body is text
    assert request.model == "gpt-4o"
    assert request.stream
    assert request.include_usage
    assert request.n == 3
    assert (request.max_tokens, request.max_completion_tokens, request.output_limit) == (5, 7, 7)
    assert request.service_tier == "flex"
    assert request.has_tools
    assert request.wants_audio
    assert request.searches_web
    assert request.opaque_parts == 0


@pytest.mark.parametrize(
    "fields",
    [
        {},
        dict.fromkeys(["stream", "stream_options", "n", "max_tokens", "max_completion_tokens"]),
        dict.fromkeys(["service_tier", "tools", "functions", "modalities", "web_search_options"]),
        {"tools": [], "functions": [], "modalities": ["text"], "stop": [], "stream": False},
    ],
)
def test_what_is_absent_null_or_empty_asks_for_nothing(fields: dict[str, Any]) -> None:
    request = parse_chat(body(**fields))
    assert not request.stream
    assert not request.include_usage
    assert request.n == 1
    assert request.output_limit is None
    assert request.service_tier is None
    assert not request.has_tools
    assert not request.wants_audio
    assert not request.searches_web


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True, "stream_options": {"include_usage": True}, "n": 3, "max_tokens": 5},
        {"service_tier": "flex", "tools": [{}], "modalities": ["audio"], "web_search_options": {}},
        {"audio": {"voice": {"id": "v"}}, "user": "a", "prompt_cache_key": "", "functions": []},
        {"prediction": {"content": "1234"}, "safety_identifier": None, "temperature": 1},
        {"prediction": None, "max_completion_tokens": 9, "stream_options": None},
        {"messages": [{"content": [{"type": "image_url"}]}, {"audio": {"id": "a"}}, {}]},
    ],
)
def test_all_fields_at_once_are_read_as_each_alone(fields: dict[str, Any]) -> None:
    request = parse_chat(body(**fields))
    assert request == _parse_strictly(request.body, request.members)


def test_usage_counts_as_asked_for_only_in_a_stream() -> None:
    assert not parse_chat(body(stream_options={"include_usage": True})).include_usage
    assert not parse_chat(body(stream=True, stream_options={})).include_usage
    assert not parse_chat(body(stream=True, stream_options={"include_usage": None})).include_usage


@pytest.mark.parametrize(
    ("content", "opaque"),
    [
        ("text", 0),
        (None, 0),
        ([{"type": "text", "text": 'say "image_url"', "cache_control": {"type": "x"}}], 0),
        ([{"type": "refusal", "refusal": "no"}], 0),
        ([{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "u"}}], 1),
        ([{"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}], 2),
        ([{"type": "video_url"}, {}], 2),
        ([], 0),
    ],
)
def test_parts_that_may_cost_more_than_their_bytes(content: Any, opaque: int) -> None:
    messages = [*MESSAGES, {"role": "user", "content": content}]
    assert parse_chat(body(messages=messages)).opaque_parts == opaque


def test_an_answer_in_audio_that_is_sent_back_is_opaque() -> None:
    messages = [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "assistant"}]
    assert parse_chat(body(messages=messages)).opaque_parts == 1


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": ""}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": ["a"]}, "model", "invalid_type"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["hi"]}, "messages", "invalid_type"),
        ({"messages": [{"content": 5}]}, "messages", "invalid_type"),
        ({"messages": [{"content": ["hi"]}]}, "messages", "invalid_type"),
        ({"messages": [{"content": [{"type": 1}]}]}, "messages", "invalid_type"),
        ({"stream": "true"}, "stream", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"stream_options": True}, "stream_options", "invalid_type"),
        ({"stream": True, "stream_options": []}, "stream_options", "invalid_type"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "invalid_type",
        ),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": -5}, "n", "integer_below_min_value"),
        ({"n": 129}, "n", "integer_above_max_value"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"n": True}, "n", "invalid_type"),
        ({"n": 10**30}, "n", "integer_above_max_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 2**63}, "max_tokens", "integer_above_max_value"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": []}, "max_completion_tokens", "invalid_type"),
        ({"service_tier": 1}, "service_tier", "invalid_type"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"functions": "f"}, "functions", "invalid_type"),
        ({"modalities": "audio"}, "modalities", "invalid_type"),
        ({"web_search_options": True}, "web_search_options", "invalid_type"),
        ({"api_base": "https://evil.example"}, "api_base", "unknown_parameter"),
        ({"base_url": None}, "base_url", "unknown_parameter"),
        ({"api_key": "k"}, "api_key", "unknown_parameter"),
        ({"extra_headers": {}}, "extra_headers", "unknown_parameter"),
        ({"extra_body": {}}, "extra_body", "unknown_parameter"),
    ],
)
def test_a_refusal_names_the_field(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(body(**fields))
    assert (error.status, error.param, error.code) == (400, param, code)
    assert param in error.message


@pytest.mark.parametrize("param", ["model", "messages"])
def test_a_missing_field_is_named(param: str) -> None:
    fields = {"model": "m", "messages": MESSAGES}
    del fields[param]
    error = refusal(json.dumps(fields).encode())
    assert (error.param, error.code) == (param, "missing_required_parameter")


GOOD = b'{"model":"m","messages":[{}]%b}'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"hello",
        b"[]",
        b"null",
        b"5",
        b'"{}"',
        b"model=gpt-4o&messages=hi",
        b"\xef\xbb\xbf" + GOOD % b"",
        (GOOD % b"").decode().encode("utf-16"),
        (GOOD % b"").decode().encode("utf-16-le"),
        b"\x28\xb5\x2f\xfd" + GOOD % b"",
        GOOD % b',"x":NaN',
        GOOD % b',"x":Infinity',
        GOOD % b',"x":-Infinity',
        GOOD % b',"n":NaN',
        GOOD % b',"x":01',
        GOOD % b',"x":.5',
        GOOD % b',"x":1.',
        GOOD % b",",
        GOOD % b',"x":"\x01"',
        GOOD % b',"x":"\\x"',
        GOOD % b',"x":"\\ud800"',
        GOOD % b',"x":"\xff"',
        GOOD % b',"\xff":1',
        GOOD % b',"x":"\xed\xa0\x80"',
        GOOD % b',"user":"\xc3"',
        GOOD % b",'x':1",
        GOOD % b",/**/",
        GOOD % b"" + b"x",
        GOOD % b"" + GOOD % b"",
        GOOD % b"" + b"\x00",
        (GOOD % b"")[:-1],
        GOOD % (b',"x":' + b"[" * 100_000),
        GOOD % (b',"x":' + b"[" * 100_000 + b"]" * 100_000),
        GOOD % (b',"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        b'{"model":"m","messages":[{"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_what_is_not_one_json_object_in_utf8_is_refused(text: bytes) -> None:
    status, _, rendered = render(refusal(text))
    assert status == 400
    assert json.loads(rendered)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        (b',"model":"other"', "model"),
        (b',"\\u006dodel":"other"', "model"),
        (b',"mod\\u0065l":"m"', "model"),
        (b',"\\u006D\\u006Fdel":"other"', "model"),
        (b',"messages":[{}]', "messages"),
        (b',"n":1,"n":1', "n"),
        (b',"\\u006e":1,"x":{"n":2},"n":100', "n"),
        (b',"max_tokens":1,"max\\u005ftokens":9', "max_tokens"),
        (b',"max_tokens":1,"max\\u005Ftokens":9', "max_tokens"),
        (b',"max_completion_tokens":1 , "max_completion_tokens" : 1', "max_completion_tokens"),
        (b',"stream":false,"stream":true', "stream"),
        (b',"service_tier":"flex","service_tier":"priority"', "service_tier"),
        (b',"stream_options":{},"stream_options":null', "stream_options"),
        (b',"user":"a","user":"b"', "user"),
        (
            b',"stream":true,"stream_options":{"include_usage":true,"include\\u005fusage":false}',
            "stream_options.include_usage",
        ),
    ],
)
def test_a_metered_field_that_is_there_twice_is_refused(extra: bytes, param: str) -> None:
    error = refusal(GOOD % extra)
    assert (error.param, error.code) == (param, "duplicate_parameter")
    assert param in error.message


@pytest.mark.parametrize(
    "extra",
    [
        b',"x":{"model":"a","n":0},"y":["model","n"],"z":"\\"model\\":1"',
        b',"tools":[{"model":1,"n":2,"stream":3,"messages":4}]',
        b',"user":"\\u006dodel","\\\\u006dodel":1',
        b',"Model":"x","model ":"y","mod\xc3\xa9l":"z"',
        b',"seed":1,"seed":2',
        b',"stream_options":{"x":1,"x":2,"model":3}',
    ],
)
def test_what_only_looks_like_a_metered_field_passes(extra: bytes) -> None:
    assert parse_chat(GOOD % extra).model == "m"


def changed(text: bytes, changes: dict[str, Any]) -> bytes:
    return splice(text, parse_chat(text), changes=changes)


def test_a_value_is_replaced_in_place_and_nothing_else_changes() -> None:
    text = b' {\n\t"messages" : [{"model":"x"}] ,"model"\r\n:  "gpt\\/4" , "user":"\xc3\xa9"}\n'
    assert changed(text, {"model": "up/4"}) == text.replace(b'"gpt\\/4"', b'"up/4"')


def test_an_escaped_name_is_replaced_where_it_stands() -> None:
    text = b'{"\\u006dodel":"a","messages":[{}]}'
    assert changed(text, {"model": "b"}) == b'{"\\u006dodel":"b","messages":[{}]}'


def test_a_new_member_goes_behind_the_brace() -> None:
    text = GOOD % b""
    assert changed(text, {"max_tokens": 5, "user": "é"}) == (
        b'{"max_tokens":5,"user":"' + "é".encode() + b'",' + text[1:]
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"{}", b'{"include_usage":true}'),
        (b" null ", b' {"include_usage":true} '),
        (b'{"include_usage":false}', b'{"include_usage":true}'),
        (
            b'{ "include_obfuscation" : false,"a":"\\u0041" }',
            b'{"include_usage":true, "include_obfuscation" : false,"a":"\\u0041" }',
        ),
        (b'{"a":1,"include_usage" : null}', b'{"a":1,"include_usage" : true}'),
    ],
)
def test_the_other_stream_options_stay_as_they_are(options: bytes, expected: bytes) -> None:
    text = GOOD % (b',"stream":true,"stream_options":' + options)
    got = forwarded(parse_chat(text))
    assert got == GOOD % (b',"stream":true,"stream_options":' + expected)
    assert parse_chat(got).include_usage


def forwarded(request: ChatRequest, **options: Any) -> bytes:
    usual: dict[str, Any] = {
        "upstream_model": request.model,
        "include_usage": request.stream,
        "output_cap": None,
        "cap_field": "max_completion_tokens",
    }
    return upstream_body(request, **(usual | options))


def test_a_body_that_needs_no_change_goes_as_it_came() -> None:
    for text in (
        body(),
        body(stream=True, stream_options={"include_usage": True, "x": 1}),
        body(max_tokens=5),
    ):
        assert forwarded(parse_chat(text), output_cap=5, cap_field="max_tokens") in (
            text,
            b'{"max_tokens":5,' + text[1:],
        )
        assert forwarded(parse_chat(text)) is text


def test_usage_is_not_asked_for_outside_of_a_stream() -> None:
    text = body(stream=False)
    assert forwarded(parse_chat(text), include_usage=True) is text


def test_usage_is_asked_for_in_a_stream() -> None:
    text = body(stream=True)
    expected = b'{"stream_options":{"include_usage":true},' + text[1:]
    assert forwarded(parse_chat(text)) == expected


@pytest.mark.parametrize(
    ("fields", "cap", "expected"),
    [
        ({}, 256, {"max_completion_tokens": 256}),
        ({"max_tokens": None}, 256, {"max_tokens": None, "max_completion_tokens": 256}),
        ({"max_completion_tokens": None}, 256, {"max_completion_tokens": 256}),
        ({"max_tokens": 1000}, 256, {"max_tokens": 256}),
        ({"max_tokens": 100}, 256, {"max_tokens": 100}),
        ({"max_completion_tokens": 1000}, 256, {"max_completion_tokens": 256}),
        (
            {"max_tokens": 300, "max_completion_tokens": 1000},
            256,
            {"max_tokens": 256, "max_completion_tokens": 256},
        ),
        (
            {"max_tokens": 100, "max_completion_tokens": 1000},
            256,
            {"max_tokens": 100, "max_completion_tokens": 256},
        ),
    ],
)
def test_the_cap_goes_where_the_client_put_its_limit(
    fields: dict[str, Any], cap: int, expected: dict[str, Any]
) -> None:
    got = json.loads(forwarded(parse_chat(body(**fields)), output_cap=cap))
    assert got == {"model": "gpt-4o", "messages": MESSAGES, **expected}


def test_everything_at_once() -> None:
    request = parse_chat(body(stream=True, max_tokens=9, temperature=0.5))
    got = json.loads(forwarded(request, upstream_model="up", output_cap=3))
    assert got == {
        "model": "up",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "temperature": 0.5,
    }


def test_a_prediction_is_measured() -> None:
    assert parse_chat(body()).predicted_bytes == 0
    prediction = {"type": "content", "content": "Hello"}
    parsed = parse_chat(body(prediction=prediction))
    assert parsed.predicted_bytes == len(json.dumps(prediction))
