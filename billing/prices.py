"""Setting official prices, one by one; billing.price_book_loading takes a whole book."""

import datetime as dt
import re

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.transactions import durable
from billing.models import Price
from billing.money import InvalidMoney, rate_pico_usd
from billing.periods import period_begin, writers_take_turns
from billing.pricing import DEFAULT_TIER

# The source of prices that the operator set: no price book overwrites them.
OPERATOR = "operator"
# 100 USD per token: whatever a call uses, its cost stays inside a BIGINT.
MAX_RATE_PICO_USD = 100 * 10**12

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


class UnableToSetPrice(Refused):
    """The model id or a rate is not one."""


class UnknownModel(Refused):
    """No price was ever set for the model."""


def price_require(model: str) -> None:
    """Raise UnknownModel for a model that nobody ever priced: most likely a slip of the pen."""
    if not Price.objects.filter(model=model).exists():
        raise UnknownModel(f"There is no price for a model {model!r}.")


@durable
def price_set(
    *,
    model: str,
    input_usd: str,
    output_usd: str,
    cached_usd: str | None = None,
    actor: Actor,
    now: dt.datetime,
) -> Price:
    """Price a model from now on, in USD per 1M tokens, as decimal text.

    These rates are the whole price: further tiers and rates for long prompts that the price book
    had end with it. What is known of the model's limits and endpoints stays.
    """
    if not _MODEL.fullmatch(model):
        raise UnableToSetPrice(f"{model!r} is no model id.")
    rates = {"input_tokens": input_usd, "output_tokens": output_usd}
    if cached_usd is not None:
        rates["cached_input_tokens"] = cached_usd
    _rates_check(rates)
    writers_take_turns(Price)
    present, effective_from, effective_to = period_begin(Price.objects.filter(model=model), now)
    price = _like(present)
    price.model = model
    price.effective_from, price.effective_to = effective_from, effective_to
    price.tiers, price.source = {DEFAULT_TIER: rates}, OPERATOR
    price.created_at = now
    price.save(force_insert=True)
    audit_event_record(
        actor=actor,
        action="price.set",
        subject=model,
        details={"price": price.pk, "effective_from": effective_from.isoformat(), **rates},
    )
    return price


def _like(present: Price | None) -> Price:
    """A price with the limits and endpoints of the model's present one."""
    if present is None:
        return Price(endpoints=["chat/completions"])
    return Price(
        context_tokens=present.context_tokens,
        max_output_tokens=present.max_output_tokens,
        output_cap_field=present.output_cap_field,
        endpoints=present.endpoints,
        deprecated_on=present.deprecated_on,
    )


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
