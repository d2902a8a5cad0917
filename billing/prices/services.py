"""Setting official prices, one by one; billing.prices.book_loading takes a whole book."""

import datetime as dt
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TypedDict, Unpack

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable
from billing.models import Price
from billing.money import InvalidMoney, rate_pico_usd
from billing.prices.book import ENDPOINTS
from billing.prices.changes import MOST_TIMES, Filed, filed, rate_changes
from billing.prices.periods import period_begin, writers_take_turns
from billing.pricing import (
    CHARACTERS,
    DEFAULT_TIER,
    DENOMINATIONS,
    INPUT_AUDIO,
    OUTPUT_AUDIO,
    InvalidRates,
    denomination,
    unit_rates_from_data,
)

# The source of prices that the operator set: no price book overwrites them.
OPERATOR = "operator"
# 100 USD per token: whatever a call uses, its cost stays inside a BIGINT.
MAX_RATE_PICO_USD = 100 * 10**12

# Where a model that is new can be called, by what it is sold by. Whether it chats or embeds, tokens
# do not tell: upstream refuses it where it does not, and that costs nothing.
_TEXTS = frozenset({"chat/completions", "completions", "embeddings", "moderations", "responses"})
_SPEECH = frozenset({"audio/speech"})
_TRANSCRIPTS = frozenset({"audio/transcriptions", "audio/translations"})
_IMAGES = frozenset({"images/edits", "images/generations", "images/variations"})
_ENDPOINTS = {CHARACTERS: _SPEECH, OUTPUT_AUDIO: _SPEECH, INPUT_AUDIO: _TRANSCRIPTS}
_IMAGE = "image/"

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


class UnableToSetPrice(Refused):
    """The model id or a rate is not one."""


class UnknownModel(Refused):
    """No price was ever set for the model."""


def price_require(model: str) -> None:
    """Raise UnknownModel for a model that nobody ever priced: most likely a slip of the pen."""
    if not Price.objects.filter(model=model).exists():
        raise UnknownModel(f"There is no price for a model {model!r}.")


class TokenUsd(TypedDict, total=False):
    """USD per 1M tokens, as decimal text."""

    input_usd: str | None
    output_usd: str | None
    cached_usd: str | None


@durable
def price_set(
    *,
    model: str,
    unit_usd: Mapping[str, str] | None = None,
    endpoints: Collection[str] = (),
    sure: bool = False,
    actor: Actor,
    now: dt.datetime,
    **token_usd: Unpack[TokenUsd],
) -> Price:
    """Price a model from now on: its tokens, other units (USD for what each is quoted by), or both.

    This is the whole price: further tiers, rates for long prompts and units that the price book
    had end with it. What is known of the model's limits stays, and of its endpoints unless others
    are given. A rate a hundred times off the present one is refused, unless the operator is sure.
    """
    if not _MODEL.fullmatch(model):
        raise UnableToSetPrice(f"{model!r} is no model id.")
    rates, unit_rates = _token_rates(token_usd), dict(unit_usd or {})
    _units_check(unit_rates)
    if not rates and not unit_rates:
        raise UnableToSetPrice("A price is one of input and output, or of other units.")
    if unknown := set(endpoints) - ENDPOINTS:
        raise UnableToSetPrice(f"There is no endpoint {min(unknown)!r} that has prices.")
    writers_take_turns(Price)
    present, effective_from, effective_to = period_begin(Price.objects.filter(model=model), now)
    price = _like(present) if present else Price()
    price.endpoints = sorted(endpoints) or price.endpoints or _endpoints(rates, unit_rates)
    price.model = model
    price.effective_from, price.effective_to = effective_from, effective_to
    price.tiers = {DEFAULT_TIER: rates} if rates else {}
    price.unit_rates, price.source = unit_rates, OPERATOR
    if present and not sure:
        _slip_check(filed(present), filed(price))
    price.created_at = now
    price.save(force_insert=True)
    audit_event_record(
        actor=actor,
        action="price.set",
        subject=model,
        details={
            "price": price.pk,
            "effective_from": effective_from.isoformat(),
            **rates,
            **unit_rates,
        },
    )
    return price


