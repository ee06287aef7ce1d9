"""Plots as inline SVG: drawn here, so that a report needs no script, no font and no network.

Colours are CSS variables of page.py, so every plot follows light, dark and print. Each is an image with a spoken label;
the numbers stand in a table beside it or in `<title>` tips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 480  # drawn about as wide as it is shown, so that all plots of a page have letters of one size
COLOURS = 8  # --c0 … --c7


@dataclass(frozen=True)
class Bar:
    """One bar: its value and, where known, the interval around it. `tone` is a colour's place."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    tone: int = 0


def number(value: float | None) -> str:
    """A number as a report prints it: four digits after the point below ten, fewer beyond.

    >>> number(0.12345), number(123.4), number(None), number(float("nan"))
    ('0.1235', '123.4', '–', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover low … high.

    >>> ticks(0, 0.43)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * about >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def bars(label: str, rows: Sequence[Bar], *, left: int = 200) -> str:
    """Horizontal bars from zero, with whiskers. The longest label is shortened to fit `left` pixels."""
    rows = [row for row in rows if math.isfinite(row.value)]
    if not rows:
        return ""
    lows = [0.0, *(row.value if row.low is None else row.low for row in rows)]
    highs = [1e-9, *(row.value if row.high is None else row.high for row in rows)]
    axis = ticks(min(lows), max(highs))
    step, right = 30, 76
    height = step * len(rows) + 30

    def x(value: float) -> float:
        return left + (value - axis[0]) / (axis[-1] - axis[0]) * (WIDTH - left - right)

    out = [_grid_x(axis, x, height - 24)]
    for place, row in enumerate(rows):
        y = step * place + 6
        begin, end = sorted((x(0), x(row.value)))
        tip = f"{row.label}: {number(row.value)}"
        if row.low is not None and row.high is not None:
            tip += f" (95 % {number(row.low)} to {number(row.high)})"
        out.append(f"<g><title>{escape(tip)}</title>")
        out.append(f'<text class="t" x="{left - 10}" y="{y + 14}" text-anchor="end">{_short(row.label, left)}</text>')
        out.append(
            f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 1):.1f}" height="19" rx="3" '
            f'fill="var(--c{row.tone % COLOURS})"/>'
        )
        edge = end
        if row.low is not None and row.high is not None:
            edge = max(end, x(row.high))
            out.append(_whisker(x(row.low), x(row.high), y + 9.5))
        out.append(f'<text class="v" x="{edge + 7:.1f}" y="{y + 14}">{number(row.value)}</text></g>')
    return _svg(label, height, out)


def lines(
    label: str, places: Sequence[str], series: Mapping[str, Sequence[tuple[float, float | None, float | None]]]
) -> str:
    """One line a series over the same places, each point (value, low, high) with its interval as a band."""
    points = [p for line in series.values() for p in line if math.isfinite(p[0])]
    if not points:
        return ""
    axis = ticks(0, max(p[0] if p[2] is None else p[2] for p in points) or 1e-9)
    left, right, top, bottom, height = 52, 20, 14, 30, 300

    def x(place: int) -> float:
        return left + 20 + place / max(len(places) - 1, 1) * (WIDTH - left - right - 40)

    def y(value: float) -> float:
        return height - bottom - value / axis[-1] * (height - top - bottom)

    out = [
        f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="a" x="{left - 8}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in axis
    ]
    out += [
        f'<text class="a" x="{x(p):.1f}" y="{height - 8}" text-anchor="middle">{escape(place)}</text>'
        for p, place in enumerate(places)
    ]
    for tone, (name, line) in enumerate(series.items()):
        colour = f"var(--c{tone % COLOURS})"
        if tone == 0 and all(low is not None and high is not None for _, low, high in line):
            upper = [f"{x(p):.1f},{y(high):.1f}" for p, (_, _, high) in enumerate(line) if high is not None]
            lower = [f"{x(p):.1f},{y(low):.1f}" for p, (_, low, _) in enumerate(line) if low is not None]
            out.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" opacity=".16"/>')
        path = " ".join(f"{x(p):.1f},{y(value):.1f}" for p, (value, _, _) in enumerate(line))
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{2.6 if not tone else 1.6}"/>'
        )
        out += [
            f'<circle cx="{x(p):.1f}" cy="{y(value):.1f}" r="{4 if not tone else 3}" fill="{colour}">'
            f"<title>{escape(name)} at {escape(places[p])}: {number(value)}</title></circle>"
            for p, (value, _, _) in enumerate(line)
        ]
    return _svg(label, height, out) + legend(list(series))


def columns(label: str, places: Sequence[str], series: Mapping[str, Sequence[float]], *, axis_title: str = "") -> str:
    """Grouped columns of shares, in percent; `axis_title` says what the places are."""
    top_value = max((value for line in series.values() for value in line), default=0) or 1e-9
    axis = ticks(0, top_value)
    left, right, top, bottom, height = 52, 12, 14, 44, 280
    wide = (WIDTH - left - right) / max(len(places), 1)
    one = wide * 0.76 / max(len(series), 1)

    def y(value: float) -> float:
        return height - bottom - value / axis[-1] * (height - top - bottom)

    out = [
        f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="a" x="{left - 8}" y="{y(t) + 4:.1f}" text-anchor="end">{100 * t:g} %</text>'
        for t in axis
    ]
    for p, place in enumerate(places):
        middle = left + wide * (p + 0.5)
        out.append(f'<text class="a" x="{middle:.1f}" y="{height - 24}" text-anchor="middle">{escape(place)}</text>')
        for tone, (name, line) in enumerate(series.items()):
            begin = left + wide * p + wide * 0.12 + one * tone
            out.append(
                f'<rect x="{begin:.1f}" y="{y(line[p]):.1f}" width="{one - 1:.1f}" '
                f'height="{max(height - bottom - y(line[p]), 0):.1f}" rx="2" fill="var(--c{tone % COLOURS})">'
                f"<title>{escape(name)}, {escape(place)}: {100 * line[p]:.1f} %</title></rect>"
            )
    if axis_title:
        middle = (left + WIDTH - right) / 2
        out.append(
            f'<text class="a" x="{middle:.1f}" y="{height - 5}" text-anchor="middle">{escape(axis_title)}</text>'
        )
    return _svg(label, height, out) + legend(list(series))


def legend(names: Sequence[str]) -> str:
    """The names of series beside their colours."""
    entries = "".join(
        f'<li><span class="dot" style="background:var(--c{tone % COLOURS})"></span>{escape(name)}</li>'
        for tone, name in enumerate(names)
    )
    return f'<ul class="legend">{entries}</ul>'


def _svg(label: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label, quote=True)}" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _grid_x(axis: Sequence[float], x, height: float) -> str:  # type: ignore[no-untyped-def]
    return "".join(
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="0" y2="{height}"/>'
        f'<text class="a" x="{x(t):.1f}" y="{height + 18}" text-anchor="middle">{t:g}</text>'
        for t in axis
    )


def _whisker(low: float, high: float, y: float) -> str:
    return (
        f'<path class="w" d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}V{y + 4}M{high:.1f} {y - 4}V{y + 4}"/>'
    )  # fmt: skip


def _short(label: str, left: int) -> str:
    most = left // 7
    return escape(label if len(label) <= most else label[: most - 1] + "…")
