"""Tables of a run, in Markdown. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Sequence[str]
_PERCENTILE_NAMES = {"p50": "p50", "p99": "p99", "p999": "p99.9"}


def table(heads: Row, rows: Sequence[Row]) -> str:
    """The first column is text, the others are figures."""
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def report(document: Mapping[str, Any]) -> str:
    """The whole run."""
    parts = ["# Results", _machine(document)]
    if document.get("skipped"):
        parts += [f"Not measured: {name}. {why}" for name, why in document["skipped"].items()]
    parts.append("## CPU time per call and per chunk")
    for lane in document.get("lanes", ()):
        parts += [f"### {_title(lane)}", lane_table(lane)]
    if document.get("breakdown"):
        parts += ["### What billing costs", _breakdown(document["breakdown"])]
    if document.get("memory_kilobytes"):
        parts += ["## Memory per open stream", memory_table(document)]
    if document.get("latency"):
        parts += ["## Added latency", latency_table(document["latency"])]
    if document.get("scaling"):
        parts += ["## Workers and organizations", scaling_table(document["scaling"])]
    if document.get("flat"):
        parts += ["## Memory over time", _flat(document["flat"])]
    return "\n\n".join(parts) + "\n"


def lane_table(lane: Mapping[str, Any]) -> str:
    each = lane["counted"]
    cpu = ("", f"CPU-µs per {each}", "x nginx", "least to most", "apart: PostgreSQL", "others")
    heads = (*cpu, f"{each}s/s", "p50 ms", "p99 ms", "p99.9 ms", "errors")
    return table(heads, [_lane_row(*item) for item in lane["candidates"].items()])


def _lane_row(name: str, candidate: Mapping[str, Any]) -> Row:
    if candidate.get("failed"):
        return (name, "no call succeeded", *("" for _ in range(8)), count(candidate["errors"]))
    cpu, ratio, apart = candidate["cpu_us"], candidate["nginx_ratio"], candidate["apart_us"]
    others = sum(value for part, value in apart.items() if part != "postgres")
    return (
        name,
        number(cpu["median"]) if cpu["median"] else "",
        number(ratio["median"], 2) if ratio and cpu["median"] else "",
        f"{number(cpu['least'])} to {number(cpu['most'])}" if cpu["median"] else "",
        number(apart["postgres"]) if "postgres" in apart else "",
        number(others) if apart else "",
        count(candidate["per_second"]["median"]),
        *(number(candidate["latency_us"][p] / 1000, 2) for p in _PERCENTILE_NAMES),
        count(candidate["errors"]),
    )


def memory_table(document: Mapping[str, Any]) -> str:
    rows = [(name, number(size)) for name, size in document["memory_kilobytes"].items()]
    return table(("", "KB per stream"), rows)


def latency_table(runs: Sequence[Mapping[str, Any]]) -> str:
    names = tuple(_PERCENTILE_NAMES.values())
    added = (*(f"direct {n} ms" for n in names), *(f"added {n} ms" for n in names))
    heads = ("", "calls/s", *added, "pairs' p50 ms", "pairs' p99 ms", "failed")
    return table(heads, [_latency_row(run) for run in runs])


def _latency_row(run: Mapping[str, Any]) -> Row:
    direct, through, pairs = run["direct"], run["through"], run["difference"]
    beside = f", beside {run['beside']} ({run['pages']} times)" if run["beside"] else ""
    return (
        f"{run['candidate']}{beside}",
        count(run["rate"]),
        *(number(direct[p] / 1000, 2) for p in _PERCENTILE_NAMES),
        *(number((through[p] - direct[p]) / 1000, 2) for p in _PERCENTILE_NAMES),
        number(pairs["p50"] / 1000, 2),
        number(pairs["p99"] / 1000, 2),
        count(run["failed"]),
    )


def scaling_table(runs: Sequence[Mapping[str, Any]]) -> str:
    rates = ("workers", "organizations", "calls/s", "records/s shipped", "newest record, s old")
    heads = (*rates, "CPU-µs per call", "apart: PostgreSQL", "p50 ms", "p99 ms", "failed")
    rows = [
        (
            str(run["workers"]),
            count(run["organizations"]),
            count(run["calls_per_second"]),
            count(run["records_per_second"]),
            number(run["lag_seconds"], 2),
            number(run["cpu_us"]["relay"]),
            number(run["cpu_us"]["postgres"]),
            number(run["latency_us"]["p50"] / 1000, 2),
            number(run["latency_us"]["p99"] / 1000, 2),
            count(run["failed"]),
        )
        for run in runs
    ]
    return table(heads, rows)


def number(value: float, digits: int = 1) -> str:
    """As many digits behind the point, and none that mean nothing."""
    return count(value) if abs(value) >= 1000 else f"{value:.{digits}f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def _title(lane: Mapping[str, Any]) -> str:
    return f"{lane['name'][0].upper()}{lane['name'][1:]}"


def _machine(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    software = f"{machine['system']}, Linux {machine['kernel']}, Python {machine['python']}"
    lines = [
        f"{document['date']}, commit {document['commit']}.",
        f"{hardware}; {software}.",
        f"Versions: {', '.join(_versions(document['versions']))}.",
    ]
    return "\n".join(lines)


def _versions(versions: Mapping[str, str]) -> Iterator[str]:
    return (f"{name} {version}" for name, version in versions.items() if version)


def _breakdown(breakdown: Mapping[str, Any]) -> str:
    rows = [
        (lane, number(each["off"]), number(each["on"]), f"+{(each['on'] / each['off'] - 1):.0%}")
        for lane, each in breakdown.items()
    ]
    return table(("", "billing off, CPU-µs", "everything on", "more"), rows)


def _flat(flat: Mapping[str, Any]) -> str:
    first, last = (number(flat["kilobytes"][place][1] / 1024) for place in (0, -1))
    rate, seconds, unanswered = (count(flat[key]) for key in ("rate", "seconds", "unanswered"))
    return (
        f"{rate} calls/s for {seconds} s: {first} MB at the begin, {last} MB at the end. The most"
        f" of the last third is {flat['growth']:+.1%} beside the most of the first. p99"
        f" {number(flat['latency_us']['p99'] / 1000, 2)} ms, {unanswered} unanswered."
    )
