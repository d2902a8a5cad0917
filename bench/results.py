"""A run as one JSON document, from which tables and charts are made, be it later."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.rounds import Lane, Series

PERCENTILES = ("p50", "p99", "p999")
Document = dict[str, Any]


def lane_document(lane: Lane, found: Mapping[str, Series], *, rounds: int) -> Document:
    base = found.get("nginx")
    candidates: Document = {}
    for name, series in found.items():
        if series.is_empty:
            candidates[name] = {"failed": True, "errors": series.errors}
            continue
        candidates[name] = {
            "cpu_us": _figure(series.relay()),
            "nginx_ratio": None if base is None else _figure(series.ratio_to(base)),
            "apart_us": {
                part: round(Figure.of(values).median, 2) for part, values in series.other_us.items()
            },
            "per_second": _figure(Figure.of(series.per_second)),
            "latency_us": {
                p: round(Figure.of([each[p] for each in series.latency_us]).median, 1)
                for p in PERCENTILES
            },
            "errors": series.errors,
        }
    return {
        "name": lane.name,
        "counted": lane.counted,
        "rounds": rounds,
        "candidates": candidates,
    }


def document_of(value: Any) -> Document:
    """A dataclass of a lane, its floats cut to what means something."""
    cut: Document = _rounded(asdict(value))
    return cut


def write(document: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(f"{text}\n")


def read(folder: Path) -> Document:
    document: Document = json.loads((folder / "results.json").read_text())
    return document


def today() -> str:
    return dt.datetime.now(tz=dt.UTC).date().isoformat()


def _figure(figure: Figure) -> Document:
    cut: Document = _rounded(asdict(figure))
    return cut


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(each) for each in value]
    return value
