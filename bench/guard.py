"""A guard against accidents: the hot path must not cost twice what was committed, beside nginx."""

import json
from collections.abc import Mapping
from pathlib import Path

from bench.plans import Quick
from bench.quick import lines, quick

COMMITTED = Path(__file__).with_name("committed.json")
MOST = 2.0  # Times the committed ratio. A busy machine makes less of a difference.
ROUNDS, SECONDS = 3, 1.5


def guard(*, commit: bool = False) -> tuple[list[str], list[str]]:
    """What was measured, and what is wrong with it; or let it be what is committed."""
    found = quick(Quick(rounds=ROUNDS, seconds=SECONDS))
    ratios: dict[str, float] = {}
    for counted, by_candidate in zip(("call", "chunk"), found.values(), strict=True):
        ours, nginx = by_candidate["tollgate"], by_candidate["nginx"]
        if ours.is_empty or nginx.is_empty:
            return lines(found), [f"No {counted} succeeded."]
        ratios[counted] = ours.ratio_to(nginx).median
    if commit:
        rounded = {counted: round(ratio, 1) for counted, ratio in ratios.items()}
        COMMITTED.write_text(json.dumps(rounded, indent=1) + "\n")
    return lines(found), excesses(ratios, json.loads(COMMITTED.read_text()))


def excesses(ratios: Mapping[str, float], committed: Mapping[str, float]) -> list[str]:
    """A sentence for each that is too much. Pure."""
    return [
        f"A {counted} costs {ratio:.1f} x nginx, more than twice the committed"
        f" {committed[counted]:.1f} (bench/committed.json)."
        for counted, ratio in ratios.items()
        if ratio > MOST * committed[counted]
    ]
