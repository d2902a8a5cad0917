"""Writes what people read of a run: README.md with the tables, and charts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import charts
from bench.charts import Axes, Bar
from bench.results import read
from bench.tables import number, report

OURS = "tollgate"


def render(folder: Path) -> None:
    document = read(folder)
    drawn = dict(_charts(document))
    for name, chart in drawn.items():
        (folder / f"{name}.svg").write_text(chart)
    pictures = "\n".join(f"![{name}]({name}.svg)" for name in drawn)
    (folder / "README.md").write_text(f"{report(document)}\n{pictures}\n")


def _charts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for position, lane in enumerate(document.get("lanes", ()), start=1):
        yield f"lane-{position}", _lane(lane)
    if document.get("memory_kilobytes"):
        sizes = document["memory_kilobytes"]
        content = [Bar(name=n, value=v, ours=n == OURS) for n, v in sizes.items()]
        yield (
            "memory-per-stream",
            charts.bars("Memory per open stream", "KB, less is better", content),
        )
    if document.get("latency"):
        yield "added-latency", _latency(document["latency"])
    if document.get("flat"):
        yield "memory-over-time", _flat(document["flat"])


def _lane(lane: Mapping[str, Any]) -> str:
    content = []
    for name, candidate in lane["candidates"].items():
        if candidate.get("failed") or not candidate["cpu_us"]["median"]:
            continue
        ratio = candidate["nginx_ratio"]
        note = f"{number(ratio['median'], 2)} x nginx" if ratio else ""
        bar = Bar(name=name, value=candidate["cpu_us"]["median"], note=note, ours=name == OURS)
        content.append(bar)
    title = f"CPU per {lane['counted']}: {lane['name']}"
    return charts.bars(title, "microseconds, less is better", content)


def _latency(runs: list[Mapping[str, Any]]) -> str:
    content = [
        Bar(
            name=f"{run['candidate']}{' + console' if run['beside'] else ''}, {label}",
            value=(run["through"][p] - run["direct"][p]) / 1000,
            note=f"at {run['rate']:,.0f} calls/s",
            ours=run["candidate"] == OURS,
        )
        for run in runs
        for p, label in (("p50", "p50"), ("p99", "p99"))
    ]
    return charts.bars("Latency added to a call at half load", "ms, less is better", content)


def _flat(flat: Mapping[str, Any]) -> str:
    points = [(at, size / 1024) for at, size in flat["kilobytes"]]
    axes = Axes(
        title="Memory of a worker under load",
        subtitle=f"{flat['rate']:,.0f} calls a second",
        x="seconds",
        y="MB (PSS)",
    )
    return charts.line(axes, points)
