"""Charts as SVG: bars that compare, lines over time. Pure, and readable on light and dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
_LABEL, _FIGURE = 185, 165  # What is left of the bars and what is right of them.
_BAR, _GAP, _TOP = 22, 12, 64
_ACCENT, _PLAIN = "#2f6fed", "#a9b4c2"
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1d2733 }
  .title { font-size: 16px; font-weight: 600 }
  .soft { fill: #667382; font-size: 12px }
  .grid { stroke: #d9dfe6 }
  .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8edf3 } .soft { fill: #9aa7b5 }
    .grid { stroke: #36404c } .paper { fill: #161b22 }
  }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    name: str
    value: float
    note: str = ""  # Behind the figure.
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    title: str
    subtitle: str
    x: str
    y: str


def bars(title: str, subtitle: str, content: Sequence[Bar]) -> str:
    """Bars from zero. Where the longest would flatten the others, lengths are logarithmic, and
    the subtitle says so.
    """
    values = [bar.value for bar in content if bar.value > 0]
    logarithmic = bool(values) and max(values) > 50 * min(values)
    if logarithmic:
        subtitle += "; logarithmic scale"
    lines = []
    for number, bar in enumerate(content):
        top = _TOP + number * (_BAR + _GAP)
        share = _length(bar.value, values, logarithmic=logarithmic)
        length = max(share * (WIDTH - _LABEL - _FIGURE), 1)
        middle = top + _BAR - 6
        note = f' <tspan class="soft">{escape(bar.note)}</tspan>' if bar.note else ""
        lines.append(_text(_LABEL - 10, middle, escape(bar.name), anchor="end"))
        lines.append(_rectangle(_LABEL, top, length, colour=_ACCENT if bar.ours else _PLAIN))
        lines.append(_text(_LABEL + length + 8, middle, f"{short(bar.value)}{note}"))
    return _svg(title, subtitle, lines, height=_TOP + len(content) * (_BAR + _GAP) + 8)


def line(axes: Axes, points: Sequence[tuple[float, float]]) -> str:
    """One line over a scale that begins at zero, so that flat looks flat."""
    height, left, bottom = 300, 70, 46
    most_x = max(x for x, _ in points) or 1
    ticks = scale(max(y for _, y in points))
    right, floor = WIDTH - 24, height - bottom

    def place(x: float, y: float) -> str:
        return (
            f"{left + (right - left) * x / most_x:.1f},{floor - (floor - _TOP) * y / ticks[-1]:.1f}"
        )

    lines = []
    for tick in ticks:
        y = floor - (floor - _TOP) * tick / ticks[-1]
        lines.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        lines.append(_text(left - 8, y + 4, f"{tick:g}", kind="soft", anchor="end"))
    path = " ".join(place(x, y) for x, y in points)
    lines += [
        f'<polyline points="{path}" fill="none" stroke="{_ACCENT}" stroke-width="2"/>',
        _text(left, floor + 18, "0", kind="soft"),
        _text(right, floor + 18, f"{most_x:.0f}", kind="soft", anchor="end"),
        _text((left + right) / 2, floor + 34, escape(axes.x), kind="soft", anchor="middle"),
    ]
    return _svg(axes.title, f"{axes.y}; {axes.subtitle}", lines, height=height)


def scale(most: float) -> list[float]:
    """Round steps from zero to at least the most."""
    if most <= 0:
        return [0.0, 1.0]
    magnitude = 10.0 ** math.floor(math.log10(most))
    step = next(s * magnitude for s in (0.2, 0.25, 0.5, 1, 2) if s * magnitude * 5 >= most)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def short(value: float) -> str:
    """With about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.2f}"


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _rectangle(x: float, y: float, width: float, *, colour: str) -> str:
    size = f'width="{width:.1f}" height="{_BAR}"'
    return f'<rect x="{x}" y="{y}" {size} rx="3" fill="{colour}"/>'


def _length(value: float, values: Sequence[float], *, logarithmic: bool) -> float:
    """From 0 to 1."""
    if value <= 0:
        return 0.0
    if not logarithmic:
        return value / max(values)
    least = min(values) / 2
    return math.log(value / least) / math.log(max(values) / least)


def _svg(title: str, subtitle: str, content: Sequence[str], *, height: float) -> str:
    body = "\n".join(content)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>\n'
        f'<text class="title" x="20" y="28">{escape(title)}</text>\n'
        f'<text class="soft" x="20" y="48">{escape(subtitle)}</text>\n{body}\n</svg>\n'
    )
