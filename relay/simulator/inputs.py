"""Texts as older endpoints take them: a string, strings, a list of tokens, or lists of tokens."""

from dataclasses import dataclass

from relay.simulator.errors import bad_request
from relay.simulator.tokens import Tokenizer

TextInput = str | list[str | int | list[int]]


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    tokens: int


def texts_of(given: TextInput, *, tokenizer: Tokenizer, param: str) -> list[Text]:
    """The texts, each with its number of tokens. Raises Refusal."""
    if isinstance(given, str):
        return [Text(given, tokenizer.count_all([given]))]
    strings = [part for part in given if isinstance(part, str)]
    numbers = [part for part in given if isinstance(part, int)]
    lists = [part for part in given if isinstance(part, list)]
    if not given or len(given) not in (len(strings), len(numbers), len(lists)):
        raise bad_request(f"Invalid '{param}': a list of one kind is expected.", param=param)
    if numbers:
        lists = [numbers]
    if strings:
        return [Text(text, tokenizer.count_all([text])) for text in strings]
    return [Text(_decoded(part, tokenizer=tokenizer, param=param), len(part)) for part in lists]


def _decoded(numbers: list[int], *, tokenizer: Tokenizer, param: str) -> str:
    message = f"Invalid '{param}': there is no such token."
    if min(numbers, default=0) < 0:
        raise bad_request(message, param=param)
    try:
        parts = tokenizer.bytes_of(numbers)
    except (KeyError, OverflowError) as error:
        raise bad_request(message, param=param) from error
    return b"".join(parts).decode(errors="replace")
