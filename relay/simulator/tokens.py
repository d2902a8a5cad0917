"""Tokens as OpenAI counts them, without a network."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

# The tokenizer refuses more than 200,000 tokens at once; a character has at most four bytes, and a
# token at least one.
_CHARACTERS_AT_ONCE = 50_000
_CHARACTERS_EXACT = 1_000_000
_CHARACTERS_A_TOKEN = 4

# GPT-4 and older, not GPT-4o, GPT-4.1 or GPT-4.5.
_CL100K = re.compile(r"(ft:)?(gpt-4(?![.o\d])|gpt-3|gpt-35|text-|davinci|babbage)")


class _Encoding(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...

    def decode_tokens_bytes(self, tokens: list[int]) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Token:
    number: int
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Piece:
    """The fewest tokens that are whole characters: what one streamed chunk can carry."""

    text: str
    tokens: tuple[Token, ...]


@lru_cache(maxsize=2)
def _encoding(name: str) -> _Encoding:
    # The vocabularies take half a second and 80 MB, which a process that simulates nothing saves.
    import bpe_openai

    encoding: _Encoding = bpe_openai.get_encoding(name)
    return encoding


class Tokenizer:
    def __init__(self, model: str) -> None:
        self.encoding_name = "cl100k_base" if _CL100K.match(model) else "o200k_base"
        self._encoding = _encoding(self.encoding_name)

    def count(self, text: str) -> int:
        return len(self._numbers(text))

    def count_all(self, texts: Iterable[str]) -> int:
        """Exact for the first million characters; beyond that at four characters a token."""
        exact_left, total, beyond = _CHARACTERS_EXACT, 0, 0
        for text in texts:
            total += self.count(text[:exact_left])
            beyond += max(0, len(text) - exact_left)
            exact_left = max(0, exact_left - len(text))
        return total - (-beyond // _CHARACTERS_A_TOKEN)

    def _numbers(self, text: str) -> list[int]:
        """Long texts may have a token too many at each joint of 50,000 characters."""
        numbers: list[int] = []
        for start in range(0, len(text), _CHARACTERS_AT_ONCE):
            numbers += self._encoding.encode_ordinary(text[start : start + _CHARACTERS_AT_ONCE])
        return numbers

    def tokens(self, text: str) -> list[Token]:
        numbers = self._numbers(text)
        return [Token(*pair) for pair in zip(numbers, self.bytes_of(numbers), strict=True)]

    def bytes_of(self, numbers: list[int]) -> list[bytes]:
        return self._encoding.decode_tokens_bytes(numbers)

    def pieces(self, text: str) -> Iterator[Piece]:
        held: list[Token] = []
        for token in self.tokens(text):
            held.append(token)
            try:
                whole = b"".join(part.data for part in held).decode()
            except UnicodeDecodeError:
                continue
            yield Piece(whole, tuple(held))
            held = []

    def cut(self, text: str, *, limit: int) -> str:
        """The longest beginning of the text, in whole tokens and characters, within the limit.

        A beginning may need more tokens than it had as a part of the text: hence the loop.
        """
        pieces = list(self.pieces(text))
        used = 0
        for kept, piece in enumerate(pieces):  # noqa: B007 - the index is needed after the loop.
            used += len(piece.tokens)
            if used > limit:
                break
        else:
            return text
        while self.count(short := "".join(piece.text for piece in pieces[:kept])) > limit:
            kept -= 1
        return short
