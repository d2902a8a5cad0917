"""What a call costs an organization right now, from memory: prices and discounts, read whole.

A catalog never changes; a change of any price or discount is a new catalog. Rows that begin later
are in it from the start, so a dated change happens on time without anybody loading anything.
"""

import datetime as dt
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
from django.conf import settings
from msgspec import Struct
from psycopg.rows import dict_row

from billing.money import parse_fraction_ppm
from billing.pricing import (
    InvalidRates,
    LongContext,
    PriceTerms,
    tiers_from_data,
    unit_rates_from_data,
)

log = logging.getLogger(__name__)

PRICE_COLUMNS = (
    "id",
    "model",
    "tiers",
    "unit_rates",
    "long_context",
    "context_tokens",
    "max_output_tokens",
    "output_cap_field",
)
# Rows that just ended stay in: the clock of this machine may be a little behind that of the one
# which ended them, and between two rows a model would have no price.
_PERIOD = """
    extract(epoch FROM effective_from)::float8 AS starts_at,
    coalesce(extract(epoch FROM effective_to), 'infinity')::float8 AS ends_at
"""
_STILL_NEEDED = "(effective_to IS NULL OR effective_to > now() - interval '1 hour')"
_VERSION = "SELECT version FROM accounts_configurationversion WHERE topic = 'prices'"
_PRICES = (
    f"SELECT {', '.join(PRICE_COLUMNS)}, endpoints, deprecated_on, {_PERIOD}"  # noqa: S608  Constants of this file.
    f" FROM billing_price WHERE {_STILL_NEEDED} ORDER BY model, effective_from DESC"
)
_DISCOUNTS = (
    "SELECT coalesce(to_jsonb(organization_id), to_jsonb(plan.slug)) AS owner, model, fraction_ppm,"  # noqa: S608  Constants of this file.
    f" {_PERIOD} FROM billing_discount LEFT JOIN billing_plan plan ON plan.id = plan_id"
    f" WHERE {_STILL_NEEDED} ORDER BY effective_from DESC"
)

_PLANS = (
    "SELECT organization_id, slug FROM billing_plansubscription"
    " JOIN billing_plan ON billing_plan.id = plan_id"
)

MAX_QUOTES = 10_000  # Of models and organizations that called lately.
Value = TypeVar("Value")


class Dated(NamedTuple, Generic[Value]):
    """A value in force from `starts_at` until before `ends_at` (Unix time)."""

    starts_at: float
    ends_at: float
    value: Value


class Quote(Struct, frozen=True):
    """The terms that a call is held and charged on, frozen when it is admitted."""

    terms: PriceTerms
    discount_ppm: int


class _CurrentQuote(NamedTuple):
    """A quote, and between which two changes it is the one."""

    quote: Quote
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Offer:
    """A model's price as filed: its terms and the endpoints that it can be called at."""

    terms: PriceTerms
    endpoints: frozenset[str]
    deprecated_on: dt.date | None = None


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model on sale; `priced_at` is when its present price began, in Unix time."""

    model: str
    endpoints: frozenset[str]
    priced_at: int
    deprecated_on: dt.date | None = None  # When upstream retires it, or did.


# An organization, a plan's slug or (None) everybody; and a model ("": all of them).
DiscountScope = tuple[int | str | None, str]


class Catalog:
    """Prices and discounts; each model and each scope has its rows newest first."""

    def __init__(
        self,
        *,
        offers: Mapping[str, Sequence[Dated[Offer]]],
        discounts: Mapping[DiscountScope, Sequence[Dated[int]]],
        default_discount_ppm: int,
        plans: Mapping[int, str] | None = None,
        version: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._offers = offers
        self._discounts = discounts
        self._default_discount_ppm = default_discount_ppm
        self._plans = plans or {}  # By organization.
        self._clock = clock
        self._quotes: dict[tuple[str, int], _CurrentQuote] = {}
        # Of the topic `prices`, read before the rows: never newer than what the catalog knows.
        self.version = version

    def quote(self, model: str, organization_id: int) -> Quote | None:
        """The price and discount in force; None if the model has no price, and thus no call."""
        now = self._clock()
        known = self._quotes.get((model, organization_id))
        if known is not None and known.since <= now < known.until:
            return known.quote
        offer = _in_force(self._offers.get(model, ()), now)
        if offer is None:
            return None
        quote = Quote(offer.value.terms, self._discount_ppm(model, organization_id, now))
        if len(self._quotes) >= MAX_QUOTES:
            self._quotes.clear()
        until = self._next_change(model, organization_id, now)
        self._quotes[model, organization_id] = _CurrentQuote(quote, now, until)
        return quote

    def is_listed(self, model: str, endpoint: str) -> bool:
        """Whether the price in force says that the model can be called at this endpoint."""
        offer = _in_force(self._offers.get(model, ()), self._clock())
        return offer is not None and endpoint in offer.value.endpoints

    def models(self) -> list[PricedModel]:
        """The models on sale, by name."""
        now = self._clock()
        current = [_in_force(rows, now) for _, rows in sorted(self._offers.items())]
        return [
            PricedModel(
                row.value.terms.model,
                row.value.endpoints,
                int(row.starts_at),
                row.value.deprecated_on,
            )
            for row in current
            if row is not None
        ]

    def _discount_ppm(self, model: str, organization_id: int, now: float) -> int:
        """The most specific discount: one organization's word on one model beats all."""
        for rows in self._discounts_of(model, organization_id):
            row = _in_force(rows, now)
            if row is not None:
                return row.value
        return self._default_discount_ppm

    def _discounts_of(self, model: str, organization_id: int) -> Iterator[Sequence[Dated[int]]]:
        for scope in discount_scopes(model, organization_id, self._plans.get(organization_id)):
            yield self._discounts.get(scope, ())

    def _next_change(self, model: str, organization_id: int, now: float) -> float:
        """When a row that counts for a call begins or ends next."""
        rows: list[Dated[Any]] = [*self._offers.get(model, ())]
        for discounts in self._discounts_of(model, organization_id):
            rows += discounts
        times = [time for row in rows for time in (row.starts_at, row.ends_at)]
        return min((time for time in times if time > now), default=math.inf)


