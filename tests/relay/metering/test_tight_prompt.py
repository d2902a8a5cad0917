"""The closer bound on a prompt: never below what upstream counts, and much below the bytes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.metering.tokenizer import MAX_COUNTED_BYTES, tight_prompt_bound
from relay.simulator.requests import request_parse
from relay.simulator.tokens import Tokenizer
from relay.simulator.usage import prompt_tokens

unhurried = settings(deadline=None)

PROSE = "The quick brown fox jumps over the lazy dog. "
# No halves of surrogate pairs: a request that has one is refused.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    [PROSE, "你好世界", " " * 50, "\n\n\n\t", "'s 've don't", "<|endoftext|>", '"\\/\b', "👩‍👩‍👧‍👦"]
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    role = draw(st.sampled_from(["system", "developer", "user", "assistant"]))
    text = draw(TEXTS)
    parts = [{"type": "text", "text": part} for part in draw(st.lists(TEXTS, max_size=3))]
    message: dict[str, Any] = {"role": role, "content": draw(st.sampled_from([text, parts]))}
    if draw(st.booleans()):
        message["name"] = draw(TEXTS)
    if role == "assistant" and draw(st.booleans()):
        function = {"name": "look_up", "arguments": json.dumps({"what": draw(TEXTS)})}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    return message


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    body: dict[str, Any] = {
        "model": draw(st.sampled_from(["gpt-4o-mini", "gpt-4", "gpt-3.5-turbo"])),
        "messages": draw(st.lists(messages(), min_size=1, max_size=6)),
    }
    if draw(st.booleans()):
        parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
        function = {"name": "weather", "description": draw(TEXTS), "parameters": parameters}
        body["tools"] = [{"type": "function", "function": function}]
    return json.dumps(body, ensure_ascii=draw(st.booleans())).encode()


@unhurried
@given(bodies())
def test_it_is_never_below_what_upstream_counts(body: bytes) -> None:
    request = request_parse(body)
    counted = prompt_tokens(request, tokenizer=Tokenizer(request.model))
    bound = tight_prompt_bound(body, [request.model])
    assert counted <= bound <= len(body)
    # Whichever of its channels takes the call.
    assert tight_prompt_bound(body, ["gpt-4", "gpt-4o"]) >= bound


def body_of(content: Any) -> bytes:
    return json.dumps({"model": "x", "messages": [{"role": "user", "content": content}]}).encode()


@pytest.mark.parametrize(
    "model",
    [
        "gpt-3.5-turbo",
        "gpt-35-turbo-16k",
        "gpt-4",
        "gpt-4-turbo-2024-04-09",
        "GPT-4o-mini",
        "gpt-4.1",
        "gpt-4.5-preview",
        "gpt-5",
        "gpt-5.1-mini",
        "o1",
        "o3-mini",
        "o4-mini-2025-04-16",
        "chatgpt-4o-latest",
        "openai/gpt-4o",
        "ft:gpt-4o-mini:acme::x",
    ],
)
def test_prose_has_far_fewer_tokens_than_bytes(model: str) -> None:
    body = body_of(PROSE * 200)
    # Ten tokens a sentence, and the bytes of the JSON around it.
    assert 2_000 <= tight_prompt_bound(body, [model]) < 2_000 + 100


@pytest.mark.parametrize(
    "model",
    [
        "deepseek-chat",
        "claude-sonnet-4",
        "somebody/gpt-4o",
        "gpt-40",
        "gpt-6",
        "o5-mini",
        "o11",
        "gpt-4omni",
        "gpt-4o-search-preview",
        "gpt-oss-120b",
        "my-gpt-4o",
    ],
)
def test_a_vocabulary_that_is_only_guessed_tightens_nothing(model: str) -> None:
    body = body_of(PROSE * 200)
    assert tight_prompt_bound(body, [model]) == len(body)
    assert tight_prompt_bound(body, ["gpt-4o", model]) == len(body)


def test_the_text_that_counts_twice_is_bounded_by_the_last_of_it() -> None:
    """Which of two equal members upstream reads is its own affair."""
    twice = b'{"model":"x","messages":[{"role":"user","content":"%s","content":"%s"}]}'
    long, short = PROSE.encode() * 50, b"Hello"
    assert tight_prompt_bound(twice % (long, short), ["gpt-4o"]) > len(long)
    assert tight_prompt_bound(twice % (short, long), ["gpt-4o"]) > 50 * 10


def test_what_is_not_text_stays_a_token_a_byte() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000}}
    bound = tight_prompt_bound(body_of([{"type": "text", "text": PROSE * 100}, image]), ["gpt-4o"])
    assert bound > 5_000
    bound = tight_prompt_bound(body_of([{"type": "text", "text": 5}]), ["gpt-4o"])
    assert bound == len(body_of([{"type": "text", "text": 5}]))


def test_a_prompt_that_takes_long_to_count_is_not_counted() -> None:
    frame = len(body_of(""))
    largest = body_of("a" * (MAX_COUNTED_BYTES - frame))
    assert tight_prompt_bound(largest, ["gpt-4o"]) < len(largest)
    larger = body_of("a" * (MAX_COUNTED_BYTES - frame + 1))
    assert tight_prompt_bound(larger, ["gpt-4o"]) == len(larger)
