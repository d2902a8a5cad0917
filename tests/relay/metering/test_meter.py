import json
from typing import Any

import pytest

from relay.bodies.sse import MAX_EVENT_BYTES
from relay.metering.meter import KEEP_ALIVE, MAX_TEXT_CHARACTERS, ChatStreamMeter

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


def event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    finish_reason = fields.pop("finish_reason", None)
    index = fields.pop("index", 0)
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish_reason}],
        "usage": None,
        **fields,
    }


def usage_chunk(usage: Any = None) -> dict[str, Any]:
    return chunk(choices=[], usage=usage or USAGE)


def text(content: str) -> bytes:
    return event(chunk({"content": content}))


STOP = event(chunk(finish_reason="stop"))


def run(*chunks: bytes, include_usage: bool = False) -> tuple[bytes, ChatStreamMeter]:
    meter = ChatStreamMeter(include_usage=include_usage)
    forwarded = b"".join([meter.feed(c) for c in chunks])
    return forwarded + meter.finish(), meter


def told(forwarded: bytes) -> dict[str, Any]:
    """The error of the last event, which must be the last thing forwarded."""
    last = forwarded.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
    error: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_usual_stream() -> None:
    content = [
        event(chunk({"role": "assistant", "content": ""})),
        text("Hel"),
        text("lo 你好"),
        STOP,
    ]
    forwarded, meter = run(*content, event(usage_chunk()), DONE)
    assert forwarded == b"".join(content)
    assert meter.usage == USAGE
    assert meter.done
    assert meter.is_complete
    assert meter.error is None
    assert meter.output_text() == "Hello 你好"
    assert meter.output_seen
    assert meter.finish_reasons == {0: "stop"}
    assert meter.upstream_id == "chatcmpl-1"
    assert meter.served_model == "gpt-4o-2024-08-06"
    assert meter.served_tier == "default"


def test_the_usage_chunk_goes_to_who_asked_for_it() -> None:
    stream = [text("a"), STOP, event(usage_chunk()), DONE]
    assert run(*stream, include_usage=True)[0] == b"".join(stream[:3])
    assert run(*stream, include_usage=False)[0] == b"".join(stream[:2])


@pytest.mark.parametrize("include_usage", [True, False])
def test_of_two_usage_chunks_the_last_counts_and_is_shown(*, include_usage: bool) -> None:
    last = {**USAGE, "completion_tokens": 1, "total_tokens": 10}
    stream = [text("a"), event(usage_chunk()), event(usage_chunk(last)), DONE]
    forwarded, meter = run(*stream, include_usage=include_usage)
    assert forwarded == stream[0] + (stream[2] if include_usage else b"")
    assert meter.usage == last


def test_nothing_follows_done() -> None:
    before = [text("a"), event(usage_chunk())]
    after = [text("b"), event(usage_chunk({"prompt_tokens": 1})), DONE, b"data: {", b"junk"]
    for chunks in ([*before, DONE, *after], [b"".join([*before, DONE, *after])]):
        forwarded, meter = run(*chunks)
        assert forwarded == before[0]
        assert meter.usage == USAGE
        assert meter.output_text() == "a"
        assert meter.done


def events_in(forwarded: bytes) -> list[Any]:
    return [json.loads(one.removeprefix(b"data: ")) for one in forwarded.split(b"\n\n")[:-1]]


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("index", [0, "loose"])
def test_usage_beside_output_is_metered_and_told_as_openai_tells_it(
    index: Any, *, asked: bool
) -> None:
    running = chunk({"content": "a"}, usage={"prompt_tokens": 1}, index=index)
    final = chunk(finish_reason="stop", usage=USAGE, index=index)
    forwarded, meter = run(event(running), event(final), include_usage=asked)
    bare = [{**running, "usage": None}, {**final, "usage": None}]
    assert events_in(forwarded) == bare + [{**final, "choices": []}] * asked
    assert meter.usage == USAGE
    forwarded, meter = run(event(running), DONE, include_usage=asked)
    assert not meter.is_complete or meter.done


def test_an_empty_choices_list_without_usage_passes() -> None:
    filters = event(chunk(choices=[], prompt_filter_results=[{}], model="", id=""))
    forwarded, meter = run(filters, text("a"), DONE)
    assert forwarded == filters + text("a")
    assert meter.usage is None
    assert (meter.upstream_id, meter.served_model) == ("chatcmpl-1", "gpt-4o-2024-08-06")


