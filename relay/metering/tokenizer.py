"""Counts tokens offline, for the few calls whose usage upstream did not tell.

The tables are part of the `bpe-openai` wheel. The count is an estimate: which tokens upstream adds
around the messages is its own affair.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from relay.bodies.completions import strings_in

PIECE_CHARACTERS: Final = 8192
# Text beyond this is sampled, so that no estimate keeps the event loop for more than about 20 ms.
MAX_PIECES: Final = 24
MAX_COUNTED_BYTES: Final = MAX_PIECES * PIECE_CHARACTERS

# What OpenAI's chat format is known to add, and a mid-sized picture in tiles or in low detail.
TOKENS_PER_MESSAGE: Final = 3
TOKENS_PER_REPLY: Final = 3
TOKENS_PER_OPAQUE_PART: Final = 765
TOKENS_PER_LOW_DETAIL_IMAGE: Final = 85

_OLDER_VOCABULARY: Final = re.compile(
    r"gpt-4(?![.\w])|gpt-3|text-embedding|davinci-002|babbage-002"
)
# Of these families it is published which vocabulary they have, and nothing is added to the prompt
# that the request does not show.
_OPENAI_MODEL: Final = re.compile(
    r"(?:openai/)?(?:ft:)?(?:chatgpt-4o|gpt-(?:3[.]?5|4|4o|4[.]1|4[.]5|5(?:[.][0-9]+)?)|o[134])"
    r"(?:[-:](?!.*search).*)?"
)


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


def estimate_tokens(model: str, text: str) -> int:
    """The tokens of a text; of a very long one, of a sample of it in proportion."""
    if not text:
        return 0
    tokenizer = _tokenizer(encoding_of(model))
    text = text.encode("utf-8", "replace").decode()
    starts = range(0, len(text), PIECE_CHARACTERS)
    if len(starts) <= MAX_PIECES:
        return sum(tokenizer.count(text[at : at + PIECE_CHARACTERS]) for at in starts)
    sample = [starts[i * (len(starts) - 1) // MAX_PIECES] for i in range(MAX_PIECES)]
    counted = sum(tokenizer.count(text[at : at + PIECE_CHARACTERS]) for at in sample)
    return -(-counted * len(text) // (MAX_PIECES * PIECE_CHARACTERS))


def encoding_of(model: str) -> str:
    """The vocabulary of a model's family; of an unknown model, the newest."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:")
    return "cl100k_base" if _OLDER_VOCABULARY.match(name) else "o200k_base"


@cache
def _bindings() -> ModuleType:
    # The wheel's Python wrapper parses three vocabularies at its import: 0.5 s and 100 MB that its
    # compiled part, loaded alone, does not need.
    package = find_spec("bpe_openai")
    assert package is not None, "bpe-openai is not installed"
    spec = PathFinder.find_spec("_bindings", package.submodule_search_locations)
    assert spec is not None, "bpe-openai has no compiled part"
    assert spec.loader is not None, "bpe-openai has no compiled part"
    bindings = module_from_spec(spec)
    spec.loader.exec_module(bindings)
    return bindings


@cache
def _tokenizer(encoding: str) -> _Tokenizer:
    tokenizer: _Tokenizer = _bindings().tokenizer_for_encoding(encoding)
    return tokenizer


class _Part(msgspec.Struct, gc=False):
    text: Any = None
    refusal: Any = None
    image_url: Any = None


class _Message(msgspec.Struct, gc=False):
    role: Any = None
    name: Any = None
    content: str | list[_Part] | None = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Prompt(msgspec.Struct, gc=False):
    messages: list[_Message]
    tools: Raw = Raw()
    functions: Raw = Raw()
    response_format: Raw = Raw()


_decode_prompt: Final = msgspec.json.Decoder(_Prompt).decode


def estimate_prompt_tokens(model: str, body: bytes) -> int:
    """The tokens of the messages, tools and answer format of a request that parse_chat accepted."""
    prompt = _decode_prompt(body)
    texts: list[str] = []
    tokens = TOKENS_PER_REPLY
    for message in prompt.messages:
        tokens += TOKENS_PER_MESSAGE + sum(map(_opaque_tokens, _parts(message)))
        texts += _texts(message)
    for raw in (prompt.tools, prompt.functions, prompt.response_format):
        texts.append(bytes(raw).decode("utf-8", "replace"))
    return tokens + estimate_tokens(model, "\n".join(filter(None, texts)))


def tight_prompt_bound(body: bytes, upstream_models: Iterable[str]) -> int:
    """The most tokens of a chat's prompt, closer than one a byte: its texts are counted.

    Where a vocabulary is not known for sure, or the counting would take long, every byte is one.
    """
    models = _countable(body, upstream_models)
    if not models:
        return len(body)
    parts = [part for message in _decode_prompt(body).messages for part in _parts(message)]
    texts = [part.text for part in parts if isinstance(part.text, str)]
    return _bound(body, texts, models)


def tight_texts_bound(body: bytes, texts: Sequence[str], upstream_models: Iterable[str]) -> int:
    """The same for a body in which these texts are what the model reads."""
    models = _countable(body, upstream_models)
    return _bound(body, texts, models) if models else len(body)


def _countable(body: bytes, upstream_models: Iterable[str]) -> set[str]:
    """The models, in lower case; none if a count of this body for them is not to be relied on."""
    models = {model.lower() for model in upstream_models}
    if len(body) > MAX_COUNTED_BYTES or not all(map(_OPENAI_MODEL.fullmatch, models)):
        return set()
    return models


def _bound(body: bytes, texts: Sequence[str], models: Iterable[str]) -> int:
    """All but the texts is a token a byte, which is more than upstream adds around them."""
    tokenizers = {_tokenizer(encoding_of(model)) for model in models}
    tokens = max(sum(map(tokenizer.count, texts)) for tokenizer in tokenizers)
    # A string is never shorter in JSON than it is in UTF-8.
    return len(body) - sum(len(text.encode()) for text in texts) + tokens


def _parts(message: _Message) -> list[_Part]:
    content = message.content
    return content if isinstance(content, list) else [_Part(text=content or "")]


def _texts(message: _Message) -> Iterator[str]:
    """What the model reads of a message: text, and calls of tools without their ids."""
    yield from strings_in([message.role, message.name, message.refusal])
    for part in _parts(message):
        yield from strings_in([part.text, part.refusal])
    yield from strings_in([message.tool_calls, message.function_call])


def _opaque_tokens(part: _Part) -> int:
    if part.text is not None or part.refusal is not None:
        return 0
    image = part.image_url
    is_low = isinstance(image, dict) and image.get("detail") == "low"
    return TOKENS_PER_LOW_DETAIL_IMAGE if is_low else TOKENS_PER_OPAQUE_PART
