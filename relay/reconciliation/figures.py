"""What upstream says and what we say of a day and a model, and how far apart that is. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from billing.money import PPM

# Fewer are calls around midnight, which one side counts to this day and the other to the next.
LEAST_REQUESTS = 3
LEAST_TOKENS = 1_000
LEAST_NANO_USD = 10_000_000
# The day as a whole has no model.
ALL = ""

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of a day and a model; None: that side does not tell."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano_usd: int | None = None

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            requests=_sum(self.requests, other.requests),
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            cost_nano_usd=_sum(self.cost_nano_usd, other.cost_nano_usd),
        )


NOTHING = Figures(requests=0, input_tokens=0, output_tokens=0, cost_nano_usd=0)


def drifts(ours: Figures, theirs: Figures, *, threshold_ppm: int) -> list[str]:
    """The names of the figures that are further apart than the threshold, of what both sides tell.

    >>> drifts(NOTHING, Figures(requests=2, input_tokens=5000), threshold_ppm=5000)
    ['input_tokens']
    """
    found = []
    for name, least in (
        ("requests", LEAST_REQUESTS),
        ("input_tokens", LEAST_TOKENS),
        ("output_tokens", LEAST_TOKENS),
        ("cost_nano_usd", LEAST_NANO_USD),
    ):
        one, other = getattr(ours, name), getattr(theirs, name)
        if one is None or other is None:
            continue
        apart = abs(one - other)
        if apart >= least and apart * PPM > threshold_ppm * max(one, other):
            found.append(name)
    return found


def named_alike(theirs: Mapping[str, Figures], known: Iterable[str]) -> dict[str, Figures]:
    """Upstream's figures under the names that we called the models by.

    Upstream reports the snapshot that served a call, `gpt-4o-2024-08-06` where `gpt-4o` was asked
    for; snapshots that were asked for by their names stay by themselves.
    """
    models = set(known)
    found: dict[str, Figures] = {}
    for reported, figures in theirs.items():
        plain = _SNAPSHOT.sub("", reported)
        name = plain if reported not in models and plain in models else reported
        found[name] = found[name] + figures if name in found else figures
    return found


def without_costs(figures: Figures) -> Figures:
    return replace(figures, cost_nano_usd=None)


def _sum(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
