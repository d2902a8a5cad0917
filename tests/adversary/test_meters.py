"""Bugs of meters: output that was not counted, counted by a guess, or counted twice."""

import json
from typing import Any

import pytest

from relay.simulator.tokens import Tokenizer
from tests.adversary.gateway import SCRIPTED, USD, Gateway, body_of, charge_of
from tests.adversary.upstream import (
    DONE,
    FINISH,
    STREAM_HEAD,
    answer,
    chunk,
    end,
    events_of,
    play,
    said,
    usage_chunk,
)
from tests.relay.upstream.support import Peer

STREAM = body_of(model=SCRIPTED, stream=True)
HUGE_BYTES = 10_000_000


def tokens_of(text: str) -> int:
    return Tokenizer(SCRIPTED).count(text)


async def test_b17_a_line_of_ten_megabytes_does_not_hide_the_usage_behind_it(
    gateway: Gateway,
) -> None:
    """Others stop at a line that is too long for their buffer, and make up an end."""
    customer = await gateway.customer(USD)
    knobs = {"text": "one two three", "fault": "big_line", "bytes": HUGE_BYTES}
    for stream in (False, True):
        reply = await gateway.call(customer, body_of(stream=stream, simulate=knobs))
        assert reply.body.count(b"x" * HUGE_BYTES) == 1
        if stream:
            spoken = [one["choices"][0]["delta"].get("content") for one in events_of(reply)]
            assert "".join(filter(None, spoken)) == "one two three"
    for record in await gateway.records(2):
        assert (record.outcome, record.usage_source) == ("completed", "upstream")
        assert record.charge_nano_usd == charge_of(record.prompt_tokens, 3)


async def test_b17_a_stream_that_ends_within_a_long_line_gets_no_made_up_end(
    gateway: Gateway,
) -> None:
    """A bare `[DONE]` behind half a line tells the client that the answer is whole."""
    half = said("x" * 1_000_000)[:600_000]
    reply = await play(gateway, STREAM, STREAM_HEAD, said("one"), half)
    *_, error, end, rest = reply.body.split(b"\n\n")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "upstream_error"
    assert (end, rest) == (b"data: [DONE]", b"")
    record = await gateway.record()
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.charge_nano_usd == charge_of(record.prompt_tokens, record.completion_tokens) > 0


ARGUMENTS = json.dumps({"city": "Kraków", "days": 3})
CALLED = {"name": "get_weather", "arguments": ARGUMENTS}
# What models say without `content`, and the text that it is billed as.
SPEECHES: dict[str, tuple[dict[str, Any], str]] = {
    "a call of a tool": (
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": CALLED}]},
        f"get_weather{ARGUMENTS}",
    ),
    "a call of a function": ({"function_call": CALLED}, f"get_weather{ARGUMENTS}"),
    "a refusal": ({"refusal": "No, I will not."}, "No, I will not."),
    "reasoning": ({"reasoning_content": "Let me think."}, "Let me think."),
    "reasoning elsewhere": ({"reasoning": "Let me think."}, "Let me think."),
    "speech": ({"audio": {"id": "a", "transcript": "Good day."}}, "Good day."),
}


@pytest.mark.parametrize("stream", [False, True])
async def test_b18_output_that_is_no_content_is_not_free(gateway: Gateway, *, stream: bool) -> None:
    """Others count `delta.content` alone when usage is missing: tool calls cost nothing."""
    turns = iter(SPEECHES.values())

    async def script(peer: Peer) -> None:
        await peer.request()
        speech, _ = next(turns)
        await peer.send(
            *([STREAM_HEAD, chunk(speech), FINISH, DONE] if stream else [answer(speech)])
        )
        await end(peer)

    await gateway.scripted(script)
    customer = await gateway.customer(USD)
    for _ in SPEECHES:
        body = body_of(model=SCRIPTED, stream=stream)
        assert (await gateway.call(customer, body)).status == 200
    records = await gateway.records(len(SPEECHES))
    for (name, (_, text)), record in zip(SPEECHES.items(), records, strict=True):
        assert (record.outcome, record.usage_source) == ("completed", "estimated"), name
        # Name and arguments may be counted together or apart.
        assert tokens_of(text) <= record.completion_tokens <= tokens_of(text) + 1, name
        assert record.prompt_tokens >= tokens_of("Hello"), name
        cost = charge_of(record.prompt_tokens, record.completion_tokens)
        assert record.charge_nano_usd == cost, name


async def test_b20_the_last_usage_counts_and_not_the_largest(gateway: Gateway) -> None:
    """Others merge the usages of a stream by their maxima, and double what was corrected."""
    customer = await gateway.customer(USD)
    knobs = {"text": "one two three", "fault": "usage_twice"}
    for asked in (False, True):
        options = {"include_usage": asked}
        body = body_of(stream=True, stream_options=options, simulate=knobs)
        events = events_of(await gateway.call(customer, body))
        shown = [one["usage"]["completion_tokens"] for one in events if one.get("usage")]
        assert shown == ([3] if asked else [])
    for record in await gateway.records(2):
        assert (record.usage_source, record.completion_tokens) == ("upstream", 3)
        assert record.charge_nano_usd == charge_of(record.prompt_tokens, 3)


async def test_b20_usages_are_not_mixed_field_by_field(gateway: Gateway) -> None:
    """A prompt of one usage and a completion of another make a bill that upstream never wrote."""
    usages = [usage_chunk(100, 5), usage_chunk(10, 60), usage_chunk(20, 40)]
    await play(gateway, STREAM, STREAM_HEAD, said("one"), FINISH, *usages, DONE)
    record = await gateway.record()
    assert (record.prompt_tokens, record.completion_tokens) == (20, 40)
    assert record.charge_nano_usd == charge_of(20, 40)