def unit_usd_from_text(pairs: Iterable[str]) -> dict[str, str]:
    """Read prices written as NAME=USD, each name once; the names are checked by price_set."""
    prices: dict[str, str] = {}
    for pair in pairs:
        name, equals, usd = (part.strip() for part in pair.partition("="))
        if not name or not equals or not usd:
            raise UnableToSetPrice(f"{pair!r} is no NAME=USD.")
        if name in prices:
            raise UnableToSetPrice(f"{name} has two prices.")
        prices[name] = usd
    return prices


def _slip_check(before: Filed, after: Filed) -> None:
    """Somebody typed USD per token, or per 1K, into a field for USD per 1M."""
    wild = [change.as_text() for change in rate_changes(before, after) if change.is_wild]
    if wild:
        raise UnableToSetPrice(
            f"A change by {MOST_TIMES} times or more has to be meant: {'; '.join(wild)}"
        )


def _like(present: Price) -> Price:
    """A price with the limits and endpoints of the model's present one."""
    return Price(
        context_tokens=present.context_tokens,
        max_output_tokens=present.max_output_tokens,
        output_cap_field=present.output_cap_field,
        endpoints=present.endpoints,
        deprecated_on=present.deprecated_on,
    )


def _endpoints(rates: Mapping[str, str], unit_rates: Mapping[str, str]) -> list[str]:
    """Where a model with such a price can be called, if nothing else is known of it."""
    found = set(_TEXTS) if rates else set()
    for name in unit_rates:
        found |= _IMAGES if name.startswith(_IMAGE) else _ENDPOINTS.get(name, frozenset())
    if not found:
        raise UnableToSetPrice("A new model has a price of input and output beside that of tools.")
    return sorted(found)


def _token_rates(usd: TokenUsd) -> dict[str, str]:
    """The rates that are given, checked: of input and output both, or none at all."""
    named = {
        "input_tokens": usd.get("input_usd"),
        "output_tokens": usd.get("output_usd"),
        "cached_input_tokens": usd.get("cached_usd"),
    }
    rates = {name: rate for name, rate in named.items() if rate is not None}
    if rates and not {"input_tokens", "output_tokens"} <= rates.keys():
        raise UnableToSetPrice("Input and output have a price each, or neither has one.")
    if rates:
        _rates_check(rates)
    return rates


def _units_check(unit_rates: Mapping[str, str]) -> None:
    try:
        rates = unit_rates_from_data(unit_rates)
    except InvalidRates as error:
        known = ", ".join(DENOMINATIONS)
        hint = "" if _all_known(unit_rates) else f" Units: {known}, image/QUALITY/WIDTHxHEIGHT."
        raise UnableToSetPrice(f"{error}{hint}") from error
    for name, rate in rates.items():
        quoted = denomination(name)
        assert quoted is not None, "what has a rate is a unit"
        if rate.pico_usd > quoted.rate(quoted.most_usd).pico_usd:
            usd = unit_rates[name]
            raise UnableToSetPrice(f"{name}: {usd} USD per {quoted.per} is more than we can count.")


def _all_known(names: Iterable[str]) -> bool:
    return all(denomination(name) is not None for name in names)


def _rates_check(rates: dict[str, str]) -> None:
    picos = {}
    for bucket, rate in rates.items():
        try:
            picos[bucket] = rate_pico_usd(rate)
        except InvalidMoney as error:
            raise UnableToSetPrice(f"{bucket}: {error}") from error
        if picos[bucket] > MAX_RATE_PICO_USD:
            raise UnableToSetPrice(f"{bucket}: {rate} USD per 1M tokens is more than we can count.")
    if picos.get("cached_input_tokens", 0) > picos["input_tokens"]:
        raise UnableToSetPrice("Cached input costs more than fresh input.")
