"""The official prices that ship with the product: reviewed data, read strictly.

Each row of openai.json names where its numbers were read and on which date. Rates are USD per 1M
tokens as decimal strings, by the bucket of `billing.pricing.Usage` that they price; a rate that is
not there falls back as `Rates.from_data` says. `unit_rates` are USD for what each unit is quoted
by (`billing.pricing.DENOMINATIONS`). A model that is sold by them alone has no tiers; one that is
sold by tokens may have them too, for replies without usage and for holds: a reply is billed by the
one or by the other. The fees of tools are those of the pricing page.

`effective_from` is not when a price came into force (few sources say) but a date before any call,
so that every call finds one; a later change of price is a second row. Endpoints are upstream's
paths behind `/v1/`. `output_cap_field` is the field that takes an output limit where the client
set none: reasoning models refuse the older `max_tokens`.

Left out on purpose: prices of endpoints that are not relayed (realtime, videos, gpt-6-luna's
"decisions"), image models in batches, regional surcharges, and gpt-4-32k, which is not offered.
"""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from billing.pricing import (
    BUCKETS,
    DEFAULT_TIER,
    InvalidRates,
    LongContext,
    OutputCapField,
    PriceTerms,
    Rates,
    denomination,
    tiers_from_data,
    unit_rates_from_data,
)

FILE = Path(__file__).with_name("openai.json")

ENDPOINTS = frozenset(
    {
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "chat/completions",
        "completions",
        "embeddings",
        "images/edits",
        "images/generations",
        "images/variations",
        "moderations",
        "responses",
    }
)
CAPPED_ENDPOINTS = frozenset({"chat/completions", "completions"})
DEARER_TIERS = frozenset({"priority", "ultrafast"})
CHEAPER_TIERS = frozenset({"batch", "flex"})

# A slip of the decimal point should not pass: the dearest model sold costs 600.
_MAX_PICO_USD_PER_TOKEN = 10_000 * 10**6
_MAX_PICO_USD_PER_CALL = 10**12

_REQUIRED = frozenset(
    {
        "context_tokens",
        "date",
        "effective_from",
        "endpoints",
        "max_output_tokens",
        "model",
        "source",
        "tiers",
    }
)
_OPTIONAL = frozenset({"deprecated_on", "long_context", "note", "output_cap_field", "unit_rates"})
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


class InvalidPriceBook(ValueError):
    """The data breaks a rule; the message names the model and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """One model's price from `effective_from` on; the rates are the data as filed."""

    model: str
    endpoints: tuple[str, ...]
    tiers: Mapping[str, Mapping[str, str]]
    unit_rates: Mapping[str, str]
    long_context: Mapping[str, Any] | None
    context_tokens: int | None
    max_output_tokens: int | None
    output_cap_field: OutputCapField
    effective_from: dt.datetime
    deprecated_on: dt.date | None
    source: str
    date: dt.date
    note: str

    def terms(self, *, price_id: int) -> PriceTerms:
        return PriceTerms(
            price_id=price_id,
            model=self.model,
            tiers=tiers_from_data(self.tiers),
            unit_rates=unit_rates_from_data(self.unit_rates),
            long_context=LongContext.from_data(self.long_context),
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            output_cap_field=self.output_cap_field,
        )


def load() -> list[PriceRow]:
    """Read and check the price book; raise InvalidPriceBook rather than skip a row."""
    return parse(FILE.read_text(encoding="utf-8"))