@pytest.mark.parametrize("usage", [{}, None, 0, "", False])
def test_empty_usage_is_no_usage(usage: Any) -> None:
    assert run(event({"choices": [], "usage": usage}), DONE)[1].usage is None


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1}, "nine", [9], 9, {"prompt_tokens": 1e12}])
def test_odd_usage_is_handed_over_for_others_to_judge(usage: Any) -> None:
    _, meter = run(text("a"), event({"choices": [], "usage": usage}), DONE)
    assert meter.usage == usage
    assert meter.is_complete


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a"}, "a"),
        ({"refusal": "no"}, "no"),
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f"}}]}, "f"),
        ({"tool_calls": [{"function": {"arguments": '{"a'}}, {"function": None}, {}]}, '{"a'),
        ({"function_call": {"name": "f", "arguments": "{}"}}, "f{}"),
        ({"audio": {"id": "audio_1", "transcript": "hey"}}, "hey"),
        ({"content": "a", "reasoning_content": "b", "refusal": "c"}, "acb"),
        ({"content": [{"type": "text", "text": "part"}]}, "part"),
        ({"content": {"deep": ["x", {"text": "y"}]}, "role": "assistant"}, "xy"),
        ({"tool_calls": {"function": {"name": "f", "arguments": {"a": "b"}}}}, "fb"),
    ],
)
def test_whatever_the_model_writes_is_output(delta: dict[str, Any], expected: str) -> None:
    sent = event(chunk(delta))
    forwarded, meter = run(sent, STOP, DONE)
    assert forwarded == sent + STOP
    assert meter.output_text() == expected
    assert meter.output_seen
    assert meter.served_tier == "default"


@pytest.mark.parametrize("delta", [{}, {"role": "assistant", "content": ""}, {"content": None}])
def test_a_role_alone_is_no_output(delta: dict[str, Any]) -> None:
    _, meter = run(event(chunk(delta)), STOP, DONE)
    assert not meter.output_seen
    assert meter.output_text() == ""


def test_audio_without_a_transcript_is_output_too() -> None:
    _, meter = run(event(chunk({"audio": {"data": "AAAA"}})))
    assert meter.output_seen
    assert meter.output_text() == ""


def test_choices_do_not_run_into_each_other() -> None:
    deltas = [(0, "one"), (1, "un"), (0, " two"), (1, " deux")]
    chunks = [event(chunk({"content": content}, index=index)) for index, content in deltas]
    ends = [event(chunk(finish_reason="length", index=index)) for index in (0, 1)]
    _, meter = run(*chunks, *ends, DONE)
    assert meter.output_text() == "one two\nun deux"
    assert meter.finish_reasons == {0: "length", 1: "length"}


def test_the_text_that_is_kept_is_bounded() -> None:
    meter = ChatStreamMeter(include_usage=False)
    part = text("x" * 100_000)
    for _ in range(30):
        assert meter.feed(part) == part
    assert len(meter.output_text()) == MAX_TEXT_CHARACTERS


@pytest.mark.parametrize("served", ["default", "priority", "flex"])
def test_the_last_tier_that_upstream_names_counts(served: str) -> None:
    first = event(chunk({"content": "a"}, service_tier="auto"))
    last = event(chunk({"content": "b"}, service_tier=served))
    silent = event(chunk({"content": "c"}, service_tier=None))
    assert run(first, last, silent)[1].served_tier == served


@pytest.mark.parametrize("delta", [{"content": "a"}, {"audio": {"data": "UklGRg=="}}])
def test_usage_that_was_told_before_the_output_is_a_placeholder(delta: dict[str, Any]) -> None:
    early = event(chunk({"role": "assistant"}, usage={"prompt_tokens": 1, "completion_tokens": 1}))
    _, meter = run(early)
    assert not meter.is_complete
    _, meter = run(early, event(chunk(delta)))
    assert meter.usage is None
    assert not meter.is_complete
    _, meter = run(early, event(chunk(delta)), STOP, event(usage_chunk()), DONE)
    assert meter.usage == USAGE
    assert meter.is_complete


# How a stream ends.


def test_final_usage_proves_that_an_answer_is_complete() -> None:
    forwarded, meter = run(text("a"), STOP, event(usage_chunk()), include_usage=True)
    assert forwarded == text("a") + STOP + event(usage_chunk())
    assert meter.is_complete
    assert not meter.done


