"""A look at the hot path in half a minute: Tollgate beside nginx, in turns."""

from collections.abc import Mapping
from functools import partial

from bench.candidates.nginx import Nginx
from bench.candidates.tollgate import OtherTollgate, Tollgate
from bench.figures import Figure
from bench.machine import Cores, interpreter
from bench.plans import Quick
from bench.rounds import Lane, Make, Series, Setting, chat_lane, stage, stream_lane


def quick(plan: Quick) -> dict[str, dict[str, Series]]:
    """By lane and candidate."""
    makes: list[Make] = [Nginx, partial(Tollgate, of=plan.of)]
    if plan.against:
        makes.append(partial(OtherTollgate, of=plan.against))
    lanes: list[Lane] = []
    if plan.only != "streams":
        lanes.append(chat_lane(seconds=plan.seconds))
    if plan.only != "calls":
        lanes.append(stream_lane(streams=plan.streams, seconds=plan.seconds))
    with stage(makes, Setting(cores=Cores.of_this_machine())) as running:
        return {lane.name: running.run(lane, rounds=plan.rounds) for lane in lanes}


def lines(found: Mapping[str, Mapping[str, Series]]) -> list[str]:
    """What a terminal shows."""
    told = [f"Python {interpreter()}"]
    for lane, by_candidate in found.items():
        base = by_candidate["nginx"]
        told += ["", f"CPU-µs each, {lane}"]
        for name, series in by_candidate.items():
            others = ", ".join(
                f"{part} {Figure.of(values).median:.1f}" for part, values in series.other_us.items()
            )
            told.append(
                f"  {name:<10}{_figure(series.relay()):<28}"
                f"{_times(series.ratio_to(base)):<28}{Figure.of(series.per_second).median:>9,.0f}/s"
                + (f"   {series.errors} ERRORS" if series.errors else "")
                + (f"   apart: {others}" if others else "")
            )
        if "before" in by_candidate:
            change = by_candidate["tollgate"].ratio_to(by_candidate["before"])
            told.append(
                f"  now / before: {change.median:.3f} ({change.least:.3f}-{change.most:.3f})"
            )
    return told


def _figure(figure: Figure) -> str:
    return f"{figure.median:7.1f} ({figure.least:.1f}-{figure.most:.1f})"


def _times(figure: Figure) -> str:
    return f"{figure.median:5.2f} x nginx ({figure.least:.2f}-{figure.most:.2f})"