def parse(text: str) -> list[PriceRow]:
    try:
        rows = json.loads(text, object_pairs_hook=_unique_keys, parse_float=_refuse_float)
    except json.JSONDecodeError as error:
        raise InvalidPriceBook(f"This is no JSON: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise InvalidPriceBook("A price book is a list of rows.")
    parsed = [_row(row) for row in rows]
    keys = [(row.model, row.effective_from) for row in parsed]
    if keys != sorted(set(keys)):
        raise InvalidPriceBook("Rows are sorted by model and date, and none appears twice.")
    return parsed


def _row(row: object) -> PriceRow:
    if not isinstance(row, dict) or not isinstance(row.get("model"), str):
        raise InvalidPriceBook("A row is an object with a model.")
    try:
        if not _MODEL.fullmatch(row["model"]):
            raise InvalidPriceBook("This is no model id.")
        parsed = _parsed(row)
        _check_rates(parsed)
    except ValueError as error:
        raise InvalidPriceBook(f"{row['model']}: {error}") from error
    return parsed


def _parsed(row: dict[str, Any]) -> PriceRow:
    if missing := _REQUIRED - row.keys():
        raise InvalidPriceBook(f"{', '.join(sorted(missing))} missing.")
    if unknown := row.keys() - _REQUIRED - _OPTIONAL:
        raise InvalidPriceBook(f"{', '.join(sorted(unknown))} unknown.")
    effective_from = dt.datetime.combine(_date(row["effective_from"]), dt.time(), dt.UTC)
    return PriceRow(
        model=row["model"],
        endpoints=_endpoints(row["endpoints"]),
        tiers=_object(row["tiers"]),
        unit_rates=_object(row.get("unit_rates", {})),
        long_context=None if row.get("long_context") is None else _object(row["long_context"]),
        context_tokens=_limit(row["context_tokens"]),
        max_output_tokens=_limit(row["max_output_tokens"]),
        output_cap_field=_output_cap_field(row),
        effective_from=effective_from,
        deprecated_on=None if row.get("deprecated_on") is None else _date(row["deprecated_on"]),
        source=_text(row["source"], starting_with="https://"),
        date=_date(row["date"]),
        note=_text(row.get("note", "")),
    )


def _output_cap_field(row: Mapping[str, Any]) -> OutputCapField:
    """Rows name the field exactly where an endpoint has one; the rest never uses it."""
    if CAPPED_ENDPOINTS.isdisjoint(row["endpoints"]):
        if "output_cap_field" in row:
            raise InvalidPriceBook("output_cap_field has no endpoint to be used at.")
        return "max_completion_tokens"
    if row.get("output_cap_field") not in get_args(OutputCapField):
        raise InvalidPriceBook("output_cap_field is needed.")
    return cast("OutputCapField", row["output_cap_field"])


def _check_rates(row: PriceRow) -> None:
    terms = row.terms(price_id=0)
    _check_units(terms)
    if not terms.prices_tokens:
        return
    _check_tiers(terms.tiers)
    if terms.long_context is None:
        return
    _check_tiers(terms.long_context.tiers)
    for tier, rates in terms.long_context.tiers.items():
        if tier not in terms.tiers:
            raise InvalidRates(f"{tier} has rates for long prompts only.")
        _check_order(terms.tiers[tier], rates, what=f"{tier} and the same for long prompts")


def _check_units(terms: PriceTerms) -> None:
    for name, rate in terms.unit_rates.items():
        quoted = denomination(name)
        assert quoted is not None, "what has a rate is a unit"
        if rate.pico_usd > quoted.rate(quoted.usual_usd).pico_usd:
            raise InvalidRates(f"{name} costs more than anything that is sold.")


def _check_tiers(tiers: Mapping[str, Rates]) -> None:
    default = tiers[DEFAULT_TIER]
    for tier, rates in tiers.items():
        if any(rates.of(bucket).pico_usd > _MAX_PICO_USD_PER_TOKEN for bucket in BUCKETS):
            raise InvalidRates(f"{tier} costs more than anything that is sold.")
        if rates.call_pico_usd > _MAX_PICO_USD_PER_CALL:
            raise InvalidRates(f"{tier} has a fee per call that nobody asks for.")
        for kind in ("input", "input_audio", "input_image"):
            cached, fresh = rates.of(f"cached_{kind}_tokens"), rates.of(f"{kind}_tokens")
            if cached.pico_usd > fresh.pico_usd:
                raise InvalidRates(f"{tier} asks more for cached {kind} than for fresh.")
        if tier in CHEAPER_TIERS:
            _check_order(rates, default, what=f"{tier} and {DEFAULT_TIER}")
        elif tier in DEARER_TIERS:
            _check_order(default, rates, what=f"{DEFAULT_TIER} and {tier}")
        elif tier != DEFAULT_TIER:
            raise InvalidRates(f"{tier} is no tier that we know.")


def _check_order(cheaper: Rates, dearer: Rates, *, what: str) -> None:
    # Only these two are filed for every tier; a cached rate may have fallen back to a dearer one.
    for bucket in ("input_tokens", "output_tokens"):
        if cheaper.of(bucket).pico_usd > dearer.of(bucket).pico_usd:
            raise InvalidRates(f"{what} are the wrong way round for {bucket}.")


def _endpoints(value: object) -> tuple[str, ...]:
    known = sorted(name for name in ENDPOINTS if isinstance(value, list) and name in value)
    if not known or known != value:
        raise InvalidPriceBook("endpoints are known, sorted and at least one.")
    return tuple(known)


def _limit(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidPriceBook("Token limits are whole numbers or null.")
    return value


def _text(value: object, *, starting_with: str = "") -> str:
    if not isinstance(value, str) or not value.startswith(starting_with):
        raise InvalidPriceBook(f"source and note are text, source begins with {starting_with!r}.")
    return value


def _date(value: object) -> dt.date:
    if not isinstance(value, str):
        raise InvalidPriceBook("A date is a string.")
    return dt.date.fromisoformat(value)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidPriceBook("tiers, unit_rates and long_context are objects.")
    return value


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise InvalidPriceBook("A key appears twice.")
    return keys


def _refuse_float(number: str) -> None:
    raise InvalidPriceBook(f"{number} has to be a string: as a number it would be rounded.")