def test_a_cut_stream_is_not_complete() -> None:
    cut = text("b")[:-1]
    for rest in (b"", b"da", cut[:20], cut[:-9]):
        forwarded, meter = run(text("a"), rest)
        assert forwarded == text("a")
        assert not meter.is_complete
        assert meter.error is None
        assert meter.usage is None


@pytest.mark.parametrize("missing", [b"\n\n", b"\n"])
def test_only_the_last_empty_line_is_missing(missing: bytes) -> None:
    forwarded, meter = run(text("a"), text("b").removesuffix(missing))
    assert forwarded == text("a") + text("b")
    assert meter.output_text() == "ab"
    assert run(text("a"), DONE.removesuffix(missing))[1].done
    _, meter = run(text("a"), event(usage_chunk()).removesuffix(missing))
    assert meter.usage == USAGE
    assert meter.is_complete


ERROR = {"message": "The server is on fire", "type": "server_error", "param": None, "code": "fire"}


@pytest.mark.parametrize(
    "raw",
    [
        event({"error": ERROR}),
        event({"choices": [], "error": ERROR, "usage": None}),
        b"event: error\n" + event({"error": ERROR}),
        b"event: error\r\n" + event(ERROR),
        b"data: "
        + json.dumps({"error": ERROR}, indent=1).replace("\n", "\ndata: ").encode()
        + b"\n\n",
        event({"choices": "odd", "error": ERROR}),
    ],
)
@pytest.mark.parametrize("before", [b"", text("a")])
def test_an_error_is_told_once_in_our_shape_and_ends_the_output(raw: bytes, before: bytes) -> None:
    forwarded, meter = run(before, raw, text("b"), raw, event(usage_chunk()), DONE)
    assert forwarded.startswith(before + b"data: {")
    assert forwarded.count(b"\n") == (4 if before else 2)
    assert told(forwarded) == ERROR
    assert meter.error is not None
    assert meter.error.message == ERROR["message"]
    assert meter.usage == USAGE
    assert not meter.is_complete
    assert meter.output_seen == bool(before)
    assert meter.output_text() == ("a" if before else "")


def test_no_usage_chunk_is_shown_beside_an_error() -> None:
    usage = event(usage_chunk())
    for stream in ([usage, event({"error": ERROR}), DONE], [event({"error": ERROR}), usage, DONE]):
        forwarded, meter = run(*stream, include_usage=True)
        assert told(forwarded) == ERROR
        assert forwarded.count(b"\n") == 2
        assert meter.usage == USAGE


def test_an_error_before_any_output() -> None:
    _, meter = run(event({"error": ERROR}), DONE)
    assert not meter.output_seen
    assert meter.usage is None


def test_usage_beside_an_error_is_kept() -> None:
    assert run(event({"error": ERROR, "usage": USAGE}))[1].usage == USAGE


def test_an_error_about_the_operators_account_is_not_told() -> None:
    secret = {"message": "Quota of org-abcdef123 at sk-abcdef", "code": "insufficient_quota"}
    forwarded, _ = run(event({"error": secret}))
    assert told(forwarded)["code"] == "upstream_error"
    assert b"org-" not in forwarded
    assert b"sk-" not in forwarded


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"choices":[}',
        b'{"choices":5,}',
        b'{"a":1} {"b":2}',
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"[DON",
        b"<html>",
        b"upstream connect error",
        b'{"choices":[],"x":NaN}',
        b'{"choices":"' + b"[" * 10 + b'","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_chunk_ends_the_stream_with_an_error(data: bytes) -> None:
    forwarded, meter = run(text("a"), b"data: " + data + b"\n\n", text("b"), DONE)
    assert forwarded.startswith(text("a"))
    assert told(forwarded)["code"] == "upstream_error"
    assert meter.error is not None
    assert not meter.is_complete


