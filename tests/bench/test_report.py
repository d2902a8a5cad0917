"""From what load programs say to what people read."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bench import results
from bench.guard import excesses
from bench.lanes.latency import Added
from bench.lanes.memory import Flat
from bench.lanes.scaling import Scaled, uuid7_seconds
from bench.load import Measured
from bench.render import render
from bench.rounds import Lane, Series, chat_lane, stream_lane
from bench.tables import lane_table, number, table

CHAT = chat_lane(seconds=2)
_MACHINE = ("processor", "cores", "memory_gb", "system", "kernel", "python")
PERCENTILES = {"count": 10, "p50": 1000.0, "p90": 1500.0, "p99": 2000.0, "p999": 3000.0, "max": 4.0}


def measured(*, cpu: float, calls: int, **more: float) -> Measured:
    """What a load program reports of so many calls."""
    target = {"completed": calls, "unexpected": 0, "errors": 0, "latency_us": PERCENTILES}
    return Measured(grown={"relay": cpu, **more}, result={"targets": [target]})


def series(lane: Lane, *rounds: Measured) -> Series:
    found = Series()
    for one in rounds:
        found.add(lane, one)
    return found


@pytest.fixture
def lane() -> dict[str, Any]:
    found = {
        "direct": series(CHAT, measured(cpu=0, calls=100_000)),
        "nginx": series(CHAT, measured(cpu=1, calls=100_000)),
        "tollgate": series(CHAT, measured(cpu=2, calls=20_000, postgres=0.5, jobs=0.1)),
        "broken": Series(errors=7),
    }
    return results.lane_document(CHAT, found, rounds=1)


def test_cpu_time_is_divided_by_calls() -> None:
    found = series(CHAT, measured(cpu=1.5, calls=10_000, postgres=0.2))
    assert found.relay_us == [150.0]
    assert found.other_us == {"postgres": [20.0]}
    assert found.per_second == [5_000.0]


def test_cpu_time_is_divided_by_chunks_of_streams() -> None:
    result = {"streams": 2, "chunks": 100, "errors": 1, "lag_us": PERCENTILES}
    streams = stream_lane(streams=2, seconds=2)
    found = series(streams, Measured(grown={"relay": 0.005}, result=result))
    assert found.relay_us == pytest.approx([50.0])
    assert found.errors == 1


def test_who_answers_nothing_has_no_figures() -> None:
    target = {"completed": 9, "unexpected": 9, "errors": 0, "latency_us": {"count": 0}}
    found = series(CHAT, Measured(grown={"relay": 1.0}, result={"targets": [target]}))
    assert found.is_empty
    assert found.errors == 9


def test_ratios_stand_beside_nginx(lane: dict[str, Any]) -> None:
    candidates = lane["candidates"]
    assert candidates["nginx"]["nginx_ratio"]["median"] == 1.0
    assert candidates["tollgate"]["cpu_us"]["median"] == 100.0
    assert candidates["tollgate"]["nginx_ratio"]["median"] == 10.0
    assert candidates["tollgate"]["apart_us"] == {"postgres": 25.0, "jobs": 5.0}
    assert candidates["broken"] == {"failed": True, "errors": 7}


def test_a_lane_is_a_table(lane: dict[str, Any]) -> None:
    rows = [row.strip("| ").split(" | ") for row in lane_table(lane).splitlines()]
    assert {len(row) for row in rows[1:2]} == {11}
    tollgate = next(row for row in rows if row[0] == "tollgate")
    assert tollgate[1:7] == ["100.0", "10.00", "100.0 to 100.0", "25.0", "5.0", "10,000"]
    assert tollgate[7:] == ["1.00", "2.00", "3.00", "0"]
    assert any(row[:2] == ["broken", "no call succeeded"] for row in rows)


def test_a_table_in_markdown() -> None:
    assert table(("a", "b"), [("c", "1")]) == "| a | b |\n| --- | ---: |\n| c | 1 |"


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (99.44, "99.4"), (-0.26, "-0.3")])
def test_numbers_are_cut(value: float, text: str) -> None:
    assert number(value) == text


def test_added_latency_is_what_is_more_than_direct() -> None:
    fine = {"errors": 0, "unexpected": 0, "unanswered": 0, "latency_us": PERCENTILES}
    slow = {**fine, "unexpected": 2, "latency_us": {**PERCENTILES, "p50": 1400.0}}
    result = {"targets": [fine, slow], "difference_us": PERCENTILES}
    added = Added.of(result, candidate="x", beside="", rate=10.0)
    assert added.added("p50") == 400.0
    assert added.failed == 2


def test_growth_compares_the_last_third_with_the_first() -> None:
    sizes = [(0.0, 90), (1.0, 100), (2.0, 500), (3.0, 120), (4.0, 110), (5.0, 105)]
    assert Flat(rate=1, seconds=6, kilobytes=sizes).growth == pytest.approx(0.10)


def test_a_version_7_uuid_tells_its_time() -> None:
    assert uuid7_seconds(UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")) == 1645557742.0


def test_the_guard_allows_twice_the_committed_ratio() -> None:
    assert excesses({"call": 20.0, "chunk": 4.9}, {"call": 10.0, "chunk": 2.5}) == []
    (problem,) = excesses({"call": 20.1, "chunk": 4.9}, {"call": 10.0, "chunk": 2.5})
    assert problem.startswith("A call costs 20.1 x nginx")


def test_a_run_becomes_a_page_with_charts(tmp_path: Path, lane: dict[str, Any]) -> None:
    added = Added.of(
        {
            "targets": [
                {"errors": 0, "unexpected": 0, "unanswered": 0, "latency_us": PERCENTILES},
                {"errors": 0, "unexpected": 0, "unanswered": 0, "latency_us": PERCENTILES},
            ],
            "difference_us": PERCENTILES,
        },
        candidate="tollgate",
        beside="a page",
        rate=500.0,
    )
    scaled = Scaled(
        workers=2,
        organizations=1000,
        calls_per_second=9_000.0,
        records_per_second=9_001.0,
        lag_seconds=0.05,
        cpu_us={"relay": 90.0, "postgres": 11.0},
        latency_us=PERCENTILES,
        failed=0,
    )
    flat = Flat(rate=10, seconds=4, kilobytes=[(0.0, 1024), (2.0, 1024)], latency_us=PERCENTILES)
    document = {
        "date": "2030-01-02",
        "commit": "abc",
        "machine": dict.fromkeys(_MACHINE, "x"),
        "versions": {"nginx": "1.2", "direct": ""},
        "skipped": {"portkey": "There is no npm."},
        "lanes": [lane],
        "breakdown": {"chat": {"off": 80.0, "on": 100.0}},
        "memory_kilobytes": {"nginx": 17.0, "tollgate": 20.0},
        "latency": [results.document_of(added)],
        "scaling": [results.document_of(scaled)],
        "flat": results.document_of(flat) | {"growth": flat.growth},
    }
    results.write(document, tmp_path)
    render(tmp_path)
    page = (tmp_path / "README.md").read_text()
    for text in ("Not measured: portkey", "+25%", "nginx 1.2.", "| 2 | 1,000 | 9,000 | 9,001 |"):
        assert text in page
    charts = {path.stem for path in tmp_path.glob("*.svg")}
    assert charts == {"lane-1", "memory-per-stream", "added-latency", "memory-over-time"}
    assert all(f"]({name}.svg)" in page for name in charts)
