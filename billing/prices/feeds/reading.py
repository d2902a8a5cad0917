"""The two formats of price feeds: our own (that of `book`) and LiteLLM's map. Pure.

LiteLLM's price map is an object of models; each has its USD per token, second, character or image
under names such as `input_cost_per_token`, with `_flex`, `_priority`, `_batches` behind those of
other tiers and `_above_272k_tokens` inside those of long prompts. Its figures become exact
decimals, never floats. What it quotes and we cannot sell is left out; a row that we cannot read is
told with its reason, and keeps nobody from the others.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from accounts.errors import Refused
from billing.prices import book as price_book
from billing.prices.book import InvalidPriceBook, PriceRow

OURS: Final = "tollgate"
MAX_MODELS: Final = 20_000

_BUCKETS: Final = {
    "input_cost_per_token": "input_tokens",
    "cache_read_input_token_cost": "cached_input_tokens",
    "cache_creation_input_token_cost": "cache_write_tokens",
    "input_cost_per_audio_token": "input_audio_tokens",
    "cache_read_input_audio_token_cost": "cached_input_audio_tokens",
    "input_cost_per_image_token": "input_image_tokens",
    "cache_read_input_image_token_cost": "cached_input_image_tokens",
    "output_cost_per_token": "output_tokens",
    "output_cost_per_audio_token": "output_audio_tokens",
    "output_cost_per_image_token": "output_image_tokens",
}
_TIERS: Final = {
    "": "default",
    "_batches": "batch",
    "_flex": "flex",
    "_priority": "priority",
    "_ultrafast": "ultrafast",
}
_LONG: Final = re.compile(r"_above_(\d+)k_tokens")
_UNITS: Final = {
    "input_cost_per_character": ("characters", 10**6),
    "input_cost_per_second": ("input_audio_milliseconds", 60),
}
_MODES: Final = {
    "chat": ["chat/completions", "responses"],
    "completion": ["completions"],
    "embedding": ["embeddings"],
    "moderation": ["moderations"],
    "responses": ["responses"],
    "audio_speech": ["audio/speech"],
    "audio_transcription": ["audio/transcriptions", "audio/translations"],
    "image_generation": ["images/edits", "images/generations"],
}
_TOKENS: Final = 10**6


class InvalidFeed(Refused):
    """The feed as a whole cannot be read."""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One model of a feed: its price, or why there is none."""

    model: str
    row: PriceRow | None
    data: Mapping[str, Any]  # As filed, for keeping.
    refused: str = ""


def feed_read(text: str, *, form: str, source: str, today: dt.date) -> list[FeedRow]:
    """The rows of a feed, by model. Raises InvalidFeed."""
    reader = FORMATS.get(form)
    if reader is None:
        raise InvalidFeed(f"A feed is of the format {' or '.join(FORMATS)}.")
    if not source.startswith("https://"):
        raise InvalidFeed("The source of a feed is an https:// URL, for the record.")
    try:
        document = json.loads(text, parse_float=Decimal)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidFeed(f"This is no JSON: {error}") from error
    rows = reader(document, source, today)
    if not 0 < len(rows) <= MAX_MODELS:
        raise InvalidFeed(f"The feed has {len(rows)} models that could be sold.")
    return sorted((_checked(row) for row in rows), key=lambda row: row.model)


def _ours(document: object, source: str, today: dt.date) -> list[dict[str, Any]]:  # noqa: ARG001  A reader's form; the rows name both.
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        raise InvalidFeed("A price book is a list of rows.")
    return document


def _litellm(document: object, source: str, today: dt.date) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        raise InvalidFeed("LiteLLM's price map is an object of models.")
    return [
        _litellm_row(model, entry, source, today)
        for model, entry in document.items()
        if isinstance(entry, dict)
        and entry.get("litellm_provider") == "openai"
        and entry.get("mode") in _MODES
        # Others are sizes of pictures or another vendor's spelling of a model.
        and "/" not in model
    ]


FORMATS: Final[Mapping[str, Callable[[object, str, dt.date], list[dict[str, Any]]]]] = {
    OURS: _ours,
    "litellm": _litellm,
}


def _litellm_row(
    model: str, entry: Mapping[str, Any], source: str, today: dt.date
) -> dict[str, Any]:
    tiers: dict[str, dict[str, str]] = {}
    long_tiers: dict[str, dict[str, str]] = {}
    threshold = None
    units = {}
    for name, value in entry.items():
        if name in _UNITS and not isinstance(value, bool):
            unit, size = _UNITS[name]
            units[unit] = _usd(value, size)
        base = next((base for base in _BUCKETS if name.startswith(base)), None)
        if base is None or value is None:
            continue
        rest = name.removeprefix(base)
        long = _LONG.match(rest)
        if long is not None:
            threshold, rest = int(long[1]) * 1000, rest[long.end() :]
        tier = _TIERS.get(rest)
        if tier is not None:
            into = tiers if long is None else long_tiers
            into.setdefault(tier, {})[_BUCKETS[base]] = _usd(value, _TOKENS)
    endpoints = _endpoints(entry)
    row: dict[str, Any] = {
        "model": model,
        "endpoints": endpoints,
        "context_tokens": entry.get("max_input_tokens"),
        "max_output_tokens": entry.get("max_output_tokens"),
        "tiers": _sellable(tiers, has_output="embeddings" not in endpoints),
        "unit_rates": {} if tiers else units,
        "effective_from": "2020-01-01",
        "date": today.isoformat(),
        "source": source,
    }
    if not price_book.CAPPED_ENDPOINTS.isdisjoint(endpoints):
        row["output_cap_field"] = "max_completion_tokens"
    if threshold is not None and "default" in long_tiers:
        known = {tier: rates for tier, rates in long_tiers.items() if tier in row["tiers"]}
        row["long_context"] = {"above_tokens": threshold, "tiers": known}
    if entry.get("deprecation_date"):
        row["deprecated_on"] = entry["deprecation_date"]
    return row


def _sellable(tiers: Mapping[str, dict[str, str]], *, has_output: bool) -> dict[str, Any]:
    """Tiers whose every token has a price; an embedding has no output to pay for."""
    for rates in tiers.values():
        if not has_output:
            rates.setdefault("output_tokens", "0")
    return {
        tier: rates
        for tier, rates in tiers.items()
        if {"input_tokens", "output_tokens"} <= rates.keys()
    }


def _endpoints(entry: Mapping[str, Any]) -> list[str]:
    named = entry.get("supported_endpoints")
    if isinstance(named, Sequence) and not isinstance(named, str):
        found = {str(path).removeprefix("/v1/") for path in named} & price_book.ENDPOINTS
        if found:
            return sorted(found)
    return _MODES[entry["mode"]]


def _usd(value: object, size: int) -> str:
    """So much for `size` of what the value prices one of, exactly."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return str(value)  # Whatever it is: the check of the row refuses it.
    return f"{(Decimal(value) * size).normalize():f}"


def _checked(data: dict[str, Any]) -> FeedRow:
    model = str(data.get("model"))
    try:
        text = json.dumps([data], default=str)
        [row] = price_book.parse(text)
    except InvalidPriceBook as error:
        return FeedRow(model, None, json.loads(json.dumps(data, default=str)), str(error))
    return FeedRow(model, row, json.loads(text)[0])
