"""What a feed would change: price by price, and what of it is too much to be true. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from billing.money import PPM, format_usd
from billing.pricing import BUCKETS, PriceTerms, Rate, Rates, Usage, charge

# A slip of the decimal point: no price ever changed so much from one day to the next.
MOST_TIMES = 100
PREVIEW_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class RateChange:
    """One rate before and after, as pico-USD per its unit size; None: there is none."""

    name: str
    before: Rate | None
    after: Rate | None

    @property
    def is_wild(self) -> bool:
        """So much dearer or cheaper (or suddenly free) that somebody must have slipped."""
        if self.before is None or self.after is None:
            return False
        before = self.before.pico_usd * self.after.unit_size
        after = self.after.pico_usd * self.before.unit_size
        return max(before, after) >= MOST_TIMES * min(before, after) and before != after

    def as_text(self) -> str:
        return f"{self.name}: {_text(self.before)} -> {_text(self.after)}"


def rate_changes(before: PriceTerms | None, after: PriceTerms) -> list[RateChange]:
    """Every rate that differs, tier by tier, long prompts and other units included."""
    old = {} if before is None else dict(_rates(before))
    new = dict(_rates(after))
    names = [*new, *(name for name in old if name not in new)]
    return [
        RateChange(name, old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]


def preview(terms: PriceTerms, *, discount_ppm: int = PPM) -> str:
    """What a call of a thousand tokens in and out costs, as people check prices."""
    if not terms.prices_tokens:
        return ""
    usage = Usage(
        input_tokens=PREVIEW_TOKENS,
        output_tokens=PREVIEW_TOKENS,
        prompt_tokens=PREVIEW_TOKENS,
        completion_tokens=PREVIEW_TOKENS,
    )
    rates = terms.rates_for(None, PREVIEW_TOKENS).rates
    cost = charge(usage, rates, discount_ppm).charge_nano_usd
    return f"1K in + 1K out = ${format_usd(cost)}"


def _rates(terms: PriceTerms) -> Iterator[tuple[str, Rate]]:
    yield from _tiers(terms.tiers, "")
    if terms.long_context is not None:
        above = f" above {terms.long_context.above_tokens:,} tokens"
        yield from _tiers(terms.long_context.tiers, above)
    yield from terms.unit_rates.items()


def _tiers(tiers: Mapping[str, Rates], where: str) -> Iterator[tuple[str, Rate]]:
    for tier, rates in tiers.items():
        for bucket in BUCKETS:
            yield f"{tier} {bucket}{where}", rates.of(bucket)
        if rates.call_pico_usd:
            yield f"{tier} call{where}", Rate(rates.call_pico_usd)


def _text(rate: Rate | None) -> str:
    if rate is None:
        return "none"
    per_million = rate.pico_usd * 1000 // rate.unit_size
    return f"{format_usd(per_million)} per 1M"
