"""Charts are SVG that says what it shows."""

from xml.etree import ElementTree as ET

import pytest

from bench import charts
from bench.charts import Axes, Bar

_SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{_SVG}text")]


def widths(svg: str) -> list[float]:
    """Of the bars; the first rectangle is the paper."""
    found = ET.fromstring(svg).iter(f"{_SVG}rect")
    return [float(bar.attrib["width"]) for bar in found][1:]


def test_bars_are_as_long_as_their_values() -> None:
    drawn = charts.bars("CPU", "less", [Bar(name="a", value=10), Bar(name="b", value=40)])
    short, long = widths(drawn)
    assert long == pytest.approx(4 * short, rel=0.01)
    assert texts(drawn)[2:] == ["a", "10.0", "b", "40.0"]


def test_what_would_flatten_the_others_is_drawn_logarithmically() -> None:
    content = [Bar(name="a", value=10), Bar(name="b", value=100), Bar(name="c", value=10_000)]
    drawn = charts.bars("CPU", "less", content)
    first, second, third = widths(drawn)
    assert third - second == pytest.approx(2 * (second - first), rel=0.01)
    assert "logarithmic" in texts(drawn)[1]


def test_names_are_escaped() -> None:
    assert "a<b & c" in texts(charts.bars("CPU", "less", [Bar(name="a<b & c", value=1)]))


def test_a_line_begins_at_zero() -> None:
    axes = Axes(title="Memory", subtitle="", x="seconds", y="MB")
    drawn = charts.line(axes, [(0, 90), (10, 95), (20, 91)])
    labels = texts(drawn)
    assert labels[2] == "0"
    assert "100" in labels
    (path,) = ET.fromstring(drawn).iter(f"{_SVG}polyline")
    heights = [float(point.split(",")[1]) for point in path.attrib["points"].split()]
    assert heights[1] < heights[2] < heights[0]  # The most is on top.


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (0.0, [0, 1]),
        (9, [0, 2, 4, 6, 8, 10]),
        (100, [0, 20, 40, 60, 80, 100]),
        (130, [0, 50, 100, 150]),
    ],
)
def test_scales_are_round(most: float, ticks: list[float]) -> None:
    assert charts.scale(most) == pytest.approx(ticks)
    assert charts.scale(most)[-1] >= most


@pytest.mark.parametrize(
    ("value", "text"), [(12_345.6, "12,346"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.12")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert charts.short(value) == text
