"""The units beside tokens that can have a price, and how each of them is quoted."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from billing.money import PICO_PER_NANO, InvalidMoney, parse_usd, rate_pico_usd
from billing.pricing.rates import InvalidRates, Rate

CHARACTERS = "characters"
INPUT_AUDIO = "input_audio_milliseconds"
OUTPUT_AUDIO = "output_audio_milliseconds"
WEB_SEARCH_CALLS = "web_search_calls"
FILE_SEARCH_CALLS = "file_search_calls"
CODE_INTERPRETER_SESSIONS = "code_interpreter_sessions"  # Of a container with 1 GB.
IMAGE_GENERATION_CALLS = "image_generation_calls"

_MILLISECONDS_PER_MINUTE = 60_000
_IMAGE = re.compile(r"image/([a-z]{1,20})/([1-9][0-9]{1,4}x[1-9][0-9]{1,4})")
_SIZE = re.compile(r"([1-9][0-9]{1,4})(?:x|-x-)([1-9][0-9]{1,4})")
_DEFAULT_QUALITY, _DEFAULT_SIZE, _AUTO = "standard", "1024x1024", "auto"


@dataclass(frozen=True, slots=True)
class Denomination:
    """How a unit is quoted: so many USD `per` what people count in.

    Nothing that is sold comes near `usual_usd`. Beyond `most_usd` the cost of a call could leave
    what a BIGINT holds.
    """

    per: str
    rate: Callable[[str], Rate]
    usual_usd: str
    most_usd: str


def _per_million(usd: str) -> Rate:
    return Rate(rate_pico_usd(usd))


def _each(usd: str) -> Rate:
    nano_usd = parse_usd(usd)
    if nano_usd < 0:
        raise InvalidMoney("A rate is not negative.")
    return Rate(nano_usd * PICO_PER_NANO)


def _per_minute(usd: str) -> Rate:
    return Rate(_each(usd).pico_usd, _MILLISECONDS_PER_MINUTE)


_CHARACTERS = Denomination("1M characters", _per_million, "10000", "5000000")
_MINUTE = Denomination("minute", _per_minute, "10", "300000")
_IMAGE_EACH = Denomination("image", _each, "10", "5000")
_CALL = Denomination("call", _each, "1", "5000")
_SESSION = Denomination("session", _each, "10", "5000")
# The units by name. Images have one for each quality and size: image/high/1024x1024.
DENOMINATIONS: Mapping[str, Denomination] = {
    CHARACTERS: _CHARACTERS,
    INPUT_AUDIO: _MINUTE,
    OUTPUT_AUDIO: _MINUTE,
    WEB_SEARCH_CALLS: _CALL,
    FILE_SEARCH_CALLS: _CALL,
    IMAGE_GENERATION_CALLS: _CALL,
    CODE_INTERPRETER_SESSIONS: _SESSION,
    "code_interpreter_4g_sessions": _SESSION,
    "code_interpreter_16g_sessions": _SESSION,
    "code_interpreter_64g_sessions": _SESSION,
}


def denomination(name: str) -> Denomination | None:
    """How the unit is quoted; None for a name that is no unit."""
    return _IMAGE_EACH if _IMAGE.fullmatch(name) else DENOMINATIONS.get(name)


def code_interpreter_unit(memory_limit: str | None) -> str:
    """The unit of a container with so much memory ("4g"); the smallest is the default."""
    if memory_limit in {None, "1g"}:
        return CODE_INTERPRETER_SESSIONS
    return f"code_interpreter_{memory_limit}_sessions"


def image_unit(quality: str | None, size: str | None) -> str:
    """The unit of an image of this quality and size; raises ValueError for what is no size.

    Where they are not named, the image is what models that are sold by the image make then.
    """
    named_size = _DEFAULT_SIZE if size in {None, _AUTO} else size
    sides = image_sides(named_size)
    if sides is None:
        raise ValueError(f"{size!r} is no size of an image.")
    named_quality = _DEFAULT_QUALITY if quality in {None, _AUTO} else quality
    return f"image/{named_quality}/{sides[0]}x{sides[1]}"


def image_sides(size: str | None) -> tuple[int, int] | None:
    """Width and height of a size, `1024x1536` or `1024-x-1536`; None for what is none."""
    match = _SIZE.fullmatch(size or "")
    return (int(match[1]), int(match[2])) if match else None


def image_parts(unit: str) -> tuple[str, str] | None:
    """Quality and size of the unit of an image; None for any other unit."""
    match = _IMAGE.fullmatch(unit)
    return (match[1], match[2]) if match else None


def unit_rates_from_data(data: object) -> Mapping[str, Rate]:
    """Read USD by unit, as decimal strings, each for what `denomination` says; InvalidRates."""
    if not isinstance(data, Mapping):
        raise InvalidRates("Unit rates are an object.")
    return {name: _unit_rate(name, usd) for name, usd in data.items()}


def _unit_rate(name: object, usd: object) -> Rate:
    quoted = denomination(name) if isinstance(name, str) else None
    if quoted is None:
        raise InvalidRates(f"{name!r} is no unit that we know.")
    if not isinstance(usd, str):
        raise InvalidRates(f"{name} is no decimal string.")
    try:
        return quoted.rate(usd)
    except InvalidMoney as error:
        raise InvalidRates(f"{name}: {error}") from error
