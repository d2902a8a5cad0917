import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.metering.tokenizer import (
    MAX_PIECES,
    PIECE_CHARACTERS,
    TOKENS_PER_LOW_DETAIL_IMAGE,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_OPAQUE_PART,
    TOKENS_PER_REPLY,
    encoding_of,
    estimate_prompt_tokens,
    estimate_tokens,
)

MOST = MAX_PIECES * PIECE_CHARACTERS


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-1106-preview", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("openai/gpt-4-32k", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0613:acme::x", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("gpt-4o", "o200k_base"),
        ("GPT-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-4.5-preview", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("ft:gpt-4o:acme::x", "o200k_base"),
        ("somebody-elses-model", "o200k_base"),
    ],
)
def test_each_family_has_its_vocabulary(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding


@pytest.mark.parametrize(
    ("model", "text", "tokens"),
    [
        ("gpt-4o", "", 0),
        ("gpt-4o", "hello world", 2),
        ("gpt-4", "hello world", 2),
        ("gpt-4o", "你好世界", 2),
        ("gpt-4", "你好世界", 5),
        # Text is text, also when it looks like a special token.
        ("gpt-4o", "<|endoftext|>", 7),
    ],
)
def test_known_counts(model: str, text: str, tokens: int) -> None:
    assert estimate_tokens(model, text) == tokens


def test_half_a_surrogate_pair_counts_as_something() -> None:
    assert estimate_tokens("gpt-4o", "\ud83d") > 0


def test_pieces_cost_next_to_nothing() -> None:
    sentence = "The quick brown fox jumps over the lazy dog. "
    text = sentence * (MOST // len(sentence))
    exact = 10 * (MOST // len(sentence)) + 1
    assert exact <= estimate_tokens("gpt-4o", text) <= exact + MAX_PIECES


def test_a_very_long_text_is_counted_by_a_sample() -> None:
    # Chinese in front, English behind: a sample of the beginning would be far off.
    text = "你好世界" * MOST + " the quick brown fox" * MOST
    exact = 2 * MOST + 4 * MOST
    assert estimate_tokens("gpt-4o", text) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("character", ["a", " ", "\n", "!", "1", "\u4f60", "\U0001f469", "aA"])
def test_monotonous_text_is_no_trap(character: str) -> None:
    assert 0 < estimate_tokens("gpt-4o", character * MOST) <= 3 * len(character) * MOST


def prompt(*messages: dict[str, Any], **fields: Any) -> int:
    return estimate_prompt_tokens(
        "gpt-4o", json.dumps({"model": "gpt-4o", "messages": messages, **fields}).encode()
    )


def of(text: str) -> int:
    return TOKENS_PER_REPLY + TOKENS_PER_MESSAGE + estimate_tokens("gpt-4o", text)


def test_a_prompt_is_its_messages_and_what_is_around_them() -> None:
    assert prompt({"role": "user", "content": "hello world"}) == of("user\nhello world")
    assert prompt({"role": "user", "content": "a"}, {"role": "user", "content": "a"}) == (
        of("user\na\nuser\na") + TOKENS_PER_MESSAGE
    )


@pytest.mark.parametrize(
    ("message", "text", "more"),
    [
        ({"content": None}, "", 0),
        (
            {"content": [{"type": "text", "text": "a b"}, {"type": "text", "text": "c"}]},
            "a b\nc",
            0,
        ),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "no", 0),
        ({"refusal": "no", "name": "bob"}, "bob\nno", 0),
        (
            {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f"}}]},
            "f",
            0,
        ),
        ({"function_call": {"name": "f", "arguments": "{}"}}, "f\n{}", 0),
        (
            {"content": [{"type": "image_url", "image_url": {"url": "data:" + "A" * 9999}}]},
            "",
            TOKENS_PER_OPAQUE_PART,
        ),
        (
            {"content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}]},
            "",
            TOKENS_PER_LOW_DETAIL_IMAGE,
        ),
        ({"content": [{"type": "image_url", "image_url": "u"}]}, "", TOKENS_PER_OPAQUE_PART),
        ({"content": [{"type": "file", "file": {"file_data": "A" * 9999}}]}, "", 765),
    ],
)
def test_the_parts_of_a_message(message: dict[str, Any], text: str, more: int) -> None:
    assert prompt(message) == of(text) + more


@pytest.mark.parametrize("field", ["tools", "functions", "response_format"])
def test_tools_and_formats_are_read_by_the_model_too(field: str) -> None:
    bare = prompt({"role": "user", "content": "a"})
    assert prompt({"role": "user", "content": "a"}, **{field: [{"name": "look_up"}]}) > bare + 3


def test_the_vocabularies_are_loaded_when_they_are_needed() -> None:
    code = (
        "import sys; from relay.metering import tokenizer as t;"
        "assert t._tokenizer.cache_info().currsize == 0;"
        "t.estimate_tokens('gpt-4o', 'x');"
        "assert t._tokenizer.cache_info().currsize == 1;"
        "assert 'bpe_openai' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], cwd=root, env=dict(os.environ), check=True)