def test_half_a_surrogate_pair_passes() -> None:
    halves = [b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', b'{"choices":[],"x":"\\ude00"}']
    chunks = [b"data: " + half + b"\n\n" for half in halves]
    forwarded, meter = run(*chunks, DONE)
    assert forwarded == b"".join(chunks)
    assert meter.output_text() == "\ud83d"
    assert meter.is_complete


# What breaks clients.


@pytest.mark.parametrize(
    ("raw", "forwarded"),
    [
        (b"event: x\nid: 7\nretry: 5\n" + text("a"), text("a")),
        (text("a").replace(b"\n", b"\r\n"), text("a")),
        (text("a").replace(b"\n", b"\r") + b"\n", text("a")),
        (b"data:" + text("a")[6:], text("a")),
        (b"\xef\xbb\xbf" + text("a"), text("a")),
        (b"\n\n" + text("a"), text("a")),
        (b": note\n" + text("a"), text("a")),
        (b"data:  " + text("a")[6:], b"data:  " + text("a")[6:]),
        (b": ping\n\n", KEEP_ALIVE),
        (b": ping\nid: 3\n\n", KEEP_ALIVE),
        (b"data: : keepalive\n\n", KEEP_ALIVE),
        (b"data:\n\n", KEEP_ALIVE),
        (b"event: ping\n\n", b""),
        (b"id: 3\n\n", b""),
        (b"unknown\n\n", b""),
    ],
)
def test_what_breaks_clients_is_taken_out(raw: bytes, forwarded: bytes) -> None:
    assert run(raw + DONE)[0] == forwarded
    assert run(*(bytes([byte]) for byte in raw + DONE))[0] == forwarded


def test_data_in_several_lines_stays_in_several_lines() -> None:
    raw = b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]}\n\n'
    forwarded, meter = run(b"event: x\n" + raw, DONE)
    assert forwarded == raw
    assert meter.output_text() == "a"


@pytest.mark.parametrize("place", ["content", "skipped"])
def test_invalid_utf8_is_never_forwarded(place: str) -> None:
    broken = text("a~") if place == "content" else event(chunk({"content": "a"}, x="~"))
    forwarded, meter = run(broken.replace(b"~", b"\xe4\xbd"), event(usage_chunk()), DONE)
    assert forwarded == broken.replace(b"~", "\ufffd".encode())
    assert meter.output_text() == ("a\ufffd" if place == "content" else "a")
    assert meter.usage == USAGE


@pytest.mark.parametrize("size", [100_000, 400_000, 10_000_000])
def test_usage_is_found_behind_a_line_of_any_size(size: int) -> None:
    large = text("x" * size)
    stream = large + event(usage_chunk()) + DONE
    forwarded, meter = run(*(stream[at : at + 65_536] for at in range(0, len(stream), 65_536)))
    assert forwarded == large
    assert meter.usage == USAGE
    assert meter.output_seen
    assert meter.is_complete


def test_a_large_event_is_mended_as_it_passes() -> None:
    large = text("你" * 200_000)
    raw = b"event: x\r\nid: 1\r\n: c\r\n" + large.replace("你".encode() * 2, b"\xff\xe4\xbd", 1)
    chunks = [raw[at : at + 999] for at in range(0, len(raw), 999)]
    mended = large.replace("你你".encode(), "\ufffd\ufffd".encode(), 1)
    forwarded, _ = run(*chunks, *chunks, text("b"), DONE)
    assert forwarded == mended * 2 + text("b")


def test_a_large_event_that_is_cut_does_not_swallow_the_error_behind_it() -> None:
    large = text("x" * 400_000)[:-50]
    forwarded, meter = run(large)
    assert forwarded == large + b"\n\n"
    assert not meter.is_complete


def test_after_an_error_not_even_a_large_event_passes() -> None:
    audio = event(chunk({"audio": {"data": "AAAA"}}))
    forwarded, meter = run(event({"error": ERROR}), audio, text("x" * 400_000), b": c\n\n")
    assert told(forwarded) == ERROR
    assert not meter.output_seen


def test_a_comment_fits_only_between_events() -> None:
    meter = ChatStreamMeter(include_usage=False)
    large = b"[" + b" " * MAX_EVENT_BYTES
    # Half of an event that is kept back has not begun for the client; one too large to keep has.
    seen = [meter.is_between_events]
    for piece in (b'data: {"choices":', large, b"]}\n\n"):
        meter.feed(piece)
        seen.append(meter.is_between_events)
    assert seen == [True, True, False, True]


def test_what_all_choices_write_adds_up() -> None:
    meter = ChatStreamMeter(include_usage=False)
    meter.feed(b'data: {"choices":[{"index":0,"delta":{"content":"four"}}]}\n\n')
    meter.feed(b'data: {"choices":[{"index":1,"delta":{"reasoning_content":"seven.."}}]}\n\n')
    assert meter.characters == 11
