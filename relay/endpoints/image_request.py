"""What of a request for images decides their price, whatever its body is. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from relay.bodies.fields import COMMON, NAMESPACED, Decoders, InvalidRequest, decoder, in_range

MAX_IMAGES: Final = 10
MAX_PARTIAL_IMAGES: Final = 3
# What upstream takes where no model is named, and where something is asked for that only the
# newer models have. It is then named, so that what is priced is what is called.
DEFAULT_MODEL: Final = "dall-e-2"
DEFAULT_NEWER_MODEL: Final = "gpt-image-1.5"
NEWER_ONLY: Final = (
    "background",
    "moderation",
    "output_compression",
    "output_format",
    "partial_images",
    "stream",
)

METERED: Final[Decoders] = {
    **COMMON,
    "prompt": decoder(str | None),
    "n": decoder(int | None),
    "size": decoder(str | None),
    "quality": decoder(str | None),
    "partial_images": decoder(int | None),
    "response_format": decoder(str | None),
    "background": decoder(Any),
    "moderation": decoder(Any),
    "output_compression": decoder(Any),
    "output_format": decoder(Any),
}


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    count: int
    size: str | None
    quality: str | None
    partial_images: int
    """Of each picture, while it is made."""
    prompt: str
    inputs: int = 0
    """How many pictures are sent with the request."""

    @property
    def prompt_bytes(self) -> int:
        return len(self.prompt.encode("utf-8", "surrogatepass"))


def pictures_of(values: Mapping[str, Any], *, inputs: int = 0) -> Pictures:
    """Raises InvalidRequest."""
    stream = values.get("stream") is True
    partial = in_range(values, "partial_images", MAX_PARTIAL_IMAGES, least=0) or 0
    return Pictures(
        count=in_range(values, "n", MAX_IMAGES) or 1,
        size=values.get("size") or None,
        quality=values.get("quality") or None,
        partial_images=partial if stream else 0,
        prompt=values.get("prompt") or "",
        inputs=inputs,
    )


def default_generation_model(values: Mapping[str, Any]) -> str:
    wants_newer = any(values.get(name) is not None for name in NEWER_ONLY)
    return DEFAULT_NEWER_MODEL if wants_newer else DEFAULT_MODEL


# --- Forms ---------------------------------------------------------------------------------------

_TRUE, _FALSE = "true", "false"


def _text(text: str) -> str | None:
    return text or None


def _flag(text: str) -> bool | None:
    """The SDKs write `true`, other clients `True` or `1`, and upstream takes them all."""
    lower = text.lower()
    if lower in {_TRUE, "1"}:
        return True
    if lower in {_FALSE, "0", ""}:
        return False
    raise ValueError("it must be true or false")


def _number(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004  Below 10**9.
        raise ValueError("it must be a whole number")
    return int(text) if text else None


FORM_FIELDS: Final[Mapping[str, Callable[[str], Any]]] = {
    "model": _text,
    "prompt": _text,
    "n": _number,
    "size": _text,
    "quality": _text,
    "stream": _flag,
    "partial_images": _number,
    "response_format": _text,
    **dict.fromkeys(NAMESPACED, _text),
}


def form_value(name: str, text: str) -> Any:
    """The value of a field of a form. Raises InvalidRequest."""
    try:
        return FORM_FIELDS[name](text)
    except ValueError as error:
        raise InvalidRequest(
            f"Invalid value for '{name}': {error}.", param=name, code="invalid_type"
        ) from None