def discount_scopes(model: str, organization_id: int, plan: str | None) -> list[DiscountScope]:
    """Whose discounts count for an organization's calls, the most specific first."""
    owners = (organization_id, None) if plan is None else (organization_id, plan, None)
    return [(owner, name) for owner in owners for name in (model, "")]


def default_discount_ppm() -> int:
    """The setting's fraction to pay; the operator may have set a surcharge there."""
    return parse_fraction_ppm(settings.DEFAULT_DISCOUNT, allow_surcharge=True)


async def catalog_load(connection: psycopg.AsyncConnection[Any]) -> Catalog:
    """Read all prices and discounts.

    A price that cannot be computed with is left out, loudly: its model is not sold until somebody
    repairs it, and all others are.
    """
    cursor = connection.cursor(row_factory=dict_row)
    version = await (await cursor.execute(_VERSION)).fetchone()
    assert version is not None, "the migrations insert the topic"
    offers: dict[str, list[Dated[Offer]]] = {}
    for row in await (await cursor.execute(_PRICES)).fetchall():
        try:
            endpoints = frozenset(row["endpoints"])
            offer = Offer(price_terms(row), endpoints, row["deprecated_on"])
        except InvalidRates as error:
            log.error("Price %s of %s is left out: %s", row["id"], row["model"], error)  # noqa: TRY400  The row is wrong, not the code.
            continue
        dated = Dated(row["starts_at"], row["ends_at"], offer)
        offers.setdefault(row["model"], []).append(dated)
    discounts: dict[DiscountScope, list[Dated[int]]] = {}
    for row in await (await cursor.execute(_DISCOUNTS)).fetchall():
        scope = row["owner"], row["model"]
        discount = Dated(row["starts_at"], row["ends_at"], row["fraction_ppm"])
        discounts.setdefault(scope, []).append(discount)
    plans = await (await cursor.execute(_PLANS)).fetchall()
    return Catalog(
        offers=offers,
        discounts=discounts,
        plans={row["organization_id"]: row["slug"] for row in plans},
        default_discount_ppm=default_discount_ppm(),
        version=version["version"],
    )


def price_terms(columns: Mapping[str, Any]) -> PriceTerms:
    """A stored price as the arithmetic takes it; raises InvalidRates."""
    return PriceTerms(
        price_id=columns["id"],
        model=columns["model"],
        tiers=tiers_from_data(columns["tiers"]),
        unit_rates=unit_rates_from_data(columns["unit_rates"]),
        long_context=LongContext.from_data(columns["long_context"]),
        context_tokens=columns["context_tokens"],
        max_output_tokens=columns["max_output_tokens"],
        output_cap_field=columns["output_cap_field"],
    )


def _in_force(rows: Sequence[Dated[Value]], now: float) -> Dated[Value] | None:
    for row in rows:
        if row.starts_at <= now < row.ends_at:
            return row
    return None
