"""What would change: filed price by filed price, and what is too much to be true. Pure.

A feed says nothing of what it leaves out: LiteLLM's map knows no fees of tools, for instance. So
its rows are laid over ours, rate by rate, and only our own price book replaces a price whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from billing.money import PPM, format_usd
from billing.pricing import PriceTerms, Usage, charge, denomination
from billing.pricing.rates import CALL_FEE

# A slip of the decimal point: no price ever changed so much from one day to the next.
MOST_TIMES: Final = 100
PREVIEW_TOKENS: Final = 1000

Filed = Mapping[str, Any]  # A row as billing.prices.book files it.
_FILED: Final = (
    "tiers",
    "unit_rates",
    "long_context",
    "context_tokens",
    "max_output_tokens",
    "output_cap_field",
    "endpoints",
)


@dataclass(frozen=True, slots=True)
class RateChange:
    """One filed rate before and after, in USD `per` what it is quoted by; None: there is none."""

    name: str
    before: Decimal | None
    after: Decimal | None
    per: str

    @property
    def is_wild(self) -> bool:
        """So much dearer or cheaper (or suddenly free) that somebody must have slipped."""
        if self.before is None or self.after is None:
            return False
        low, high = sorted((self.before, self.after))
        return high >= MOST_TIMES * low

    def as_text(self) -> str:
        before, after = (
            "none" if usd is None else f"${usd:f}" for usd in (self.before, self.after)
        )
        return f"{self.name}: {before} → {after} per {self.per}"


def filed(price: Any) -> Filed:
    """A stored price as the price book would file it."""
    return {name: getattr(price, name) for name in _FILED}


def laid_over(present: Filed | None, row: Filed) -> dict[str, Any]:
    """The row, with whatever it leaves out as it is now."""
    if present is None:
        return dict(row)
    merged = {**row, "tiers": _tiers_over(present.get("tiers"), row.get("tiers"))}
    merged["unit_rates"] = {**(present.get("unit_rates") or {}), **(row.get("unit_rates") or {})}
    before, after = present.get("long_context"), row.get("long_context")
    if before and after and before["above_tokens"] == after["above_tokens"]:
        merged["long_context"] = {**after, "tiers": _tiers_over(before["tiers"], after["tiers"])}
    elif before and not after:
        merged["long_context"] = before
    for name in ("context_tokens", "max_output_tokens"):
        if merged.get(name) is None:
            merged[name] = present.get(name)
    merged["endpoints"] = sorted({*present["endpoints"], *row["endpoints"]})
    if present.get("output_cap_field") and "output_cap_field" in row:
        merged["output_cap_field"] = present["output_cap_field"]
    return merged


def rate_changes(before: Filed | None, after: Filed) -> list[RateChange]:
    """Every filed rate that differs: of each tier, of long prompts, and of other units."""
    old = {} if before is None else dict(_rates(before))
    new = dict(_rates(after))
    changes = []
    for name in [*new, *(name for name in old if name not in new)]:
        was, is_now = old.get(name), new.get(name)
        if was != is_now:
            [per, *_] = [side[1] for side in (is_now, was) if side is not None]
            change = RateChange(name, was[0] if was else None, is_now[0] if is_now else None, per)
            changes.append(change)
    return changes


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


def _tiers_over(before: Filed | None, after: Filed | None) -> dict[str, dict[str, str]]:
    below, above = before or {}, after or {}
    return {tier: {**below.get(tier, {}), **above.get(tier, {})} for tier in (*below, *above)}


def _rates(row: Filed) -> Iterator[tuple[str, tuple[Decimal, str]]]:
    yield from _tier_rates(row.get("tiers") or {}, "")
    long = row.get("long_context")
    if long:
        yield from _tier_rates(long["tiers"], f" above {long['above_tokens']:,} tokens")
    for unit, usd in (row.get("unit_rates") or {}).items():
        quoted = denomination(unit)
        yield unit, (Decimal(usd), quoted.per if quoted else unit)


def _tier_rates(tiers: Filed, where: str) -> Iterator[tuple[str, tuple[Decimal, str]]]:
    for tier, rates in tiers.items():
        for bucket, usd in rates.items():
            per = "call" if bucket == CALL_FEE else "1M"
            yield f"{tier} {bucket}{where}", (Decimal(usd), per)
