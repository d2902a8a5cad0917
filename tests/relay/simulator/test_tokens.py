import bpe_openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.simulator.tokens import Tokenizer


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4",
        "gpt-4-0613",
        "gpt-4-turbo",
        "gpt-4-1106-preview",
        "gpt-3.5-turbo",
        "ft:gpt-4-0613:o",
    ],
)
def test_old_models_use_the_old_vocabulary(model: str) -> None:
    assert Tokenizer(model).encoding_name == "cl100k_base"


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.5-preview", "gpt-5.2", "o3", "llama"]
)
def test_new_models_use_the_new_vocabulary(model: str) -> None:
    assert Tokenizer(model).encoding_name == "o200k_base"


@pytest.mark.parametrize("model", ["gpt-4", "gpt-5"])
def test_count_is_that_of_the_encoding(model: str) -> None:
    text = "Hello there, 你好 😀! <|endoftext|> is ordinary text here."
    tokenizer = Tokenizer(model)
    encoding = bpe_openai.get_encoding(tokenizer.encoding_name)

    assert tokenizer.count(text) == len(encoding.encode_ordinary(text))


def test_the_two_vocabularies_differ() -> None:
    text = "你好世界今天天气怎么样"

    assert Tokenizer("gpt-4").count(text) > Tokenizer("gpt-4o").count(text)


@given(text=st.text(max_size=60))
def test_pieces_are_the_text_in_whole_characters(text: str) -> None:
    tokenizer = Tokenizer("gpt-4")
    pieces = list(tokenizer.pieces(text))

    assert "".join(piece.text for piece in pieces) == text
    assert sum(len(piece.tokens) for piece in pieces) == tokenizer.count(text)
    assert all(
        b"".join(token.data for token in piece.tokens).decode() == piece.text for piece in pieces
    )


@given(text=st.text(max_size=60), limit=st.integers(min_value=0, max_value=40))
def test_cut_keeps_a_beginning_within_the_limit(text: str, limit: int) -> None:
    tokenizer = Tokenizer("gpt-4")
    short = tokenizer.cut(text, limit=limit)

    assert text.startswith(short)
    assert tokenizer.count(short) <= limit
    assert (short == text) == (tokenizer.count(text) <= limit)


def test_cut_loses_no_whole_token_of_plain_text() -> None:
    assert Tokenizer("gpt-4o").cut("one two three four", limit=3) == "one two three"


def test_a_prompt_beyond_a_million_characters_is_estimated() -> None:
    tokenizer = Tokenizer("gpt-4o")
    million = "word " * 200_000

    exact = tokenizer.count_all([million])
    assert exact == pytest.approx(200_000, rel=0.01)
    assert tokenizer.count_all([million, "abcdefg"]) == exact + 2
    assert tokenizer.count_all([million + "abcdefg"]) == exact + 2
