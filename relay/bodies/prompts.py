"""What a model is given to read where it is not a chat: texts, or tokens already. Pure."""

from typing import Any, Final

import msgspec
from msgspec import Raw

from relay.bodies.fields import InvalidRequest, decoder, empty, missing
from relay.metering.tokenizer import estimate_tokens

# OpenAI takes no more; each may fill the model's context, so their number bounds the cost.
MAX_PROMPTS: Final = 2048

_FORMS: Final = tuple(map(decoder, (str, list[str], list[int], list[list[int]])))


class Prompts(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    texts: tuple[str, ...] = ()
    tokens: int = 0
    """Of those that are given as tokens."""

    def estimate(self, model: str) -> int:
        """How many tokens all of them have."""
        return self.tokens + estimate_tokens(model, "\n".join(self.texts))


def prompts_of(raw: Raw | None, *, param: str, may_be_missing: bool = False) -> Prompts:
    """A string, a list of strings, a list of tokens, or a list of such lists.

    Raises InvalidRequest.
    """
    if raw is None or bytes(raw) == b"null":
        if may_be_missing:
            return Prompts(count=1)
        raise missing(param)
    value = _decoded(raw, param)
    if isinstance(value, str):
        return Prompts(count=1, texts=(value,))
    if not value:
        raise empty(param)
    first = value[0]
    if isinstance(first, int):
        return Prompts(count=1, tokens=len(value))
    if len(value) > MAX_PROMPTS:
        raise InvalidRequest(
            f"Invalid value for '{param}': it may have at most {MAX_PROMPTS} items.",
            param=param,
            code="array_above_max_length",
        )
    if isinstance(first, str):
        return Prompts(count=len(value), texts=tuple(value))
    return Prompts(count=len(value), tokens=sum(map(len, value)))


def _decoded(raw: Raw, param: str) -> Any:
    for form in _FORMS:
        try:
            return form.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    raise InvalidRequest(
        f"Invalid value for '{param}': it must be a string, a list of strings, a list of tokens"
        " or a list of lists of tokens.",
        param=param,
        code="invalid_type",
    )
